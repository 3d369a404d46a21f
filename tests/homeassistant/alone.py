"""A network of its own, with loopback and nothing else: whatever a process tries, it reaches nobody."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import sys
from collections.abc import Sequence

from streamer.errors import RunError

INSIDE = "SLEEPSTREAM_ALONE"  # set in the process that is
SIOCSIFFLAGS, UP_AND_RUNNING = 0x8914, 0x1 | 0x40


def shut_in(arguments: Sequence[str]) -> None:
    """Go on as the same command in a network of its own; returns in that process.

    Args:
        arguments: what Python is to run then: `-m tests.homeassistant ...`.

    Raises:
        RunError: this machine allows no such network.

    """
    if os.environ.get(INSIDE) == "1":
        _loopback_up()
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        raise RunError("unshare is not installed (util-linux): nothing else keeps a core to this machine")
    os.environ[INSIDE] = "1"
    os.execv(unshare, [unshare, "--user", "--map-root-user", "--net", sys.executable, *arguments])


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", UP_AND_RUNNING))
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    if names:
        raise RunError(f"this network is not its own: it has {', '.join(names)}")
