"""The thread that writes the session files of a folder, each when it is due; many wait for the disk together.

A thread for each file would wake with each, and each would have the disk wait by itself: a thousand sleepers
are eight hundred such waits a second, which few disks can do. Files that are due at about the same time are
written one after the other, and one system call then has the disk take all of them. What is promised stays:
nothing counts as recorded before that call has come back.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Protocol

from streamer.clock import SystemClock

EARLY_S = 0.2  # a file that is due so soon goes along with one that is due now
TOGETHER = 8  # files from which one wait for all is worth it: it waits for what other programs write, too
AGAIN_S = 0.5  # after a fault
CLOCK = SystemClock()  # of the waiting itself; each file has its own for what is due
log = logging.getLogger(__name__)

SyncAll = Callable[[int], int]


class Written(Protocol):
    """One session file, as its scribe sees it."""

    path: Path

    @property
    def device(self) -> int:
        """Number of the disk that it lies on."""
        ...

    def wait_s(self, early: bool = False) -> float:
        """How long until the next transaction has to begin, or (`early`) may; inf: there is none."""
        ...

    def write(self, together: bool) -> bool:
        """Begin a transaction; True if it is written and waits for `synced`, as it may when `together`."""
        ...

    def synced(self, error: OSError | None) -> None:
        """Hear that the disk has all that was written, or why it has not."""
        ...


class Scribe:
    """Made by `scribe_of`; its thread runs while there is a file."""

    _of: ClassVar[dict[Path, Scribe]] = {}
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()  # guards all below
        self._due: dict[Written, float] = {}  # when to look at each file, by CLOCK
        self._wakes = math.inf  # when the thread does so by itself
        self._running = False

    @classmethod
    def of(cls, folder: Path) -> Scribe:
        """The one that writes what lies in a folder."""
        with cls._making:
            return cls._of.setdefault(folder, cls(folder))

    def take(self, file: Written) -> None:
        """Write this file from now on, whenever it says `within`."""
        with self._changed:
            self._due[file] = math.inf
            if not self._running:
                # A daemon, so that a disk that hangs cannot keep the process alive.
                threading.Thread(
                    target=self._run, name=f"journals in {self._folder.name}", daemon=True
                ).start()
                self._running = True

    def leave(self, file: Written) -> None:
        """Write this file no more; a transaction that has begun goes on."""
        with self._changed:
            self._due.pop(file, None)
            self._changed.notify()

    def within(self, file: Written, seconds: float) -> None:
        """Look at this file in so long at the latest."""
        at = CLOCK.monotonic() + seconds
        with self._changed:
            if at < self._due.get(file, -math.inf):
                self._due[file] = at
                if at < self._wakes:
                    self._changed.notify()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            try:
                self._write(found)
            except Exception:  # whatever it is, it must not end the recording of all sleepers
                log.exception("the session files in %s: a fault of ours; they are written on", self._folder)
                for file in found:
                    self.within(file, AGAIN_S)

    def _write(self, found: list[Written]) -> None:
        group = []
        for file in found:
            wait_s = file.wait_s(early=True)
            if wait_s <= 0:
                group.append(file)
            elif wait_s < math.inf:
                self.within(file, file.wait_s())
        together = len(group) >= TOGETHER and SYNC_ALL is not None
        _sync([file for file in group if file.write(together)])

    def _next(self) -> list[Written] | None:
        """Wait until a file is due; it, and what is due soon. None: there is no file any more."""
        with self._changed:
            while self._due:
                now, first = CLOCK.monotonic(), min(self._due.values())
                if first <= now:
                    found = [file for file, at in self._due.items() if at <= now + EARLY_S]
                    self._due.update(dict.fromkeys(found, math.inf))
                    self._wakes = -math.inf  # it is awake
                    return found
                self._wakes = first
                self._changed.wait(None if first == math.inf else first - now)
            self._running = False
            return None


def _sync(files: Iterable[Written]) -> None:
    """Have the disk take what was written into all of these; they may lie on several disks."""
    disks: dict[int, list[Written]] = {}
    for file in files:
        disks.setdefault(file.device, []).append(file)
    for alike in disks.values():
        error = _taken(alike[0].path)
        for file in alike:
            file.synced(error)


def _taken(path: Path) -> OSError | None:
    """Have the disk that a file lies on take all that was written to it; what went wrong."""
    assert SYNC_ALL is not None
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        return error
    try:
        if SYNC_ALL(descriptor):
            code = ctypes.get_errno()
            return OSError(code, os.strerror(code))
        return None
    finally:
        os.close(descriptor)


def _sync_all() -> SyncAll | None:
    """Linux's syncfs, which Python does not have; None elsewhere."""
    try:
        found: SyncAll = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return None
    return found


SYNC_ALL = _sync_all()
