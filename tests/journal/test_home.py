"""A session goes on at its place, whole, though its folder, file or log is taken away under way."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from streamer.journal import Journal, JournalReader
from streamer.journal.home import RETRY_S
from streamer.night.session import read_night
from tests.journals import META, HastyClock, chunk, epoch, indices


def deleted(path):
    shutil.rmtree(path.parent)


def renamed(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


def unlinked(path):
    path.unlink()


def without_log(path):
    path.with_name(path.name + "-wal").unlink()


def without_index(path):
    path.with_name(path.name + "-shm").unlink()


def both_unlinked(path):
    unlinked(path)
    without_log(path)


def moved_file(path):
    path.rename(path.with_name("moved.sqlite"))


@asynccontextmanager
async def recorded(path, clock=None):
    """A journal with 500 samples on disk."""
    with Journal.create(path, META, clock or HastyClock()) as journal:
        journal.record(chunk(0, 500))
        await journal.flush()
        yield journal


TAKEN, STEP = 600_000, 15_000  # enough for SQLite to have emptied its log in between, and to have begun anew
HARM = [deleted, renamed, unlinked, without_log, without_index, both_unlinked, moved_file]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_what_was_recorded_and_what_comes_is_at_its_place_again(tmp_path, harm):
    path = tmp_path / "night" / "s.sqlite"
    path.parent.mkdir()

    async def night():
        with Journal.create(path, META, HastyClock()) as journal:
            for number, start in enumerate(range(0, TAKEN, STEP)):
                journal.record(chunk(start, STEP))
                journal.epoch(epoch(number))
                await journal.flush()
            harm(path)
            journal.record(chunk(TAKEN, 500))
            await journal.flush()
            assert (journal.status.state, journal.status.remade) == ("recording", 1)
            with JournalReader(path) as reader:  # while it is written
                assert reader.last().index == TAKEN + 500
            journal.epoch(epoch(TAKEN // STEP))

    asyncio.run(asyncio.wait_for(night(), 60))
    assert indices(path) == list(range(TAKEN + 500))
    found = read_night(path)
    assert (len(found.epochs), found.missing) == (TAKEN // STEP + 1, ())
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(one.name for one in path.parent.iterdir() if one.name.startswith("s.")) == ["s.sqlite"]
    with Journal.resume(path, HastyClock()) as journal:
        assert journal.next_sample == TAKEN + 500


def test_where_it_cannot_be_put_again_it_is_said_and_tried_again(tmp_path):
    path = tmp_path / "night" / "s.sqlite"
    path.parent.mkdir()

    async def night():
        clock = HastyClock()
        async with recorded(path, clock) as journal:
            renamed(path)
            path.parent.write_text("in the way")
            journal.record(chunk(500, 500))
            await journal.flush()
            assert journal.status.state == "failing"
            assert "was deleted or moved" in journal.status.reason
            elsewhere = tmp_path / "elsewhere" / "s.sqlite"
            assert len(indices(elsewhere)) == 1000  # meanwhile it is recorded to where it lies
            path.parent.unlink()
            clock.now += RETRY_S
            journal.record(chunk(1000, 500))
            await journal.flush()
            assert (journal.status.state, journal.status.reason) == ("recording", "")

    asyncio.run(asyncio.wait_for(night(), 60))
    assert len(indices(path)) == 1500


def test_another_file_in_its_place_is_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"

    async def night():
        async with recorded(path) as journal:
            moved_file(path)
            path.write_text("somebody else's")
            journal.record(chunk(500, 500))
            await journal.flush()
            assert journal.status.state == "failing"
            assert "another file was put in the place" in journal.status.reason

    asyncio.run(asyncio.wait_for(night(), 60))
    assert path.read_text() == "somebody else's"
    os.rename(tmp_path / "moved.sqlite", tmp_path / "t.sqlite")
    assert len(indices(tmp_path / "t.sqlite")) == 1000


def test_a_disk_that_refuses_in_the_middle_of_it_costs_nothing(tmp_path):
    """The file is there again and its lock cannot be made: tried again, and recorded on meanwhile."""
    path = tmp_path / "night" / "s.sqlite"
    path.parent.mkdir()

    async def night():
        clock = HastyClock()
        async with recorded(path, clock) as journal:
            renamed(path)
            path.with_name(path.name + ".lock").mkdir(parents=True)
            journal.record(chunk(500, 500))
            await journal.flush()
            assert journal.status.state == "failing"
            path.with_name(path.name + ".lock").rmdir()
            clock.now += RETRY_S
            journal.record(chunk(1000, 500))
            await journal.flush()
            assert (journal.status.state, journal.status.remade) == ("recording", 1)

    asyncio.run(asyncio.wait_for(night(), 60))
    assert indices(path) == list(range(1500))
