"""What goes into a journal comes out, in order, also after kill -9."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer.clock import SystemClock, boot_id
from streamer.errors import JournalError
from streamer.journal import PROMISE_S, UNEXPLAINED, Journal, JournalReader
from streamer.journal.file import MIGRATIONS
from streamer.messages import Chunk, Gap
from tests.journals import META, HandClock, HastyClock, chunk, epoch, event, indices, take


def test_a_session_reads_back_as_it_was_handed_over(tmp_path):
    path = tmp_path / "s.sqlite"
    with Journal.create(path, META, HandClock()) as journal:
        for start, n in [(0, 7), (7, 0), (7, 1), (8, 100)]:
            journal.record(chunk(start, n, arrived=start + n))
        journal.record(Gap(108, 200, "radio", 5.0))
        journal.record(chunk(200, 56))
        journal.epoch(epoch(0))
        journal.event(event(0))
        journal.clock_pair()
        assert journal.next_sample == 256
    assert files(tmp_path) == ["s.sqlite"], "no lock, WAL or shared memory is left behind"
    assert indices(path) == [*range(108), *range(200, 256)]
    with JournalReader(path) as reader:
        assert reader.meta == META
        assert list(reader.gaps()) == [Gap(108, 200, "radio", 5.0)]
        assert list(reader.epochs()) == [epoch(0)]
        assert list(reader.events()) == [event(0)]
        assert [(sample, wall - steady) for sample, wall, steady in reader.raw("clocks")] == [
            (256, 1_700_000_000.0)
        ]
        assert [p.kind for p in reader.parcels()] == ["epoch", "event"]
        (arrived,) = (block.arrived for block in reader.samples() if block.stop == 108)
        assert arrived == 108  # of the last sample in the row
    assert files(tmp_path) == ["s.sqlite"], "nor does reading leave any"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_samples_can_be_read_from_the_middle(tmp_path):
    with Journal.create(tmp_path / "s.sqlite", META, HastyClock()) as journal:
        journal.record(chunk(0, 1000))
    with JournalReader(tmp_path / "s.sqlite") as reader:
        (block,) = reader.samples(start=990)
    assert block.samples[0].tolist() == list(range(990, 1000))


def test_large_and_small_chunks_share_rows_of_bounded_size(tmp_path):
    path = tmp_path / "s.sqlite"
    with Journal.create(path, META, HandClock()) as journal:
        journal.record(chunk(0, 200_000))  # 1.6 MB in one piece
        for start in range(200_000, 200_300):
            journal.record(chunk(start, 1))
    assert len(indices(path)) == 200_300
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone()[0] <= 3
    db.close()


def test_the_source_may_reuse_its_buffer(tmp_path):
    buffer = chunk(0, 10)
    with Journal.create(tmp_path / "s.sqlite", META, HandClock()) as journal:
        journal.record(buffer)
        buffer.samples[:] = 7.0
    assert indices(tmp_path / "s.sqlite") == list(range(10))


def test_nothing_is_rewritten_and_no_index_is_left_out(tmp_path):
    with Journal.create(tmp_path / "s.sqlite", META, HandClock()) as journal:
        journal.record(chunk(0, 10))
        with pytest.raises(ValueError, match="sample 5 comes after 9"):
            journal.record(chunk(5, 10))
        with pytest.raises(ValueError, match="3 channels, not 2"):
            journal.record(Chunk(10, np.zeros((3, 1))))
        journal.record(chunk(15, 5))
        journal.epoch(epoch(3))
        with pytest.raises(ValueError, match="what is written stays"):
            journal.epoch(epoch(3))
        journal.event(event(3))
        with pytest.raises(ValueError, match="what is written stays"):
            journal.event(event(2))
    with pytest.raises(JournalError, match="closed"):
        journal.record(chunk(20, 1))
    with JournalReader(tmp_path / "s.sqlite") as reader:
        assert list(reader.gaps()) == [Gap(10, 15, UNEXPLAINED)]


def test_the_file_is_synced_at_every_commit_and_says_what_it_is(tmp_path):
    path = tmp_path / "s.sqlite"
    with Journal.create(path, META, HandClock()) as journal:
        # No public door to the connection, and a second one would have its own setting.
        (synchronous,) = journal._writer._home.db.execute("PRAGMA synchronous").fetchone()
        (mode,) = journal._writer._home.db.execute("PRAGMA journal_mode").fetchone()
    assert (synchronous, mode) == (2, "wal")
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA application_id").fetchone()[0] == int.from_bytes(b"SlSt")
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    db.close()


# The outbox.


def test_parcels_come_in_order_and_stay_until_acknowledged(tmp_path):
    path = tmp_path / "s.sqlite"

    async def first_life() -> None:
        with Journal.create(path, META, HastyClock()) as journal:
            for number in range(5):
                journal.epoch(epoch(number))
            journal.outbox.append("event", "{}", 1.0)
            assert await take(journal, 6) == [0, 1, 2, 3, 4, 5]
            assert len(journal.outbox) == 6
            for number in (0, 1, 3, 3, 99):  # twice and unknown do no harm
                journal.outbox.acknowledge(number)

    async def second_life() -> None:
        with Journal.resume(path, HastyClock()) as journal:
            assert await take(journal, 3) == [2, 4, 5]
            for number in (2, 4, 5):
                journal.outbox.acknowledge(number)
            waiting = asyncio.create_task(journal.outbox.after(5))
            journal.event(event(0))
            assert (await waiting).id == 6, "an id is never given twice, even when all are gone"
            with pytest.raises(ValueError, match="what is written stays"):
                journal.epoch(epoch(4))

    asyncio.run(asyncio.wait_for(first_life(), 60))
    asyncio.run(asyncio.wait_for(second_life(), 60))
    with JournalReader(path) as reader:
        assert [parcel.id for parcel in reader.parcels()] == [6]
        assert len(list(reader.epochs())) == 5


def test_without_delivery_nothing_piles_up(tmp_path):
    with Journal.create(tmp_path / "s.sqlite", META, HandClock(), deliver=False) as journal:
        journal.epoch(epoch(0))
        journal.event(event(0))
        assert len(journal.outbox) == 0
    with JournalReader(tmp_path / "s.sqlite") as reader:
        assert list(reader.parcels()) == []
        assert len(list(reader.epochs())) == 1


def test_a_cancelled_reader_leaves_the_outbox_working(tmp_path):
    async def night() -> None:
        with Journal.create(tmp_path / "s.sqlite", META, HastyClock()) as journal:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(journal.outbox.after(-1), 0.01)
            journal.epoch(epoch(0))
            assert (await journal.outbox.after(-1)).kind == "epoch"

    asyncio.run(asyncio.wait_for(night(), 60))


# kill -9.


class Slow(SystemClock):
    """Seconds of ten: what is promised within two of them holds on a disk that takes its time, too."""

    LENGTH = 10.0

    def monotonic(self) -> float:
        return super().monotonic() / self.LENGTH

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds * self.LENGTH)


async def live(path: Path, epochs: bool) -> None:
    """What a child process does until it is killed: record, and say what it has handed over.

    Epochs come far too often, so that one is always young; without them the samples keep their own pace.
    """
    clock = Slow()
    with Journal.create(path, META, clock) as journal:

        async def deliver() -> None:
            last = -1
            while True:
                last = (await journal.outbox.after(last)).id
                print("delivered", last, clock.monotonic(), flush=True)

        delivering = asyncio.create_task(deliver(), name="deliver")
        for tick in range(1000):
            journal.record(chunk(tick * 13, 13))
            print("sample", tick * 13 + 12, clock.monotonic(), flush=True)
            if epochs and tick % 7 == 0:
                journal.epoch(epoch(tick // 7))
                print("epoch", tick // 7, clock.monotonic(), flush=True)
            await clock.sleep(0.03)
        delivering.cancel()


def child(path: Path, *, epochs: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.journal.test_recorder", str(path), "epochs" if epochs else ""]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed_at(child: subprocess.Popen[str], seconds: float) -> tuple[list[list[str]], float]:
    """Let a child live for so long by its own log, kill it, and return the log and the time of death."""
    assert child.stdout is not None
    log = [child.stdout.readline().split()]
    while float(log[-1][2]) < float(log[0][2]) + seconds:
        log.append(child.stdout.readline().split())
    died = Slow().monotonic()
    child.kill()
    rest, _ = child.communicate()
    return log + [line.split() for line in rest.splitlines() if line.count(" ") == 2], died


def check_the_promise(path: Path, log: list[list[str]], died: float) -> None:
    old = [(kind, int(number)) for kind, number, t in log if float(t) < died - PROMISE_S]
    found = indices(path)
    assert found == list(range(len(found))), "no hole, and no half chunk"
    assert len(found) > max(number for kind, number in old if kind == "sample")
    with JournalReader(path) as reader:
        epochs = [payload.epoch for payload in reader.epochs()]
        parcels = [parcel.id for parcel in reader.parcels()]
    assert epochs == list(range(len(epochs))) == parcels
    assert len(epochs) > max((number for kind, number in old if kind == "epoch"), default=-1)
    delivered = [int(number) for kind, number, _ in log if kind == "delivered"]
    assert delivered == list(range(len(delivered)))
    assert set(delivered) <= set(epochs), "what was published is on disk, however young"


@pytest.mark.slow
def test_kill_9_costs_less_than_two_seconds(tmp_path):
    rng = random.Random(5)
    paths = [tmp_path / f"{number}.sqlite" for number in range(5)]
    children = [child(path, epochs=number % 2 == 1) for number, path in enumerate(paths)]
    ages = [2.2 + 0.15 * number + rng.uniform(0, 0.15) for number in range(len(paths))]
    try:
        for process, path, age in zip(children, paths, ages, strict=True):
            log, died = killed_at(process, age)
            check_the_promise(path, log, died)
            with Journal.resume(path, SystemClock()) as journal:  # the lock died with its owner
                assert journal.next_sample == len(indices(path))
    finally:
        for process in children:
            process.kill()
            process.wait()
            process.stdout.close()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), epochs=sys.argv[2] == "epochs"))


class SetClock(HandClock):
    """Its wall clock can be set; the steady one goes on."""

    set_s = 0.0

    def wall(self):
        return super().wall() + self.set_s


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_makes_no_message_late_or_early(tmp_path, step_s):
    clock = SetClock()
    meta = replace(META, boot=boot_id())
    with Journal.create(tmp_path / "s.sqlite", meta, clock) as journal:
        journal.epoch(epoch(0))
        clock.set_s, clock.now = step_s, clock.now + 5
        parcel = asyncio.run(take_one(journal))
        assert parcel.age_s(clock) == pytest.approx(5)
        journal.record(chunk(0, 10, clock.now))
    clock.now += 7  # another process, on the same start of the computer
    with Journal.resume(tmp_path / "s.sqlite", clock) as journal:
        parcel = asyncio.run(take_one(journal))
        # By the last moment of which both clocks are known; in doubt it is late, and never early.
        assert parcel.age_s(clock) == (math.inf if step_s < 0 else pytest.approx(12 + step_s))


def test_what_was_left_before_the_computer_was_started_anew_is_late(tmp_path, monkeypatch):
    clock = HandClock()
    monkeypatch.setattr("streamer.journal.recorder.boot_id", lambda: "first")
    with Journal.create(tmp_path / "s.sqlite", replace(META, boot="first"), clock) as journal:
        journal.record(chunk(0, 10, clock.now))
        journal.epoch(epoch(0))
    monkeypatch.setattr("streamer.journal.recorder.boot_id", lambda: "second")
    with Journal.resume(tmp_path / "s.sqlite", clock) as journal:
        assert asyncio.run(take_one(journal)).age_s(clock) == math.inf


async def take_one(journal):
    return await asyncio.wait_for(journal.outbox.after(-1), 60)
