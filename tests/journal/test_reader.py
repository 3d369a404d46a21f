"""A session is read whole, under any of its names; a row that cannot be read is listed and costs no other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from streamer.errors import DamagedError, JournalError
from streamer.journal import Journal, JournalReader
from streamer.journal.lock import held
from streamer.messages import Gap
from streamer.night.session import read_items, read_night
from tests.journals import META, HandClock, HastyClock, chunk, epoch, event

NOBODY = 65534


def recorded(path: Path, closed: bool = True) -> Path:
    """Ten seconds, a loss of one, two epochs and three events."""
    with Journal.create(path, META, HandClock()) as journal:
        journal.record(chunk(0, 1280))
        journal.record(Gap(1280, 1536, "radio"))
        journal.record(chunk(1536, 1024))
        for number in range(2):
            journal.epoch(epoch(number))
        for number in range(3):
            journal.event(event(number))
    if not closed:
        change(path, "DELETE FROM meta WHERE key = 'closed'")
    return path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def give_up() -> None:
    """Be nobody, if we are root, who may write everywhere."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)


def whole(path: Path) -> None:
    """The reader and the night say all of `recorded`, and nothing is missing."""
    night = read_night(path)
    assert (len(night.epochs), len(night.events), night.n_samples) == (2, 3, 2560)
    assert night.missing == ()
    assert sum(item.stop - item.start for item in read_items(path) if not isinstance(item, Gap)) == 2304


BAD_ROWS = {
    "an empty gap": ("INSERT INTO gaps VALUES (9, 700, 700, '', 0, 0)", "gaps"),
    "a reversed gap": ("INSERT INTO gaps VALUES (9, 700, 600, '', 0, 0)", "gaps"),
    "a gap without a place": ("INSERT INTO gaps VALUES (9, 'NaN', 600, '', 0, 0)", "gaps"),
    "a gap at no time": ("INSERT INTO gaps VALUES (9, 700, 800, '', 9e999, 0)", "gaps"),
    "samples that overlap": ("INSERT INTO samples VALUES (100, 1, 0, 0, zeroblob(8))", "samples"),
    "samples of another size": ("INSERT INTO samples VALUES (9999, 5, 0, 0, zeroblob(7))", "samples"),
    "samples before the night": ("INSERT INTO samples VALUES (-5, 1, 0, 0, zeroblob(8))", "samples"),
    "an epoch of junk": ("INSERT INTO epochs VALUES (9, 2, '', '', '', '', 0, '{]')", "epochs"),
    "an epoch of the year 5000": (
        "INSERT INTO epochs VALUES (9, 99999999, '', '', '', '', 0, '{}')",
        "epochs",
    ),
    "an event of a later version": (
        """INSERT INTO events VALUES (9, '', 'levitated', '{"schema":"sleepstream/event/1","session":"s1",
        "seq":9,"t":"2026-01-01T00:00:00Z","event":"levitated"}')""",
        "events",
    ),
    "an event that is no text": ("INSERT INTO events VALUES (9, '', 'mark', x'ff')", "events"),
}


