"""Where the engine of chaos writes: a log that somebody reads, a terminal, a file on a small disk."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import termios
import threading
from pathlib import Path
from typing import Literal

Kind = Literal["log", "terminal", "file"]
LOOK_S = 0.05
DISK = "64k"  # of the file


class Output:
    """Made anew with each start of the engine, of the kind that is wanted; a file keeps what is read of it.

    Args:
        folder: for that file, and the small disk.

    """

    def __init__(self, folder: Path) -> None:
        self.wanted: Kind = "log"
        self._file = folder / "engine.log"
        self._disk = folder / "log-disk"
        self.mounted = False  # the small disk
        self._theirs = -1  # of a terminal: our own end of the engine's side, to stop it by
        self._enough = threading.Event()  # nobody is to read any more
        self._reader: threading.Thread | None = None

    def mount(self) -> None:
        """Make the small disk, where that is permitted."""
        self._disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "chaos-log", str(self._disk)]
        made = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        self.mounted = made

    def open(self) -> int:
        """A descriptor for the engine to write to; whoever takes it closes it."""
        self.end()
        if self.wanted == "file":
            return os.open(self._disk / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if self.wanted == "terminal":
            ours, theirs = pty.openpty()
            self._theirs = os.dup(theirs)
        else:
            ours, theirs = os.pipe()
        self._enough.clear()
        self._reader = threading.Thread(target=self._read, args=(ours,), name="reads", daemon=True)
        self._reader.start()
        return theirs

    def stop(self) -> None:
        """Ctrl-S."""
        if self._theirs >= 0:  # else another fault has taken the terminal away at the same moment
            termios.tcflow(self._theirs, termios.TCOOFF)

    def go_on(self) -> None:
        """Ctrl-Q."""
        if self._theirs >= 0:
            termios.tcflow(self._theirs, termios.TCOON)

    def end(self) -> None:
        """Nobody reads any more: the pipe breaks, the terminal is closed."""
        if self._reader is not None:
            self._enough.set()
            self._reader.join()
            self._reader = None
        if self._theirs >= 0:
            os.close(self._theirs)
            self._theirs = -1

    def fill(self) -> None:
        """Take all room from the file."""
        with contextlib.suppress(OSError), (self._disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 10)):
                pass

    def make_room(self) -> None:
        """Give it back."""
        (self._disk / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Give the small disk back."""
        self.end()
        if self.mounted:
            subprocess.run(["umount", str(self._disk)], check=True)

    def _read(self, descriptor: int) -> None:
        with contextlib.suppress(OSError), self._file.open("ab") as log:
            while not self._enough.is_set():
                if select.select([descriptor], [], [], LOOK_S)[0]:
                    data = os.read(descriptor, 1 << 16)
                    log.write(data)
                    log.flush()
                    if not data:
                        break
        os.close(descriptor)
