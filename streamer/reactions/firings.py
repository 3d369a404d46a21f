"""Records firings on disk before they act: a crash may lose a stimulus, but never repeats one.

They are in a small file beside the session file, in records of equal size. Space is allocated in advance, so
that recording a firing overwrites a few zeros and syncs: it does not wait for the session file, and needs no
free space.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from streamer.errors import JournalError, explain
from streamer.host import private
from streamer.journal import JournalReader

RECORD = 256  # bytes; divides a disk's sector, so that no record is in two of them
ROOM = 256 * RECORD  # allocated at once
MOST_BYTES = 1 << 26  # of a file; a night at a firing a second has 8 MB
_sync = getattr(os, "fdatasync", os.fsync)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A firing as it is recorded, without its arm, so that readers stay blind."""

    trigger: str
    number: int  # of this trigger's firings in the night, from 0
    end: float  # of the score that caused it, seconds of the session

    @property
    def key(self) -> tuple[str, int]:
        """Its identity within the session."""
        return self.trigger, round(self.end * 100)

    def record(self) -> bytes:
        """Encode it as a record of the file."""
        return json.dumps(asdict(self)).encode().ljust(RECORD - 1) + b"\n"


Done = Callable[[str], None]  # gets why a firing could not be recorded, or ""


class FiringLog:
    """A session's firings; a context manager. Leaving waits for those being written.

    Args:
        path: of the file; an existing one is continued.
        live: each firing is synced to disk, on a separate thread. Otherwise they are written at once and not
            synced: they survive the end of the process, but not a power cut.

    Attributes:
        kept: the firings of earlier processes and of this one, in order.

    """

    def __init__(self, path: Path, live: bool) -> None:
        self.kept: list[Kept] = []
        self._path = path
        self._live = live
        self._file = -1
        self._size = 0
        self._due: queue.SimpleQueue[tuple[Kept, Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"firings {path.name}", daemon=True)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self.open)
        if self._live:
            self._thread.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._live:
            self._due.put(None)
            await asyncio.to_thread(self._thread.join, 3.0)
            await asyncio.sleep(0)  # lets the callbacks from the thread run first
        self._close()

    def open(self) -> None:
        """Read the file and make room for more. An error is reported with the first firing."""
        self.kept = firings(self._path)
        try:
            self._open()
        except OSError as error:
            log.warning("cannot keep firings in %s: %s; tried again", self._path, explain(error))

    def inherit(self, session: Path, started: float) -> None:
        """Count the firings of a crashed session that cannot be continued. May block.

        Args:
            session: the file of the crashed session.
            started: Unix time of this session's first sample, s. If the clock was set in between, the earlier
                firings count as no later than that.

        """
        earlier = firings(session.with_suffix(".firings"))
        if self.kept or not earlier:
            return
        try:
            with JournalReader(session) as reader:
                ago_s = started - reader.meta.info.started
        except JournalError:
            ago_s = 0.0
        ago_s = max(ago_s, *(one.end for one in earlier))  # the same for all, so that their distances stay
        for one in earlier:
            problem = self._try(replace(one, end=round(one.end - ago_s, 2)))
            if problem:
                log.warning("cannot keep firings in %s: %s", self._path, problem)

    def keep(self, firing: Kept, done: Done) -> None:
        """Put a firing on disk, then call `done` on the event loop, in the order of the firings."""
        if self._live:
            self._due.put((firing, done))
        else:
            done(self._try(firing))

    def _run(self) -> None:
        """The thread's loop: one firing after the other."""
        while (due := self._due.get()) is not None:
            firing, done = due
            problem = self._try(firing)
            try:
                self._loop.call_soon_threadsafe(done, problem)
            except RuntimeError:  # the event loop, and so the night, has ended
                return

    def _try(self, firing: Kept) -> str:
        try:
            self._write(firing)
        except OSError as error:
            return explain(error)
        return ""

    def _write(self, firing: Kept) -> None:
        if self._file < 0 or not self._in_place():
            self._close()
            self._open()
        at = len(self.kept) * RECORD
        if at + RECORD > self._size:
            self._make_room()
        os.pwrite(self._file, firing.record(), at)
        if self._live:
            _sync(self._file)
        self.kept.append(firing)

    def _in_place(self) -> bool:
        """Whether the file is still at its path; it may have been moved or removed."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except OSError:
            return False

    def _open(self) -> None:
        """Open the file; if it is missing, write all firings again."""
        private.make_folder(self._path.parent)
        self._file = private.opener(str(self._path), os.O_RDWR | os.O_CREAT)
        self._size = os.fstat(self._file).st_size
        if self._size < len(self.kept) * RECORD + RECORD:
            self._make_room()
        os.pwrite(self._file, b"".join(one.record() for one in self.kept), 0)
        if self._live:
            os.fsync(self._file)
            private.sync(self._path.parent)

    def _make_room(self) -> None:
        os.pwrite(self._file, bytes(ROOM), self._size)
        self._size += ROOM
        if self._live:
            os.fsync(self._file)

    def _close(self) -> None:
        """Close the file, without its unused space."""
        if self._file >= 0:
            os.ftruncate(self._file, len(self.kept) * RECORD)
            if not self.kept and self._in_place():
                self._path.unlink()
            os.close(self._file)
        self._file = -1


def firings(path: Path) -> list[Kept]:
    """Read the firings in a file, in order. A partly written record was never acted on and is left out."""
    try:
        data = private.read(path, MOST_BYTES)
    except OSError:
        return []
    found = []
    for at in range(0, len(data), RECORD):
        try:
            found.append(_kept(json.loads(data[at : at + RECORD])))
        except (ValueError, TypeError, RecursionError):
            continue  # unused space
    return found


def _kept(value: object) -> Kept:
    if not isinstance(value, dict):
        raise TypeError("not a firing")
    one = Kept(**value)
    sound = isinstance(one.trigger, str) and isinstance(one.number, int) and isinstance(one.end, int | float)
    if not (sound and math.isfinite(one.end)):
        raise TypeError("not a firing")
    return one
