"""Makes the systemd unit that runs an engine every night, for one user or for the whole machine."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

Kind = Literal["user", "system"]
GROUPS: Final = {"audio": "the alarm's sound", "dialout": "a dongle on a serial port"}
USER_FOLDER = Path("~/.config/systemd/user")
NAME = "sleepstream.service"
COMMON = """\
Type=notify
NotifyAccess=main
Environment="PATH={path}"
EnvironmentFile=-{environment}
ExecStart={start}
Restart=always
RestartSec=2
RestartPreventExitStatus=2
TimeoutStartSec=180
TimeoutStopSec=20
WatchdogSec=60
UMask=0077
"""


def make_unit(kind: Kind, config: Path, groups: Iterable[str]) -> str:
    """Write the text of a unit that runs this installation of sleepstream.

    Args:
        kind: "user", or "system": then it runs for the machine, as the present user.
        config: the settings file.
        groups: existing groups that the engine needs; a missing group would keep a system unit from starting.

    """
    # % has a meaning for systemd, and a word with a space must be quoted.
    start = " ".join(_word(one) for one in (_program(), "run", str(config), "--log", "json"))
    common = COMMON.format(
        path=_escaped(_path()), environment=_escaped(str(config.with_name("environment"))), start=start
    )
    if kind == "user":
        head, owner, target = "", "", "default.target"
    else:
        head = (
            "Wants=network-online.target time-sync.target\n"
            "After=network-online.target mosquitto.service time-sync.target\n"
        )
        owner = f"User={getpass.getuser()}\n"
        held = " ".join(group for group in groups if group in GROUPS)
        owner += f"SupplementaryGroups={held}\n" if held else ""
        target = "multi-user.target"
    return (
        f"[Unit]\nDescription=sleepstream, real-time sleep staging\n{head}StartLimitIntervalSec=0\n\n"
        f"[Service]\n{owner}{common}\n[Install]\nWantedBy={target}\n"
    )


def list_next_steps(kind: Kind, file: Path, missing: Iterable[str]) -> list[str]:
    """List the commands that start the unit, and those that give its user access to devices.

    Args:
        kind: of the unit.
        file: path of the unit.
        missing: groups that the user is not a member of.

    """
    lacks = ",".join(missing)
    join = [f"sudo usermod -aG {lacks} {getpass.getuser()}     # then log in again"] if lacks else []
    if kind == "user":
        return [*join, "systemctl --user enable --now sleepstream", "loginctl enable-linger"]
    return [
        f"sudo install -m 644 {_word(str(file))} /etc/systemd/system/{NAME}",
        "sudo systemctl enable --now sleepstream",
    ]


def find_groups() -> tuple[list[str], list[str]]:
    """Which of `GROUPS` this machine has, and which of these this user is not a member of."""
    try:
        import grp
    except ImportError:  # Windows
        return [], []
    there, mine = {one.gr_name: one.gr_gid for one in grp.getgrall()}, set(os.getgroups())
    held = [name for name in GROUPS if name in there]
    return held, [name for name in held if there[name] not in mine and os.getuid() != 0]


def _program() -> str:
    """The path of this installation's program."""
    beside = Path(sys.executable).with_name("sleepstream")
    return str(beside) if beside.is_file() else shutil.which("sleepstream") or str(beside)


def _path() -> str:
    """The service's PATH: the programs of this environment, and the system's."""
    return ":".join((str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str) -> str:
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if any(char in escaped for char in " \t\"'\\;") else escaped
