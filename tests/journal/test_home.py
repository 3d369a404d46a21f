"""A session goes on at its place, whole, though its folder, file or log is taken away under way."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from streamer.journal import Journal, JournalReader
from streamer.journal.home import RETRY_S
from streamer.session import read_night
from tests.journals import META, HastyClock, chunk, epoch, indices


def deleted(path):
    shutil.rmtree(path.parent)


def renamed(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


def unlinked(path):
    path.unlink()


def without_log(path):
    path.with_name(path.name + "-wal").unlink()


def both_unlinked(path):
    unlinked(path)
    without_log(path)


def moved_file(path):
    path.rename(path.with_name("moved.sqlite"))


HARM = [deleted, renamed, unlinked, without_log, both_unlinked, moved_file]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_what_was_recorded_and_what_comes_is_at_its_place_again(tmp_path, harm):
    path = tmp_path / "night" / "s.sqlite"
    path.parent.mkdir()

    async def night():
        with Journal.create(path, META, HastyClock()) as journal:
            journal.record(chunk(0, 500))
            journal.epoch(epoch(0))
            await journal.flush()
            harm(path)
            journal.record(chunk(500, 500))
            await journal.flush()
            assert (journal.status.state, journal.status.remade) == ("recording", 1)
            with JournalReader(path) as reader:  # while it is written
                assert reader.last().index == 1000
            journal.epoch(epoch(1))

    asyncio.run(asyncio.wait_for(night(), 20))
    assert indices(path) == list(range(1000))
    found = read_night(path)
    assert (len(found.epochs), found.missing) == (2, ())
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(one.name for one in path.parent.iterdir() if one.name.startswith("s.")) == ["s.sqlite"]
    with Journal.resume(path, HastyClock()) as journal:
        assert journal.next_sample == 1000


def test_where_it_cannot_be_put_again_it_is_said_and_tried_again(tmp_path):
    path = tmp_path / "night" / "s.sqlite"
    path.parent.mkdir()

    async def night():
        clock = HastyClock()
        with Journal.create(path, META, clock) as journal:
            journal.record(chunk(0, 500))
            await journal.flush()
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

    asyncio.run(asyncio.wait_for(night(), 20))
    assert len(indices(path)) == 1500


def test_another_file_in_its_place_is_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"

    async def night():
        with Journal.create(path, META, HastyClock()) as journal:
            journal.record(chunk(0, 500))
            await journal.flush()
            moved_file(path)
            path.write_text("somebody else's")
            journal.record(chunk(500, 500))
            await journal.flush()
            assert journal.status.state == "failing"
            assert "another file was put in the place" in journal.status.reason

    asyncio.run(asyncio.wait_for(night(), 20))
    assert path.read_text() == "somebody else's"
    os.rename(tmp_path / "moved.sqlite", tmp_path / "t.sqlite")
    assert len(indices(tmp_path / "t.sqlite")) == 1000
