"""The writer keeps its pace, its bound, and going when the disk is full."""

from __future__ import annotations

import asyncio
import logging
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streamer.clock import SystemClock
from streamer.errors import DiskError, JournalError
from streamer.journal import NOT_RECORDED, Journal, JournalReader
from streamer.journal import file as session_file
from streamer.journal.lock import FileLock, held, outrun
from streamer.journal.writer import Writer
from streamer.messages import Gap
from tests.journals import META, HandClock, HastyClock, chunk, epoch, event, indices

# Pace.


class SwiftClock(SystemClock):
    """Five seconds in one."""

    def monotonic(self) -> float:
        return 5 * time.monotonic()


@pytest.mark.slow
def test_no_more_than_one_transaction_a_second(tmp_path):
    clock = SwiftClock()

    async def night() -> None:
        with Journal.create(tmp_path / "s.sqlite", META, clock) as journal:
            began = clock.monotonic()
            for number in range(6):
                journal.event(event(number))  # in more haste than any night
                await journal.flush()
            assert clock.monotonic() - began >= 5
            assert journal.status.commits == 6

    asyncio.run(asyncio.wait_for(night(), 60))


def test_an_epoch_does_not_wait_for_the_samples_turn(tmp_path):
    clock = HandClock()

    async def night() -> int:
        with Journal.create(tmp_path / "s.sqlite", META, clock) as journal:
            journal.record(chunk(0, 10))
            await journal.flush()
            clock.now += 1.1  # samples alone would wait until 1.2 s
            journal.record(chunk(10, 10))
            journal.epoch(epoch(0))
            await journal.outbox.after(-1)
            return journal.status.commits

    assert asyncio.run(asyncio.wait_for(night(), 60)) == 2


@pytest.mark.parametrize(
    ("took_s", "due_s"),
    [(0.05, 1.2), (1.0, 1.1), (1.2, 1.0)],  # the last two: the oldest sample is 1.25 s old by then, or 1.35
)
def test_the_longer_samples_waited_the_sooner_they_are_written(tmp_path, took_s, due_s):
    clock = HandClock()
    path = tmp_path / "s.sqlite"
    with FileLock(path) as lock:
        writer = Writer(path, session_file.create(path, META), lock, clock, 1 << 20)
        lock.keep()

    async def night():
        writer.samples(0, 0.0, clock.now, chunk(0, 10).samples, 0.1)
        await writer.flush()
        began = clock.now
        clock.now += 0.85
        writer.samples(10, 0.0, clock.now, chunk(10, 10).samples, took_s)
        assert writer.wait_s() == pytest.approx(due_s - 0.85)
        clock.now = began + 5

    asyncio.run(asyncio.wait_for(night(), 60))
    writer.close(60)


