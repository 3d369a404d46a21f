"""Session files of another kind, another version or another owner are refused and left alone."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from streamer.commands.recover import recover
from streamer.errors import JournalError
from streamer.journal import Journal, JournalReader
from streamer.journal.file import CACHE_KIB, Batch, Block, create, write
from tests.journals import META, HandClock, chunk, epoch


def test_two_writers_on_one_session_are_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    with Journal.create(path, META, HandClock()):
        with pytest.raises(JournalError, match="in use"):
            Journal.resume(path, HandClock())
        with pytest.raises(JournalError, match="in use"):
            Journal.create(path, META, HandClock())
        with JournalReader(path) as reader:
            assert reader.meta == META
    Journal.resume(path, HandClock()).close()
    with pytest.raises(JournalError, match="never overwritten"):
        Journal.create(path, META, HandClock())
    assert not (tmp_path / "s.sqlite.lock").exists()


def recorded(path: Path) -> bytes:
    with Journal.create(path, META, HandClock()) as journal:
        journal.record(chunk(0, 50_000))
        journal.epoch(epoch(0))
    return path.read_bytes()


def foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE cookies (crumb)")
    db.close()


def newer_version(path: Path) -> None:
    recorded(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a session" * 1000),
    "foreign": foreign_database,
    "newer": newer_version,
    "truncated": lambda path: path.write_bytes(recorded(path)[:100_000]),
    "header only": lambda path: path.write_bytes(recorded(path)[:100]),
    "scrawled": lambda path: path.write_bytes(recorded(path)[:4096] + b"\xff" * 20_000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_foreign_and_damaged_files_are_refused_and_left_alone(tmp_path, damage):
    path = tmp_path / "s.sqlite"
    DAMAGE[damage](path)
    before = path.read_bytes()
    with pytest.raises(JournalError):
        Journal.resume(path, HandClock())
    with pytest.raises(JournalError), JournalReader(path) as reader:
        assert [*reader.samples(), *reader.epochs()]
    with pytest.raises(JournalError):
        Journal.create(path, META, HandClock())
    assert path.read_bytes() == before


def test_a_schema_that_sqlite_quotes_in_several_lines_is_said_in_one(tmp_path):
    """What the fuzzer found."""
    path = tmp_path / "s.sqlite"
    data = recorded(path)
    path.write_bytes(data.replace(b"start INTEGER PRIMARY KEY", b"[tart INTEGER PRIMARY KEY"))
    for attempt in (JournalReader, lambda path: recover(path, tmp_path / "saved.sqlite")):
        with pytest.raises(JournalError) as caught:
            attempt(path)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_one_line_errors(tmp_path):
    for call in (
        lambda path: Journal.create(path, META, HandClock()),
        lambda path: Journal.resume(path, HandClock()),
        JournalReader,
    ):
        with pytest.raises(JournalError) as caught:
            call(tmp_path / "no" / "s.sqlite")
        assert "\n" not in str(caught.value)


def test_a_writer_keeps_little_in_memory(tmp_path):
    with contextlib.closing(create(tmp_path / "s.sqlite", META)) as db:
        assert db.execute("PRAGMA cache_size").fetchone() == (-CACHE_KIB,)


class Counting(sqlite3.Connection):
    """Counts its cursors; each leaves an object behind that every search for garbage looks at."""

    cursors = 0

    def cursor(self, *given, **named):
        self.cursors += 1
        return super().cursor(*given, **named)


def test_all_transactions_are_written_with_one_cursor(tmp_path):
    create(tmp_path / "s.sqlite", META).close()
    db = sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None, factory=Counting)
    pen = db.cursor()
    for start in range(0, 60, 10):
        blocks = [Block(start, 0.0, 0.0, chunk(start, 10).samples)]
        rows = [("INSERT INTO clocks VALUES (?, ?, ?)", (start, 0.0, 0.0))] * (start % 20 // 10)
        write(pen, Batch(blocks=blocks, rows=rows))
    assert db.cursors == 1
    assert db.execute("SELECT count(*) FROM samples").fetchone() == (6,)
    assert db.execute("SELECT count(*) FROM clocks").fetchone() == (3,)
    db.close()
