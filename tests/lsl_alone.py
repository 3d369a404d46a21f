"""LSL for tests: on this machine's loopback only, and out of sight of every other process that tests."""

from __future__ import annotations

import os
from pathlib import Path

from tests.mosquitto import free_port

PORTS = 32  # of outlets and inlets of one process and its children, two each
CONFIG = """[ports]
IPv6 = disable
MulticastPort = {multicast}
BasePort = {base}
PortRange = {ports}
[multicast]
ResolveScope = machine
ListenAddress = 127.0.0.1
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = sleepstream-tests-{base}
[log]
level = -3
"""


def write(folder: Path) -> Path:
    """A configuration of liblsl, for LSLAPICFG to name, with ports and a session of its own."""
    path = folder / "lsl_api.cfg"
    path.write_text(CONFIG.format(multicast=free_port(), base=free_port(), ports=PORTS), encoding="utf-8")
    return path


def keep_apart(folder: Path) -> None:
    """Let this process, and those that it starts, meet no others; liblsl reads it at its first call."""
    os.environ["LSLAPICFG"] = str(write(folder))
