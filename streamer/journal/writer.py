"""Writes a session file, on its scribe's thread: a bounded queue in, about one transaction a second out.

A commit waits for the disk, and nothing that stages sleep may; hence a thread (scribe.py), and a queue whose
callers never wait. Its bound is on samples alone: they are refused when `capacity_bytes` of them are waiting.
Rows (epochs, events, gaps) are few and always taken.
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
from streamer.journal.scribe import Scribe
from streamer.messages import Floats

COMMIT_S = 1.0  # from one transaction to the next, at least; `EARLY_S` less if written along with other files
LINGER_S = 1.2  # 25 of them are 30 s, so that sample commits yield to epoch commits
AGE_S = 1.25  # of a sample, by when it was taken, as the transaction begins that takes it
RETRY_S = 5.0  # between two attempts to write to a disk that refuses
NOTHING = (0, 0)

State = Literal["recording", "failing", "failed", "closed"]  # failing: tried again; failed: given up
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """The state of recording; `reason` is empty unless it fails."""

    state: State
    reason: str
    dropped_samples: int
    pending_bytes: int  # of samples that are not yet on disk
    commits: int
    slowest_s: float  # the slowest commit; while this and `LINGER_S` are below 2 s, so is the possible loss
    remade: int = 0  # how often the file was deleted or moved, and written again in its place


class Writer:
    """Writes one session file: a bounded queue in, about one transaction a second out.

    Everything handed over gets a ticket, an increasing number; `durable` is the last one that is on disk.

    Args:
        path: of the session file, for messages.
        db: a connection ready to write, used by the scribe from now on.
        lock: released when the file is closed.
        clock: paces the transactions.
        capacity_bytes: of samples that may wait.

    """

    def __init__(
        self, path: Path, db: sqlite3.Connection, lock: FileLock, clock: Clock, capacity_bytes: int
    ) -> None:
        self.path = path
        self.capacity_bytes = capacity_bytes
        self._clock = clock
        self._turn = threading.Lock()  # to write: held while the disk works; guards the next five
        self._home = Home(path, db, lock)
        self._writing = Batch()  # between transactions empty, unless the disk refused
        self._written = NOTHING  # written and perhaps not synced: last ticket, and bytes of samples
        self._loose: sqlite3.Connection | None = None  # the connection whose transactions are not synced
        self._gone = False  # the file is closed
        self.lock = threading.RLock()  # guards all below; never held while the disk works
        self.durable = 0
        self.dropped = 0
        self._began = -math.inf  # when the last transaction did, monotonic
        self._pending = Batch()
        self._bytes = 0
        self._state: State = "recording"
        self._reason = ""
        self._commits = 0
        self._slowest_s = 0.0
        self._closing = False
        self._retries = False  # the disk has refused a transaction
        self._waiters: dict[asyncio.Future[None], Callable[[], object]] = {}
        self._scribe = Scribe.of(path.parent)
        self._scribe.take(self)

    @property
    def status(self) -> JournalStatus:
        """The state of recording now."""
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
        """Whether the disk accepts writes."""
        return self._state == "recording"

    def row(self, statement: str, values: tuple[object, ...], *, within_s: float = LINGER_S) -> int:
        """Take one statement, to be written within `within_s` of the last transaction; return its ticket."""
        with self.lock:
            self._check_open()
            self._pending.rows.append((statement, values))
            return self._handed_over(within_s)

    def samples(self, start: int, wall: float, monotonic: float, samples: Floats, took_s: float) -> bool:
        """Take samples as `Block` does; False, and counted as dropped, when there is no room.

        `took_s` is how long they took to come: those of a second wait for the disk the shorter, so that the
        oldest is written as soon as if it had come alone.
        """
        size = 4 * samples.size
        with self.lock:
            self._check_open()
            if self._bytes + size > self.capacity_bytes:
                self.dropped += samples.shape[1]
                return False
            blocks = self._pending.blocks
            if not (blocks and blocks[-1].add(start, wall, monotonic, samples)):
                blocks.append(Block(start, wall, monotonic, samples))
            self._bytes += size
            since_s = monotonic - took_s - self._began  # of the first one
            self._handed_over(min(LINGER_S, max(COMMIT_S, since_s + AGE_S)))
            return True

    async def room(self) -> None:
        """Wait until half the capacity is free; returns at once while the disk refuses."""
        await self.until(lambda: not self.recording or self._bytes <= self.capacity_bytes // 2 or None)

    async def flush(self) -> None:
        """Wait until everything handed over is on disk."""
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
        """Write what is left and close the file; blocks up to the deadline. A second call does nothing."""
        with self.lock:
            if self._state == "closed":
                return
            self._closing = True
        self._scribe.leave(self)
        # A daemon, so that a disk that hangs cannot keep the process alive once this has given up on it.
        ending = threading.Thread(target=self._finish, name=f"journal {self.path.name}", daemon=True)
        ending.start()
        ending.join(deadline_s)
        with self.lock:
            complete = self.durable == self._pending.ticket and not ending.is_alive()
            self._reason = self._reason or (
                "" if complete else f"the disk did not answer in {deadline_s:g} s"
            )
            self._state = "closed"
            self.ring()
        if not complete:
            raise JournalError(f"{self.path} is incomplete: {self._reason}")

    async def until(self, ready: Callable[[], T | None]) -> T:
        """Wait until `ready` returns a value; return that.

        It is called under the lock whenever something has changed, by the thread that changed it.
        """
        while True:
            with self.lock:
                value = ready()
                if value is not None:
                    return value
                changed = asyncio.get_running_loop().create_future()
                self._waiters[changed] = ready
            try:
                await changed
            finally:
                with self.lock:
                    self._waiters.pop(changed, None)

    def ring(self) -> None:
        """Wake every waiter that has an answer now."""
        with self.lock:  # so that no waiter leaves, and no loop is closed, between the check and the call
            for changed in [changed for changed, ready in self._waiters.items() if _answers(ready)]:
                del self._waiters[changed]
                changed.get_loop().call_soon_threadsafe(_resolve, changed)

    def _check_open(self) -> None:
        if self._closing:
            raise JournalError(f"{self.path} is closed")

    def _handed_over(self, within_s: float) -> int:
        self._pending.ticket += 1
        self._hurry(within_s)
        return self._pending.ticket

    def _hurry(self, within_s: float) -> None:
        """Tell the scribe when to write, if it would be too late otherwise."""
        if within_s < self._pending.within_s:
            self._pending.within_s = within_s
            self._scribe.within(self, self.wait_s())

    # ---- the scribe's side

    @property
    def device(self) -> int:
        """Device number of the file's disk."""
        return self._home.device

    def wait_s(self) -> float:
        """Return how long until the next transaction must begin; inf: there is none."""
        with self.lock:
            within_s = RETRY_S if self._retries else self._pending.within_s
            if self._written[0]:  # an error came before the result of the sync
                within_s = min(within_s, RETRY_S)
            if within_s == math.inf or self._closing:  # -inf + inf is no time
                return math.inf
            return self._began + within_s - self._clock.monotonic()

    def write(self, together: bool) -> bool:
        """Write a transaction, and sync it unless it is to be synced `together` with others.

        Returns:
            Whether `synced` must be called with the result of the sync.

        """
        if not self._turn.acquire(blocking=False):
            return False  # it is being closed
        try:
            return not self._gone and self._attempt(together) and bool(self._written[0])
        except BaseException as error:  # of any kind: it must reach the engine
            self._give_up(error)
            return False
        finally:
            self._turn.release()

    def synced(self, error: OSError | None) -> None:
        """Take the result of the sync: None, or why it failed."""
        with self._turn:
            if not self._written[0]:
                return  # it was closed and synced meanwhile
            if error is None:
                self._on_disk("")
            else:
                self._refused(error)

    def _attempt(self, together: bool) -> bool:
        """Write one transaction; False if the disk refused it."""
        with self.lock:
            self._writing.absorb(self._pending)
            self._pending = Batch(self._pending.ticket)
            self._began = self._clock.monotonic()
        astray = self._home.mend(self._began)
        together = together and not astray
        db, left = self._home.db, self._written
        try:
            if (db is self._loose) != together:
                session_file.wait_for_disk(db, not together)
                self._loose = db if together else None
            session_file.write(self._home.pen, self._writing)
            self._written = self._writing.ticket, self._writing.nbytes + left[1]
            self._writing = Batch()
            if left[0] and not together:
                self._home.sync()
            if astray:
                self._home.settle()
        except (
            sqlite3.OperationalError,
            OSError,
        ) as error:  # full, read-only, I/O error; not our own mistakes
            self._refused(error)
            return False
        if not together:
            self._on_disk(astray)
        return True

    def _on_disk(self, astray: str) -> None:
        """Note that everything written is on disk."""
        with self.lock:
            if astray:
                self._trouble("failing", astray)
            else:
                self._recovered()
            self._retries = False
            self._commits += 1
            self._slowest_s = max(self._slowest_s, self._clock.monotonic() - self._began)
            self.durable, size = self._written
            self._bytes -= size
            self._written = NOTHING
            self.ring()

    def _refused(self, error: BaseException) -> None:
        with self.lock:
            self._retries = True
            self._trouble("failing", error)
            self._scribe.within(self, self.wait_s())

    def _give_up(self, error: BaseException) -> None:
        log.exception("recording to %s was given up", self.path)
        self._trouble("failed", error)
        self._scribe.leave(self)
        self._let_go()

    def _finish(self) -> None:
        """Write what is left and close the file; on a separate thread, because the disk may not answer."""
        with self._turn:
            if self._gone:
                return
            try:
                while (self._writing or self._pending or self._written[0]) and self._attempt(together=False):
                    pass
            except BaseException as error:  # as in `write`
                self._give_up(error)
            else:
                self._let_go()

    def _let_go(self) -> None:
        self._gone = True
        if not self._writing and self._state != "failed":
            with contextlib.suppress(sqlite3.Error):  # then it counts as crashed, which is safe
                astray = self._home.mend(math.inf)
                session_file.mark_closed(self._home.db)
                if astray:
                    self._home.settle()
        self._home.db.close()
        self._home.lock.release()

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


def _answers(ready: Callable[[], object]) -> bool:
    """Whether a waiter must be woken: for a value, or for an error."""
    try:
        return ready() is not None
    except JournalError:
        return True
