"""Files that are due together wait for the disk once; none counts as recorded before it has answered."""

import asyncio
import ctypes
import errno
import os
import threading
from contextlib import ExitStack

import pytest

from streamer.journal import Journal, scribe
from streamer.journal import file as session_file
from streamer.journal.writer import Writer
from tests.journals import META, HandClock, HastyClock, chunk, epoch, indices

SLEEPERS = scribe.TOGETHER + 2
PATIENCE_S = 60


class Disk:
    """What has all files wait: counts, looks at the journals, and refuses when it is told to."""

    def __init__(self, monkeypatch):
        self.journals = []
        self.commits = []  # of each journal, while it was waited for
        self.refuses = False
        monkeypatch.setattr(scribe, "SYNC_ALL", self)

    def __call__(self, descriptor):
        assert os.fstat(descriptor)
        self.commits.append([journal.status.commits for journal in self.journals])
        ctypes.set_errno(errno.EIO)
        return -1 if self.refuses else 0


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


class Gate:
    """While it is shut no transaction ends, so that others become due meanwhile."""

    def __init__(self):
        self.reached = threading.Event()  # a transaction has begun
        self.opened = threading.Event()
        self._write = session_file.write

    def write(self, db, batch):
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)
        self._write(db, batch)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate()
    monkeypatch.setattr(session_file, "write", gate.write)
    yield gate
    gate.opened.set()


def night(folder, disk, gate, clock, rest):
    """Journals of which all but the first become due while that is written; then whatever `rest` does."""

    async def scenario():
        with ExitStack() as stack:
            first, *others = (
                stack.enter_context(Journal.create(folder / f"s{number}.sqlite", META, clock()))
                for number in range(SLEEPERS)
            )
            disk.journals = others
            first.record(chunk(0, 10))
            assert await asyncio.to_thread(gate.reached.wait, PATIENCE_S), "nobody writes the first"
            for journal in others:
                journal.record(chunk(0, 10))
                journal.epoch(epoch(0))
            gate.opened.set()
            await rest(others)

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


def test_many_wait_for_the_disk_once_and_count_as_recorded_afterwards(tmp_path, disk, gate):
    async def rest(journals):
        await asyncio.gather(*(journal.flush() for journal in journals))
        assert disk.commits == [[0] * len(journals)]
        assert [journal.status.commits for journal in journals] == [1] * len(journals)

    night(tmp_path, disk, gate, HandClock, rest)
    assert [indices(path) for path in sorted(tmp_path.glob("*.sqlite"))] == [list(range(10))] * SLEEPERS


def test_a_disk_that_refuses_all_of_them_is_asked_again_and_nothing_is_written_twice(tmp_path, disk, gate):
    disk.refuses = True

    async def rest(journals):
        for journal in journals:
            assert (await journal.outbox.after(-1)).kind == "epoch", "delivered though it may not be on disk"
        assert {journal.status.state for journal in journals} == {"failing"}
        disk.refuses = False
        for journal in journals:
            journal.record(chunk(10, 10))
            await journal.flush()
        assert {journal.status.state for journal in journals} == {"recording"}
        assert {journal.status.pending_bytes for journal in journals} == {0}

    night(tmp_path, disk, gate, HastyClock, rest)
    assert len(disk.commits) >= 1
    for number in range(1, SLEEPERS):
        assert indices(tmp_path / f"s{number}.sqlite") == list(range(20))


def test_one_that_is_closed_in_between_waits_for_the_disk_itself(tmp_path, disk, gate):
    closed = []

    def closes(descriptor):
        journal = disk.journals[0]
        journal.close()
        closed.append(journal.status)
        return 0

    async def rest(journals):
        await asyncio.gather(*(journal.flush() for journal in journals))

    scribe.SYNC_ALL = closes  # the fixture puts it back
    night(tmp_path, disk, gate, HandClock, rest)
    assert [status.state for status in closed] == ["closed"]
    assert indices(tmp_path / "s1.sqlite") == list(range(10))


def test_a_fault_in_one_of_them_ends_the_recording_of_none(tmp_path, disk, gate, monkeypatch, caplog):
    heard, synced = [], Writer.synced

    def fails_once(writer, error):
        heard.append(writer)
        if len(heard) == 1:
            raise ZeroDivisionError("ours")
        synced(writer, error)

    monkeypatch.setattr(Writer, "synced", fails_once)

    async def rest(journals):
        for start in (10, 20):
            for journal in journals:
                journal.record(chunk(start, 10))
                await journal.flush()

    night(tmp_path, disk, gate, HastyClock, rest)
    assert "internal error with the files" in caplog.text
    for number in range(1, SLEEPERS):
        assert indices(tmp_path / f"s{number}.sqlite") == list(range(30))


def test_few_files_wait_each_for_itself(tmp_path, disk):
    async def scenario():
        with (
            Journal.create(tmp_path / "a.sqlite", META, HastyClock()) as one,
            Journal.create(tmp_path / "b.sqlite", META, HastyClock()) as other,
        ):
            for journal in (one, other):
                journal.record(chunk(0, 10))
            await asyncio.gather(one.flush(), other.flush())

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))
    assert disk.commits == []


def test_its_thread_ends_with_the_last_file(tmp_path):
    def threads():
        return [one for one in threading.enumerate() if one.name == f"journals in {tmp_path.name}"]

    for _ in range(2):
        with Journal.create(tmp_path / "a.sqlite", META, HandClock()):
            (thread,) = threads()
        thread.join(PATIENCE_S)
        assert not threads()
        (tmp_path / "a.sqlite").unlink()


class Dated:
    """A file that is due at a moment, and counts what its scribe asks of it."""

    device = 0

    def __init__(self, path, clock, due):
        self.path, self._clock, self._due = path, clock, due
        self.looks = 0
        self.written = threading.Event()

    def wait_s(self):
        self.looks += 1
        return self._due - self._clock.now

    def write(self, together):
        self.together = together
        self.written.set()
        return False


def test_files_that_are_due_soon_are_written_with_the_first_and_others_are_not_looked_at(
    tmp_path, monkeypatch
):
    clock = HandClock()
    monkeypatch.setattr(scribe, "CLOCK", clock)
    soon = [Dated(tmp_path / f"{n}", clock, clock.now + 0.1 + 0.02 * n) for n in range(scribe.TOGETHER)]
    later = Dated(tmp_path / "later", clock, clock.now + 0.1 + 2 * scribe.EARLY_S)
    writer = scribe.Scribe.of(tmp_path)
    for file in (*soon, later):
        writer.take(file)
        writer.within(file, file.wait_s())
    clock.now += 0.1  # the first one is due
    try:
        assert all(file.written.wait(20) for file in soon)
        assert all(file.together for file in soon)
        assert [file.looks for file in (*soon, later)] == [2] * len(soon) + [1]
    finally:
        for file in (*soon, later):
            writer.leave(file)
