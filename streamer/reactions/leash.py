"""Ends started programs when the engine ends, even by kill -9: a second process waits for that."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

REAPER = Path(__file__).with_name("reaper.py")


class Leash:
    """The process groups that must not outlive this process; `close` ends those that are left.

    The second process is started with the first group. It notices the end of this process, kill -9 included,
    because a pipe that only this process holds is closed.
    """

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._reaper: subprocess.Popen[bytes] | None = None

    def hold(self, group: int) -> None:
        """Watch a process group.

        Raises:
            OSError: no process can be started; the group runs on without a leash.

        """
        self._groups.add(group)
        if not self._tell(f"+{group}\n"):
            self._start()

    def let_go(self, group: int) -> None:
        """Stop watching a group that has ended; its number may be reused."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Kill the groups that are left, and end the second process."""
        for group in self._groups:
            end(group)
        self._groups.clear()
        self._drop()

    def _start(self) -> None:
        self._drop()
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(REAPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # Ctrl-C and a closed terminal must not reach it
        )
        for group in self._groups:
            self._tell(f"+{group}\n")

    def _tell(self, line: str) -> bool:
        """Write to the second process; return whether it is running."""
        if self._reaper is None or self._reaper.stdin is None:
            return False
        try:
            self._reaper.stdin.write(line.encode())
        except OSError:  # it was killed
            return False
        return True

    def _drop(self) -> None:
        if self._reaper is None:
            return
        self._reaper.kill()
        with contextlib.suppress(OSError):
            if self._reaper.stdin is not None:
                self._reaper.stdin.close()
        self._reaper.wait()
        self._reaper = None


def end(group: int) -> None:
    """Kill a process group, if it exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_marked(mark: str) -> int:
    """Kill this user's processes with such an environment entry; return how many (Linux only).

    This ends programs that have left their group, and those of an engine whose leash was killed with it.
    """
    wanted, found = mark.encode(), 0
    for place in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, ValueError):
            process = int(place.parent.name)
            entries = place.read_bytes().split(b"\0")
            if process != os.getpid() and any(entry.startswith(wanted) for entry in entries):
                os.kill(process, signal.SIGKILL)
                found += 1
    return found