class WatchedClock(SystemClock):
    """Notes how often a thread other than the event loop's looks at it."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += threading.current_thread() is not threading.main_thread()
        return super().monotonic()


def test_with_nothing_to_write_it_sleeps(tmp_path):
    clock = WatchedClock()

    async def night() -> list[int]:
        with Journal.create(tmp_path / "s.sqlite", META, clock) as journal:
            looks = []
            for number in range(2):  # before the first transaction, and after it
                before = clock.looks
                for _ in range(200):
                    await asyncio.to_thread(int)  # every thread that wants to run can
                looks.append(clock.looks - before)
                journal.event(event(number))
                await journal.flush()
            return looks

    assert asyncio.run(asyncio.wait_for(night(), 60)) == [0, 0]


# Room.


def test_a_replay_waits_for_room_and_loses_nothing(tmp_path):
    path = tmp_path / "s.sqlite"

    async def replay() -> int:
        with Journal.create(path, META, HastyClock(), capacity_bytes=80_000) as journal:
            for start in range(0, 100_000, 1000):  # 8 kB each
                await journal.room()
                journal.record(chunk(start, 1000))
            return journal.status.dropped_samples

    assert asyncio.run(asyncio.wait_for(replay(), 60)) == 0
    assert indices(path) == list(range(100_000))


def test_what_does_not_fit_is_counted_and_listed(tmp_path):
    clock = HandClock()

    async def night() -> None:
        with Journal.create(tmp_path / "s.sqlite", META, clock, capacity_bytes=800) as journal:
            journal.record(chunk(0, 50))
            await journal.flush()  # the next transaction is a second away, and the clock stands
            for start in range(50, 350, 50):
                journal.record(chunk(start, 50))  # 400 bytes each
            journal.epoch(epoch(0))
            assert journal.status.dropped_samples == 200
            clock.now += 2
            await journal.flush()
            journal.record(chunk(350, 50))

    asyncio.run(asyncio.wait_for(night(), 60))
    assert indices(tmp_path / "s.sqlite") == [*range(150), *range(350, 400)]
    with JournalReader(tmp_path / "s.sqlite") as reader:
        assert list(reader.gaps()) == [Gap(150, 350, NOT_RECORDED)]
        assert len(list(reader.epochs())) == 1


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A full disk, as far as one process can have one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_neither_staging_nor_delivery_and_recording_resumes(tmp_path):
    path = tmp_path / "s.sqlite"

    async def night() -> None:
        with Journal.create(path, META, HastyClock(), capacity_bytes=2_000_000) as journal:
            journal.record(chunk(0, 1000))
            await journal.flush()
            with files_no_larger_than(300_000):
                for start in range(1000, 401_000, 1000):
                    journal.record(chunk(start, 1000))  # 3.2 MB
                journal.epoch(epoch(0))
                assert (await journal.outbox.after(-1)).kind == "epoch", "delivered though not written"
                await journal.room()  # does not hang
                status = journal.status
                assert status.state == "failing"
                assert status.reason
                assert status.dropped_samples > 0
                assert status.pending_bytes <= 2_000_000
                journal.epoch(epoch(1))
                assert (await journal.outbox.after(0)).id == 1
            await journal.flush()
            assert journal.status.state == "recording"
            assert journal.status.pending_bytes == 0
            journal.record(chunk(401_000, 1000))
            assert journal.status.dropped_samples == status.dropped_samples

    asyncio.run(asyncio.wait_for(night(), 60))
    found = indices(path)
    with JournalReader(path) as reader:
        lost = [index for gap in reader.gaps() for index in range(gap.start, gap.stop)]
        assert [payload.epoch for payload in reader.epochs()] == [0, 1]
    assert lost  # in one gap or more: a commit that still found room may lie between
    assert sorted([*found, *lost]) == list(range(402_000)), "every index once"


def make_read_only(journal: Journal, yes: bool) -> None:
    """SQLite then says what it says on a disk that was remounted so: permissions would not bind root."""
    writer = journal._writer
    with writer.lock:
        writer._home.db.execute(f"PRAGMA query_only = {yes:d}")


def test_a_disk_that_becomes_read_only_stops_neither_staging_nor_delivery(tmp_path, caplog):
    path = tmp_path / "s.sqlite"

    async def night() -> None:
        with Journal.create(path, META, HastyClock()) as journal:
            journal.record(chunk(0, 1000))
            await journal.flush()
            make_read_only(journal, True)
            journal.record(chunk(1000, 1000))
            journal.epoch(epoch(0))
            assert (await journal.outbox.after(-1)).kind == "epoch", "delivered though not written"
            await journal.room()  # does not hang
            assert journal.status.state == "failing"
            assert "readonly" in journal.status.reason
            make_read_only(journal, False)
            journal.record(chunk(2000, 1000))
            await journal.flush()
            assert journal.status.state == "recording"
            assert journal.status.dropped_samples == 0

    asyncio.run(asyncio.wait_for(night(), 60))
    assert indices(path) == list(range(3000))
    assert "readonly" in caplog.text
    with JournalReader(path) as reader:
        assert [payload.epoch for payload in reader.epochs()] == [0]


def test_a_session_for_which_there_is_no_room_is_refused_and_leaves_no_file(tmp_path):
    with files_no_larger_than(10_000), pytest.raises(DiskError, match="make room"):
        Journal.create(tmp_path / "s.sqlite", META, HastyClock())
    assert not (tmp_path / "s.sqlite").exists()
    with pytest.raises(JournalError) as refused:  # no disk ever takes this one
        Journal.create(tmp_path / "nowhere" / "s.sqlite", META, HastyClock())
    assert not isinstance(refused.value, DiskError)


def test_a_disk_that_stays_full_is_an_error_at_the_end(tmp_path):
    with files_no_larger_than(100_000):
        journal = Journal.create(tmp_path / "s.sqlite", META, HastyClock())
        journal.record(chunk(0, 100_000))
        with pytest.raises(JournalError, match="is incomplete"):
            journal.close()
        journal.close()  # said once
    assert journal.status.state == "closed"
    assert not held(tmp_path / "s.sqlite")
    assert outrun(tmp_path / "s.sqlite"), "the next start must know that this file does not tell everything"


def test_a_broken_file_is_reported_and_staging_goes_on(tmp_path, caplog):
    """What is no disk trouble ends the recording, never the night, and never in silence."""
    path = tmp_path / "s.sqlite"

    async def night() -> None:
        journal = Journal.create(path, META, HastyClock())
        journal.record(chunk(0, 10))
        await journal.flush()
        with sqlite3.connect(path) as vandal:
            vandal.execute("INSERT INTO epochs VALUES (0, 0, '', '', '', '', 0, '')")
        vandal.close()
        journal.epoch(epoch(0))
        assert (await journal.outbox.after(-1)).id == 0
        assert journal.status.state == "failed"
        assert "UNIQUE" in journal.status.reason
        journal.record(chunk(10, 10))
        with pytest.raises(JournalError, match="UNIQUE"):
            await journal.flush()
        with pytest.raises(JournalError, match="UNIQUE"):
            journal.close()

    with caplog.at_level(logging.CRITICAL, logger="streamer.journal.writer"):
        asyncio.run(asyncio.wait_for(night(), 60))
