"""Records a session into an SQLite file: samples older than two seconds survive a crash.

In detail: everything handed over more than `PROMISE_S` ago is on disk (WAL, synchronous=FULL), as long as the
disk accepts writes and each commit takes under 0.8 s (`status.slowest_s`). While the disk refuses, staging
goes on and `status` says so. Messages then wait in memory without limit, samples up to `capacity_bytes`;
further samples are dropped, counted, and listed as a gap.

A message leaves through the outbox only once its transaction is on disk: if a published epoch were lost, it
might be scored differently after a restart, and live output is never changed. While the disk refuses,
messages leave without being written, because timely stages matter more. The lock file notes that, so that
such a session is not continued after a crash.
"""

from __future__ import annotations

import bisect
import json
import math
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.clock import Clock, boot_id
from streamer.journal import file as session_file
from streamer.journal.file import Mark, Position
from streamer.journal.lock import FileLock
from streamer.journal.outbox import Parcel
from streamer.journal.reader import JournalReader
from streamer.journal.rows import Meta
from streamer.journal.writer import COMMIT_S, JournalStatus, Writer
from streamer.messages import Chunk, Gap, Item
from streamer.payloads import EpochPayload, EventPayload, to_json

PROMISE_S = 2.0
CLOSE_S = 3.0  # longest wait for the disk at the end
JUMP_S = 2.0  # the two clocks may differ so much: a sample may have waited before it was recorded
CAPACITY_BYTES = 64 << 20  # 4.5 h of 4 channels at 256 Hz
CLOCKS_AGREE_S = 10.0  # a message that is later than this after the last sample has no known steady time
NOT_RECORDED = "not recorded: the disk refused"
UNEXPLAINED = "unexplained: the source left these samples out without saying so"