@pytest.mark.parametrize(("statement", "table"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_one_bad_row_leaves_the_rest_of_the_night_readable_and_is_listed(tmp_path, statement, table):
    path = recorded(tmp_path / "s.sqlite")
    change(path, statement)
    night = read_night(path)
    assert (len(night.epochs), len(night.events), night.n_samples) == (2, 3, 2560)
    at = 0
    for item in read_items(path):
        assert item.start == at
        at = item.stop
    assert at == 2560
    with JournalReader(path) as reader:
        for everything in (reader.samples, reader.gaps, reader.epochs, reader.events):
            list(everything())
        assert [line for line in reader.missing if f"1 rows of table {table}" in line]


def test_a_session_with_a_bad_row_is_continued(tmp_path):
    path = recorded(tmp_path / "s.sqlite")
    change(path, BAD_ROWS["samples of another size"][0], BAD_ROWS["a reversed gap"][0])
    with Journal.resume(path, HandClock()) as journal:
        assert journal.next_sample == 2560


def test_an_empty_gap_is_not_recorded_and_a_reversed_one_refused(tmp_path):
    with Journal.create(tmp_path / "s.sqlite", META, HandClock()) as journal:
        journal.record(chunk(0, 10))
        journal.record(Gap(10, 10, "nothing"))
        with pytest.raises(ValueError, match="a gap from 12 to 11"):
            journal.record(Gap(12, 11, "backwards"))
    with JournalReader(tmp_path / "s.sqlite") as reader:
        assert list(reader.gaps()) == []


def test_samples_outweigh_a_gap_that_overlaps_them(tmp_path):
    path = recorded(tmp_path / "s.sqlite")
    change(path, "INSERT INTO gaps VALUES (9, 500, 2000, '', 0, 0)")
    assert [(one.start, one.stop) for one in read_items(path) if isinstance(one, Gap)] == [(1280, 1536)]


# ---- where the file lies


@pytest.fixture
def unfinished(tmp_path):
    """A session that is being recorded: the newest part of it lies in the log beside the file."""
    path = tmp_path / "night" / "s.sqlite"
    path.parent.mkdir()
    recorded(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM meta WHERE key = 'closed'")
        db.execute("DELETE FROM events WHERE seq = 2")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        last = event(2).model_dump_json(by_alias=True)
        db.execute("INSERT INTO events VALUES (2, '', 'mark', ?)", (last,))
        db.commit()
        yield path


def test_a_session_is_whole_through_a_symbolic_link(unfinished, tmp_path):
    link = tmp_path / "link.sqlite"
    link.symlink_to(unfinished)
    whole(link)
    again = tmp_path / "folder"
    again.symlink_to(unfinished.parent)
    whole(again / "s.sqlite")


def test_a_session_that_is_written_is_held_under_the_name_of_a_link_too(tmp_path):
    path, link = tmp_path / "s.sqlite", tmp_path / "link.sqlite"
    with Journal.create(path, META, HandClock()):
        link.symlink_to(path)
        assert held(link)
        with pytest.raises(JournalError, match="in use"):
            Journal.resume(link, HandClock())
    assert not held(link)


def test_a_session_is_whole_through_a_hard_link_beside_it(unfinished):
    link = unfinished.with_name("other.sqlite")
    os.link(unfinished, link)
    whole(link)


def test_a_hard_link_elsewhere_and_a_copy_without_its_log_are_said_to_lack_something(unfinished, tmp_path):
    os.link(unfinished, tmp_path / "link.sqlite")
    shutil.copyfile(unfinished, tmp_path / "copy.sqlite")
    for path in (tmp_path / "link.sqlite", tmp_path / "copy.sqlite"):
        (line,) = read_night(path).missing
        assert f"{path.name}-wal is not beside it" in line


def test_a_file_that_its_writer_let_go_of_lacks_nothing(tmp_path):
    whole(recorded(tmp_path / "s.sqlite"))
    (line,) = read_night(recorded(tmp_path / "t.sqlite", closed=False)).missing
    assert "was not closed" in line
    Journal.resume(tmp_path / "t.sqlite", HandClock()).close()
    whole(tmp_path / "t.sqlite")


def test_a_session_with_a_log_is_whole_in_a_folder_that_cannot_be_written(unfinished):
    with tempfile.TemporaryDirectory() as outside:  # for pytest's own folders are closed to others
        Path(outside).chmod(0o755)
        folder = Path(outside) / "ro"
        shutil.copytree(unfinished.parent, folder, ignore=shutil.ignore_patterns("*-shm"))
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        code = "import sys, tests.journal.test_reader as t; t.give_up(); t.whole(t.Path(sys.argv[1]))"
        command = [sys.executable, "-c", code, str(folder / "s.sqlite")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr


def test_a_copy_that_was_made_while_it_was_written_is_whole_or_refused(tmp_path):
    """First the file and then its log, as `cp` does; when the log was emptied in between, they do not fit."""
    path = tmp_path / "s.sqlite"

    async def night():
        waiting, copies = [], []
        with Journal.create(path, META, HastyClock()) as journal:
            for number in range(60):
                journal.record(chunk(number * 20_000, 20_000))
                journal.epoch(epoch(number))
                await journal.flush()
                for copy, due in waiting:
                    if due == number:
                        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
                        copies.append((copy, number + 1))
                if number % 3 == 0:
                    copy = tmp_path / f"copy {number}.sqlite"
                    shutil.copyfile(path, copy)
                    waiting.append((copy, number + 1 + number % 8))
        return copies

    whole = 0
    for copy, epochs in asyncio.run(night()):
        with contextlib.suppress(DamagedError):
            read = read_night(copy)
            assert read.missing == ()
            assert (len(read.epochs), read.n_samples) == (epochs, epochs * 20_000)
            whole += 1
    assert whole >= 10
