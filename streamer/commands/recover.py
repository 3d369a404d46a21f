"""`sleepstream recover`: copies what can be read of a damaged session file into a new one."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import JournalError, UsageError
from streamer.journal import file as session_file
from streamer.journal.file import APPLICATION_ID, PRUNED
from streamer.journal.pieces import spans, unpacked
from streamer.journal.reader import PACKING
from streamer.journal.rows import COLUMNS, Meta, Row, read_meta, whole
from streamer.messages import StreamInfo

KEYS = {
    "samples": "start",
    "packed": "start",
    "gaps": "id",
    "epochs": "seq",
    "events": "seq",
    "clocks": "rowid",
    "outbox": "id",
}
UNREADABLE = "recorded, but the session file was damaged here"
LONGEST_LEAP = 1 << 40  # larger than any key


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of `recover`."""

    path: Path  # of the new file
    rows: dict[str, int]  # table -> rows saved
    breaks: int  # number of places that could not be read
    lost_samples: int  # newly lost: they were neither saved nor listed as a gap before


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream recover`."""
    parser.add_argument("file", type=Path, metavar="SESSION.sqlite", help="the damaged session file")
    parser.add_argument("--to", type=Path, metavar="FILE", help="default: SESSION.recovered.sqlite beside it")


def run(asked: argparse.Namespace) -> int:
    """Save what can be read; return the exit code."""
    saved = recover(asked.file, asked.to or asked.file.with_name(f"{asked.file.stem}.recovered.sqlite"))
    rows = ", ".join(f"{count} {table}" for table, count in saved.rows.items())
    print(
        f"written to {saved.path}: {rows} (rows); {saved.breaks} places could not be read, "
        f"{saved.lost_samples} samples are lost and listed as gaps"
    )
    return 0


def recover(damaged: Path, to: Path) -> Recovered:
    """Copy every row that can be read; missing samples become gaps. The damaged file is not changed.

    Raises:
        UsageError: `damaged` does not exist, or `to` does.
        JournalError: the session's metadata cannot be read, or the new file cannot be written.

    """
    if not damaged.is_file():
        raise UsageError(f"no such file: {damaged}; give the path of a session file")
    if to.exists():
        raise UsageError(f"{to} exists and is not overwritten; give another name with --to")
    uri = f"{damaged.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as source:
        meta = _meta(source, damaged)
        with closing(session_file.create(to, meta)) as target:
            rows, breaks = {}, 0
            for table in KEYS:
                if table == "packed" and not _may_be_packed(source):
                    continue
                rows[table], broken = _copy(source, target, table, meta.info)
                breaks += broken
            lost = 0 if _carry_pruned(source, target) else _list_holes(target)
            session_file.mark_closed(target)
    return Recovered(to, rows, breaks, lost)


def _meta(source: sqlite3.Connection, path: Path) -> Meta:
    """Read the session's metadata, without which nothing can be saved."""
    try:
        (found,) = source.execute("SELECT application_id FROM pragma_application_id").fetchone()
        meta = read_meta(source.execute("SELECT key, value FROM meta"))
    except (sqlite3.Error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise JournalError(
            f"{path}: nothing can be saved, because its metadata cannot be read ({reason})"
        ) from error
    if found != APPLICATION_ID:
        raise JournalError(f"{path} is not a sleepstream session (application id {found:#x})")
    return meta


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, table: str, info: StreamInfo
) -> tuple[int, int]:
    """Copy one table; return the number of rows saved, and of places that could not be read."""
    columns, marks = ", ".join(COLUMNS[table]), ", ".join("?" * len(COLUMNS[table]))
    saved = breaks = 0
    with target:
        target.execute("BEGIN IMMEDIATE")
        for row in _readable(source, table):
            if row is None or not _sound(table, row, info):
                breaks += 1
            else:
                target.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)
                saved += 1
    return saved, breaks


def _carry_pruned(source: sqlite3.Connection, target: sqlite3.Connection) -> bool:
    """Copy the note that the samples were pruned; return whether there is one."""
    found = source.execute("SELECT key, value FROM meta WHERE key = ?", (PRUNED,)).fetchall()
    target.executemany("INSERT INTO meta VALUES (?, ?)", found)
    return bool(found)


def _may_be_packed(source: sqlite3.Connection) -> bool:
    """Whether the file has a version whose samples can be packed."""
    (version,) = source.execute("PRAGMA user_version").fetchone()
    return bool(version >= PACKING)


def _sound(table: str, row: Row, info: StreamInfo) -> bool:
    if not whole(table, row, info):
        return False
    if table == "packed":
        try:
            unpacked(row, info)
        except ValueError:
            return False
    return True


def _readable(source: sqlite3.Connection, table: str) -> Iterator[Row | None]:
    """Yield rows by key; None where rows are skipped, in doubling steps until reading works again."""
    key, columns = KEYS[table], ", ".join(COLUMNS[table])
    query = f"SELECT {key}, {columns} FROM {table} WHERE {key} > ? ORDER BY {key}"
    last, leap = -1, 0
    while leap <= LONGEST_LEAP:
        try:
            for at, *row in source.execute(query, (last + leap,)):
                last, leap = int(at), 0
                yield tuple(row)
            return
        except (sqlite3.Error, UnicodeDecodeError, ValueError, TypeError):
            if leap == 0:
                yield None
            leap = max(1, 2 * leap)


def _list_holes(target: sqlite3.Connection) -> int:
    """Add gaps for samples that are neither saved nor listed as lost; return their number."""
    found = target.execute("SELECT start, start + n FROM samples UNION SELECT start, stop FROM gaps")
    places = list(found)
    for piece in target.execute(f"SELECT {', '.join(COLUMNS['packed'])} FROM packed"):
        places += [(start, start + n) for start, n, _, _ in spans(piece)]
    at, holes = 0, []
    for start, stop in sorted(places):
        if start > at:
            holes.append((at, start))
        at = max(at, stop)
    with target:
        target.execute("BEGIN IMMEDIATE")
        target.executemany(
            "INSERT INTO gaps(start, stop, reason, wall, monotonic) VALUES (?, ?, ?, 0, 0)",
            ((start, stop, UNREADABLE) for start, stop in holes),
        )
    return sum(stop - start for start, stop in holes)
