"""The thread that writes the session files of a folder, each when it is due, with one sync for many.

With a thread and a sync for each file, a thousand sleepers would need eight hundred syncs a second, which few
disks can do. So files that are due at about the same time are written one after the other, and one system
call syncs all of them. Nothing counts as recorded before that call has returned.
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

EARLY_S = 0.25  # a file that is due so soon is written with one that is due now
TOGETHER = 8  # fewer files are synced one by one: a common sync also waits for other programs' writes
AGAIN_S = 0.5  # until the next attempt after a bug
CLOCK = SystemClock()  # for waiting; each file has its own clock for when it is due
log = logging.getLogger(__name__)

SyncAll = Callable[[int], int]


class ScribedFile(Protocol):
    """The interface of a session file for its scribe."""

    path: Path

    @property
    def device(self) -> int:
        """Device number of its disk."""
        ...

    def wait_s(self) -> float:
        """Return how long until the next transaction must begin; inf: there is none."""
        ...

    def write(self, together: bool) -> bool:
        """Write a transaction; True if it waits for `synced`, which is allowed if `together`."""
        ...

    def synced(self, error: OSError | None) -> None:
        """Take the result of the sync: None, or why it failed."""
        ...


class Scribe:
    """Made by `scribe_of`; its thread runs while there is a file."""

    _of: ClassVar[dict[Path, Scribe]] = {}
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()  # guards all below
        self._due: dict[ScribedFile, float] = {}  # when to look at each file, by CLOCK
        self._wakes = math.inf  # when the thread does so by itself
        self._running = False

    @classmethod
    def of(cls, folder: Path) -> Scribe:
        """Return the scribe of a folder."""
        with cls._making:
            return cls._of.setdefault(folder, cls(folder))

    def take(self, file: ScribedFile) -> None:
        """Write this file from now on, whenever it is due by `within`."""
        with self._changed:
            self._due[file] = math.inf
            if not self._running:
                # A daemon, so that a disk that hangs cannot keep the process alive.
                threading.Thread(
                    target=self._run, name=f"journals in {self._folder.name}", daemon=True
                ).start()
                self._running = True

    def leave(self, file: ScribedFile) -> None:
        """Stop writing this file; a transaction that has begun goes on."""
        with self._changed:
            self._due.pop(file, None)
            self._changed.notify()

    def within(self, file: ScribedFile, seconds: float) -> None:
        """Write this file in `seconds` at the latest."""
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
            except Exception:  # of any kind: it must not end the recording of all sleepers
                log.exception("internal error with the files in %s; the recording goes on", self._folder)
                for file in found:
                    self.within(file, AGAIN_S)

    def _write(self, found: list[ScribedFile]) -> None:
        group = []
        for file in found:
            wait_s = file.wait_s()  # again, by its own clock
            if wait_s <= EARLY_S:
                group.append(file)
            elif wait_s < math.inf:
                self.within(file, wait_s)
        together = len(group) >= TOGETHER and SYNC_ALL is not None
        _sync([file for file in group if file.write(together)])

    def _next(self) -> list[ScribedFile] | None:
        """Wait until a file is due; return it and those that are due soon. None: there are no files."""
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


def _sync(files: Iterable[ScribedFile]) -> None:
    """Sync all of these files, which may be on several disks."""
    disks: dict[int, list[ScribedFile]] = {}
    for file in files:
        disks.setdefault(file.device, []).append(file)
    for alike in disks.values():
        error = _taken(alike[0].path)
        for file in alike:
            file.synced(error)


def _taken(path: Path) -> OSError | None:
    """Sync the whole disk of a file; return the error, or None."""
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
    """Return Linux's syncfs, which Python does not have; None elsewhere."""
    try:
        found: SyncAll = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return None
    return found


SYNC_ALL = _sync_all()