class Journal:
    """One session's record, and the outbox of its messages.

    Made by `create` or `resume`; a context manager. No method waits for the disk, except `close`.

    Attributes:
        path: of the session file.
        meta: the session's metadata.
        outbox: the messages that no broker has acknowledged; an `Outbox`.
        rebooted: the computer was restarted since the session stopped, so only its wall clock shows when.
        clock_was_set: by how much the wall clock was set meanwhile, for people; "" if it was not.

    """

    def __init__(self, meta: Meta, clock: Clock, writer: Writer, position: Position, deliver: bool) -> None:
        self.path = writer.path
        self.meta = meta
        self.outbox = JournalOutbox(writer, position)
        last = position.last  # kept as three numbers, because they change with every chunk
        self._index, self._wall, self._monotonic = last.index, last.wall, last.monotonic
        self.rebooted = False
        self.clock_was_set = ""
        self._other_boot = False  # the file has the boot of an earlier process
        self._clock = clock
        self._writer = writer
        self._deliver = deliver
        self._epoch_seq = position.epoch_seq
        self._event_seq = position.event_seq
        self._channels = len(meta.info.channels)
        self._rate_hz = meta.info.rate_hz
        self._hole: Gap | None = None  # dropped samples that are not listed as a gap yet

    @classmethod
    def create(
        cls,
        path: Path,
        meta: Meta,
        clock: Clock,
        *,
        deliver: bool = True,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> Journal:
        """Start a session in a new file.

        Args:
            path: of the file; its folder exists.
            meta: the session's metadata.
            clock: paces the transactions and stamps arrivals; real time, also for a fast replay.
            deliver: whether epochs and events go into the outbox.
            capacity_bytes: of samples (as float32) that may wait for the disk.

        Raises:
            JournalError: the file exists, is in use, or cannot be created.

        """
        with FileLock(path) as lock:
            writer = Writer(path, session_file.create(path, meta), lock, clock, capacity_bytes)
            lock.keep()
        begun = meta.info.started
        last = Mark(0, begun, clock.monotonic() - (clock.wall() - begun))
        return cls(meta, clock, writer, Position(last), deliver)

    @classmethod
    def resume(
        cls, path: Path, clock: Clock, *, deliver: bool = True, capacity_bytes: int = CAPACITY_BYTES
    ) -> Journal:
        """Continue a session where its process stopped.

        Raises:
            JournalError: the file is missing, in use, not a session, or damaged; it is not changed.

        """
        with FileLock(path) as lock:
            with JournalReader(path, thorough=True) as reader:
                meta, position = reader.meta, reader.position()
            writer = Writer(path, session_file.connect(path), lock, clock, capacity_bytes)
            lock.keep()
        boot = boot_id()
        same = bool(boot) and boot == meta.boot
        told = _setting(position.last, clock) if same else ""
        parcels = tuple(_dated(parcel, position.last if same else Mark()) for parcel in position.parcels)
        position = replace(position, parcels=parcels)
        if not same:
            position = replace(position, last=_since_boot(position.last, clock))
        journal = cls(replace(meta, boot=boot), clock, writer, position, deliver)
        journal.rebooted, journal.clock_was_set = not same and bool(meta.boot), told
        journal._other_boot = not same
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def last(self) -> Mark:
        """The end of all samples and gaps, and when it was recorded."""
        return Mark(self._index, self._wall, self._monotonic)

    @property
    def next_sample(self) -> int:
        """Index after the last recorded sample or gap."""
        return self._index

    @property
    def status(self) -> JournalStatus:
        """The state of recording now."""
        return self._writer.status

    def record(self, item: Item) -> None:
        """Take samples, (channels, n) in the source's unit, or a gap; in order, from one thread.

        Samples are kept as float32. (A resumed run equals an uninterrupted one only if both use the rounded
        samples.) Skipped indices become a gap, so that samples and gaps cover everything. An empty gap is
        left out.

        Raises:
            ValueError: the item begins before the end of the last one, ends before it begins, or has another
                number of channels.
            JournalError: the journal is closed.

        """
        start, stop, wall = item.start, item.stop, self._clock.wall()
        if start != self._index or stop <= start or self._other_boot:
            self._before(item)
        if isinstance(item, Chunk) and item.samples.shape[0] != self._channels:
            raise ValueError(f"{item.samples.shape[0]} channels, not {self._channels}")
        if stop == start:
            pass
        elif isinstance(item, Chunk):
            with self._writer.lock:
                took_s = (stop - start) / self._rate_hz
                if not self._writer.samples(start, wall, item.arrived, item.samples, took_s):
                    start = self._hole.start if self._hole else start
                    self._hole = Gap(start, stop, NOT_RECORDED, item.arrived)
                elif self._hole is not None:
                    self._close_hole()
        else:
            self._list(item)
        self._index, self._wall, self._monotonic = stop, wall, item.arrived or self._clock.monotonic()

    def _before(self, item: Item) -> None:
        """Prepare for an item that does not simply follow the last one."""
        if item.start < self.next_sample:
            raise ValueError(f"sample {item.start} comes after {self.next_sample - 1}")
        if item.stop < item.start:
            raise ValueError(f"a gap from {item.start} to {item.stop}")
        if self._other_boot:  # only now: a session that is only delivered keeps the boot of its times
            self._writer.row("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (json.dumps(self.meta.boot),))
            self._other_boot = False
        if item.start > self.next_sample:
            self._list(Gap(self.next_sample, item.start, UNEXPLAINED, item.arrived))

    def epoch(self, payload: EpochPayload) -> None:
        """Record a committed epoch, and add it to the outbox in the same transaction.

        Raises:
            ValueError: its seq is not greater than the last one's; an epoch is never changed.
            JournalError: the journal is closed.

        """
        if payload.seq <= self._epoch_seq:
            raise ValueError(f"epoch with seq {payload.seq} after {self._epoch_seq}: what is written stays")
        times = payload.t_start.isoformat(), payload.t_end.isoformat()
        body = to_json(payload)
        with self._writer.lock:  # one transaction
            self._writer.row(
                "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    payload.seq,
                    payload.epoch,
                    *times,
                    payload.stage,
                    payload.smoothed,
                    payload.confidence,
                    body,
                ),
            )
            self._post("epoch", body)
        self._epoch_seq = payload.seq

    def event(self, payload: EventPayload) -> None:
        """Record an event, and add it to the outbox in the same transaction; raises as `epoch` does."""
        if payload.seq <= self._event_seq:
            raise ValueError(f"event with seq {payload.seq} after {self._event_seq}: what is written stays")
        body = to_json(payload)
        with self._writer.lock:
            self._writer.row(
                "INSERT INTO events VALUES (?, ?, ?, ?)",
                (payload.seq, payload.t.isoformat(), payload.event, body),
            )
            self._post("event", body)
        self._event_seq = payload.seq

    def clock_pair(self) -> None:
        """Record both clocks now, with the index of the next sample."""
        values = (self.next_sample, self._clock.wall(), self._clock.monotonic())
        self._writer.row("INSERT INTO clocks VALUES (?, ?, ?)", values)

    async def room(self) -> None:
        """Wait until half the capacity is free; for replays, because a live source cannot wait.

        Returns at once while the disk refuses, because staging goes on.
        """
        await self._writer.room()

    async def flush(self) -> None:
        """Wait until everything handed over is on disk, however long the disk refuses.

        Raises:
            JournalError: recording was given up, or the journal was closed, before all was written.

        """
        await self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the file; blocks up to `CLOSE_S`. A second call does nothing.

        Raises:
            JournalError: not everything could be written.

        """
        if self.status.state != "closed":
            self._close_hole()
        self._writer.close(CLOSE_S)

    def _list(self, gap: Gap) -> None:
        self._close_hole()
        self._writer.row(
            "INSERT INTO gaps(start, stop, reason, wall, monotonic) VALUES (?, ?, ?, ?, ?)",
            (gap.start, gap.stop, gap.reason, self._clock.wall(), gap.arrived),
        )

    def _close_hole(self) -> None:
        hole, self._hole = self._hole, None
        if hole is not None:
            self._list(hole)

    def _post(self, kind: str, body: str) -> None:
        if self._deliver:
            self.outbox.append(kind, body, self._clock.wall(), self._clock.monotonic())


class JournalOutbox:
    """The journal's messages as an `Outbox`."""

    def __init__(self, writer: Writer, position: Position) -> None:
        self._writer = writer
        self._next_id = position.next_parcel
        self._parcels = [(parcel, 0) for parcel in position.parcels]  # and ticket; ascending ids

    def __len__(self) -> int:
        return len(self._parcels)

    def append(self, kind: str, body: str, created: float, since: float | None = None) -> None:
        """Add a message; never blocks. Times as in `Parcel`."""
        with self._writer.lock:
            parcel = Parcel(self._next_id, kind, body, created, since)
            values = (parcel.id, kind, body, created)
            ticket = self._writer.row("INSERT INTO outbox VALUES (?, ?, ?, ?)", values, within_s=COMMIT_S)
            self._parcels.append((parcel, ticket))
            self._next_id += 1
            if not self._writer.recording:
                self._writer.ring()

    def holds_after(self, last_id: int) -> bool:
        """Whether any parcel has an id greater than `last_id`, on disk or not yet."""
        return bool(self._parcels) and self._parcels[-1][0].id > last_id

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel on disk whose id is greater than `last_id`."""
        return await self._writer.until(lambda: self._oldest(last_id))

    def acknowledge(self, parcel_id: int) -> None:
        """Remove a parcel that the broker has; an unknown one was removed before."""
        with self._writer.lock:
            at = bisect.bisect_left(self._parcels, parcel_id, key=_id)
            if at < len(self._parcels) and self._parcels[at][0].id == parcel_id:
                self._writer.row("DELETE FROM outbox WHERE id = ?", (parcel_id,))
                del self._parcels[at]

    def _oldest(self, last_id: int) -> Parcel | None:
        at = bisect.bisect_right(self._parcels, last_id, key=_id)
        if at == len(self._parcels):
            return None
        parcel, ticket = self._parcels[at]
        return parcel if ticket <= self._writer.durable or not self._writer.recording else None


def _dated(parcel: Parcel, mark: Mark) -> Parcel:
    """Set a parcel's time on the steady clock, by a moment that is known on both clocks.

    Without such a moment, as after a power cut, or if the wall clock was set back, the parcel counts as old,
    so that no client acts on it as if it were new.
    """
    known = mark.wall > 0 and parcel.created <= mark.wall + CLOCKS_AGREE_S
    return replace(parcel, since=mark.monotonic + (parcel.created - mark.wall) if known else -math.inf)


def _since_boot(mark: Mark, clock: Clock) -> Mark:
    """Move a mark to a monotonic clock that was restarted, by the wall clock."""
    return replace(mark, monotonic=clock.monotonic() - (clock.wall() - mark.wall))


def _setting(mark: Mark, clock: Clock) -> str:
    """Describe by how much the wall clock was set since a moment, or ""."""
    moved = (clock.wall() - mark.wall) - (clock.monotonic() - mark.monotonic)
    if abs(moved) <= JUMP_S:
        return ""
    return (
        f"the computer's clock was set by {moved:+.1f} s while sleepstream was not running, or the whole "
        "computer was suspended; the loss is counted by the steady clock"
    )


def _id(entry: tuple[Parcel, int]) -> int:
    return entry[0].id
