"""The one thread that writes a session file: a bounded queue in, at most one transaction a second out.

A commit waits for the disk, and nothing that stages sleep may; hence a thread, and a queue whose callers
never wait. Its bound is on samples alone: they are refused when `capacity_bytes` of them are waiting. Rows
(epochs, events, gaps) are few and always taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from streamer.clock import Clock
from streamer.errors import JournalError
from streamer.journal import file as session_file
from streamer.journal.file import Batch, Block
from streamer.journal.home import Home
from streamer.journal.lock import FileLock

COMMIT_S = 1.0  # no two transactions begin closer together than this
LINGER_S = 1.2  # 25 of them are 30 s, so that sample commits yield to epoch commits
RETRY_S = 5.0  # between two attempts on a disk that refuses

State = Literal["recording", "failing", "failed", "closed"]  # failing: tried again; failed: given up
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """How recording goes; `reason` is empty unless it does not."""

    state: State
    reason: str
    dropped_samples: int
    pending_bytes: int  # of samples that are not yet on disk
    commits: int
    slowest_s: float  # of them; two seconds can be promised while this and `LINGER_S` are less
    remade: int = 0  # how often the file was deleted or moved under way, and written anew where it was


class Writer:
    """Owns the thread, the connection and the lock of one session file.

    What is handed over gets a ticket, a number that counts up; `durable` is the last one that is on disk.

    Args:
        path: of the session file, for messages.
        db: a connection ready to write, the thread's from now on.
        lock: released when the file is closed.
        clock: paces the transactions.
        capacity_bytes: of samples that may wait.

    """

    def __init__(
        self, path: Path, db: sqlite3.Connection, lock: FileLock, clock: Clock, capacity_bytes: int
    ) -> None:
        self.path = path
        self.capacity_bytes = capacity_bytes
        self._home = Home(path, db, lock)
        self._clock = clock
        self._writing = Batch()  # the thread's alone; between transactions empty, unless the disk refused
        self._began = -math.inf  # when the last transaction did, monotonic; the thread's alone
        self.lock = threading.Condition()  # guards all below (re-entrant); never held while the disk works
        self.durable = 0
        self.dropped = 0
        self._pending = Batch()
        self._bytes = 0
        self._state: State = "recording"
        self._reason = ""
        self._commits = 0
        self._slowest_s = 0.0
        self._closing = False
        self._waiters: set[asyncio.Future[None]] = set()
        # A daemon, so that a disk that hangs cannot keep the process alive once `close` has given up on it.
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> JournalStatus:
        """How recording goes, now."""
        with self.lock:
            return JournalStatus(
                self._state,
                self._reason,
                self.dropped,
                self._bytes,
                self._commits,
                self._slowest_s,
                self._home.remade,
            )

    @property
    def recording(self) -> bool:
        """Whether the disk takes what it is given."""
        return self._state == "recording"

    def row(self, statement: str, values: tuple[object, ...], *, within_s: float = LINGER_S) -> int:
        """Take one statement, to be written `within_s` of the last transaction; its ticket."""
        with self.lock:
            self._check_open()
            self._pending.rows.append((statement, values))
            return self._handed_over(within_s)

    def block(self, block: Block) -> bool:
        """Take samples; False, and counted as dropped, when there is no room."""
        with self.lock:
            self._check_open()
            if self._bytes + block.samples.nbytes > self.capacity_bytes:
                self.dropped += block.samples.shape[1]
                return False
            self._pending.blocks.append(block)
            self._bytes += block.samples.nbytes
            self._handed_over(LINGER_S)
            return True

    async def room(self) -> None:
        """Wait until half the capacity is free; returns at once while the disk refuses."""
        await self.until(lambda: not self.recording or self._bytes <= self.capacity_bytes // 2 or None)

    async def flush(self) -> None:
        """Wait until all that was handed over is on disk."""
        with self.lock:
            ticket = self._pending.ticket
            if self.durable < ticket:
                self._hurry(COMMIT_S)

        def done() -> Literal[True] | None:
            if self.durable >= ticket:
                return True
            if self._state in ("failed", "closed"):
                raise JournalError(f"{self.path} is incomplete: {self._reason}")
            return None

        await self.until(done)

    def close(self, deadline_s: float) -> None:
        """Write what is left and let go of the file; blocks up to the deadline; once is enough."""
        with self.lock:
            if self._state == "closed":
                return
            self._closing = True
            self.lock.notify()
        self._thread.join(deadline_s)
        with self.lock:
            complete = self.durable == self._pending.ticket and not self._thread.is_alive()
            self._reason = self._reason or (
                "" if complete else f"the disk did not answer in {deadline_s:g} s"
            )
            self._state = "closed"
            self.ring()
        if not complete:
            raise JournalError(f"{self.path} is incomplete: {self._reason}")

    async def until(self, ready: Callable[[], T | None]) -> T:
        """Wait until `ready`, asked under the lock whenever something may have changed, gives a value."""
        while True:
            with self.lock:
                value = ready()
                if value is not None:
                    return value
                changed = asyncio.get_running_loop().create_future()
                self._waiters.add(changed)
            try:
                await changed
            finally:
                with self.lock:
                    self._waiters.discard(changed)

    def ring(self) -> None:
        """Have every waiter look again."""
        with self.lock:  # so no waiter can leave, nor its loop be closed, between the look and the call
            for changed in self._waiters:
                changed.get_loop().call_soon_threadsafe(_resolve, changed)
            self._waiters.clear()

    def _check_open(self) -> None:
        if self._closing:
            raise JournalError(f"{self.path} is closed")

    def _handed_over(self, within_s: float) -> int:
        self._pending.ticket += 1
        self._hurry(within_s)
        return self._pending.ticket

    def _hurry(self, within_s: float) -> None:
        """Wake the thread, but only if it would sleep too long."""
        if within_s < self._pending.within_s:
            self._pending.within_s = within_s
            self.lock.notify()

    def _run(self) -> None:
        try:
            while self._wait_until_due():
                if not self._attempt() and self._closing:
                    break
        except BaseException as error:  # the one supervised edge: whatever it is, the engine must hear of it
            log.exception("recording to %s was given up", self.path)
            self._trouble("failed", error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if not self._writing and self._state != "failed":
            with contextlib.suppress(sqlite3.Error):  # then it reads as one whose process died, which is safe
                astray = self._home.mend(math.inf)
                session_file.mark_closed(self._home.db)
                if astray:
                    self._home.settle()
        self._home.db.close()
        self._home.lock.release()

    def _wait_until_due(self) -> bool:
        """Until the next transaction may begin; False when there will be none."""
        with self.lock:
            while not self._closing:
                within_s = RETRY_S if self._writing else self._pending.within_s
                if within_s == math.inf:  # nothing to write (and -inf + inf is no time)
                    self.lock.wait()
                    continue
                wait_s = self._began + within_s - self._clock.monotonic()
                if wait_s <= 0:
                    return True
                self.lock.wait(wait_s)
            return bool(self._writing or self._pending)

    def _attempt(self) -> bool:
        """One transaction; False if the disk refused it."""
        with self.lock:
            self._writing.absorb(self._pending)
            self._pending = Batch(self._pending.ticket)
        self._began = self._clock.monotonic()
        astray = self._home.mend(self._began)
        try:
            session_file.write(self._home.db, self._writing)
            if astray:
                self._home.settle()
        except sqlite3.OperationalError as error:  # full, read-only, I/O error; our own mistakes are not
            self._trouble("failing", error)
            return False
        with self.lock:
            if astray:
                self._trouble("failing", astray)
            else:
                self._recovered()
            self._commits += 1
            self._slowest_s = max(self._slowest_s, self._clock.monotonic() - self._began)
            self._bytes -= self._writing.nbytes
            self.durable, self._writing = self._writing.ticket, Batch()
            self.ring()
        return True

    def _recovered(self) -> None:
        if not self.recording:
            log.warning("recording to %s again", self.path)
            self._home.lock.outrun(False)
        self._state, self._reason = "recording", ""

    def _trouble(self, state: State, error: BaseException | str) -> None:
        with self.lock:
            if self._state != state:
                log.warning("cannot record to %s: %s", self.path, error)
                self._home.lock.outrun(True)
            self._state, self._reason = state, str(error)
            self.ring()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
