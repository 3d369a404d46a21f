"""Makes an ended session's file smaller: its samples are packed without loss, or pruned.

The new file is written beside the old one, synced, read back and compared to the bit; only then does it
replace the old one, in one step. A crash at any moment leaves one of them complete. The session's lock is
held meanwhile, so that no other process writes it.

As a program (`python -m streamer.journal.packing FILE --parent PID`) it runs beside the engine at the lowest
priority, and ends with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

from streamer.errors import JournalError, SleepstreamError
from streamer.host import private
from streamer.journal import file as session_file
from streamer.journal.file import PRUNED
from streamer.journal.lock import FileLock
from streamer.journal.pieces import fits, packed
from streamer.journal.place import LOG
from streamer.journal.reader import JournalReader
from streamer.journal.rows import COLUMNS, Row

NEW = ".packing"  # after the session file's name, until the file is complete and verified
INDEX = "-shm"
BUSY = "its samples stay as they are for now"
KEPT = ("meta", *(table for table in COLUMNS if table not in ("samples", "packed")))
LOOK = 64  # rows between two checks whether to go on
Going = Callable[[], bool]


def always() -> bool:
    """Return True: never end early."""
    return True


def pack(session: Path, going: Going = always) -> int:
    """Pack an ended session's samples; return how many bytes the file is smaller, 0 if unchanged.

    Args:
        session: its file.
        going: called regularly; once it returns False, nothing is changed.

    Raises:
        JournalError: the session has not ended, another process records or delivers it, its file has several
            names, or cannot be read or written. Then nothing is changed.

    """
    return _rewrite(session, keep=True, going=going)


def prune(session: Path, going: Going = always) -> int:
    """Delete an ended session's samples and keep all else; otherwise as `pack`."""
    return _rewrite(session, keep=False, going=going)


def clear(folder: Path) -> None:
    """Delete the unfinished files of processes that ended while they packed a session of this folder."""
    for new in folder.glob(f"*{NEW}"):
        with contextlib.suppress(JournalError, OSError), FileLock(new.with_name(new.name.removesuffix(NEW))):
            new.unlink()


def _rewrite(session: Path, keep: bool, going: Going) -> int:
    path = session.resolve()
    with JournalReader(path) as reader:
        if not reader.ended:
            raise JournalError(f"{path} was not ended; {BUSY}")
        if path.stat().st_nlink > 1:
            raise JournalError(f"{path} has several names, and only one would get the new file; {BUSY}")
        if not (reader.unpacked_samples if keep else reader.sample_bytes):
            return 0
    with FileLock(path):
        _settle(path)
        new = path.with_name(path.name + NEW)
        new.unlink(missing_ok=True)  # of a crashed process
        try:
            with JournalReader(path, thorough=True) as reader:
                _write(reader, new, keep, going)
            _sync(new)
            with JournalReader(path) as old, JournalReader(new, thorough=True) as made:
                _compare(old, made, keep, going)
            before, after = path.stat(), new.stat()
            shutil.copystat(path, new)
            for end in (LOG, INDEX):  # empty, and no log of the new file
                path.with_name(path.name + end).unlink(missing_ok=True)
            new.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise session_file.refusal(f"cannot pack {path}: {error.strerror}; {BUSY}", error) from error
        except sqlite3.Error as error:
            raise JournalError(f"cannot pack {path}: {error}; {BUSY}") from error
        finally:
            new.unlink(missing_ok=True)
            with contextlib.suppress(JournalError, sqlite3.Error):
                _settle(path)  # after a failure, also the log that reading left behind
    return before.st_size - after.st_size


def _settle(path: Path) -> None:
    """Move SQLite's log into the file: beside the new file it would be lost or misread."""
    if not path.with_name(path.name + LOG).exists():
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        ((busy, *_),) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    log = path.with_name(path.name + LOG)
    if busy or (log.exists() and log.stat().st_size):
        raise JournalError(f"{path} is being read; {BUSY}")


def _write(reader: JournalReader, new: Path, keep: bool, going: Going) -> None:
    """Write the new file: the samples in their new form, all other rows unchanged."""
    private.make_file(new)
    info = reader.meta.info
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = OFF")  # a partly written file is discarded anyway
        db.execute("PRAGMA synchronous = OFF")
        for number, script in enumerate(session_file.MIGRATIONS, 1):
            db.executescript(f"{script}; PRAGMA user_version = {number}")
        db.execute("BEGIN")
        for table in KEPT:
            _insert(db, table, reader.raw(table))
        db.execute("DELETE FROM sqlite_sequence")
        _insert(db, "sqlite_sequence", reader.raw("sqlite_sequence"))
        session_file.mark_closed(db)
        if keep:
            rows = _watched(reader.sample_rows(), going)
            _insert(db, "packed", packed((row for row in rows if fits(row, info)), info))
            _insert(db, "samples", (row for row in reader.raw("samples") if not fits(row, info)))
        else:
            last = reader.last()
            mark = json.dumps([last.index, last.wall, last.monotonic])
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (PRUNED, mark))
        db.execute("COMMIT")


def _compare(old: JournalReader, new: JournalReader, keep: bool, going: Going) -> None:
    """Check that the new file gives every row of the old one, to the bit.

    Raises:
        JournalError: it does not.

    """
    ours = session_file.CLOSED, PRUNED
    for table in (*KEPT, "sqlite_sequence"):
        pairs = zip_longest(*(_without(one.raw(table), ours) for one in (old, new)))
        if any(repr(one) != repr(other) for one, other in pairs):
            raise JournalError(f"{old.path}: table {table} differs after packing; {BUSY}")
    if keep:
        rows = zip_longest(_watched(old.sample_rows(), going), new.sample_rows())
        if any(one != other for one, other in rows) or old.missing != new.missing:
            raise JournalError(f"{old.path}: its samples differ after packing; {BUSY}")
    if old.last() != new.last():
        raise JournalError(f"{old.path}: its end differs after packing; {BUSY}")


def _without(rows: Iterator[Row], keys: tuple[str, ...]) -> Iterator[Row]:
    return (row for row in rows if row[0] not in keys)


def _insert(db: sqlite3.Connection, table: str, rows: Iterator[Row]) -> None:
    for row in rows:
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def _watched(rows: Iterator[Row], going: Going) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number % LOOK == 0 and not going():
            raise JournalError(f"the engine has ended; {BUSY}")
        yield row


def _sync(path: Path) -> None:
    """Flush the file to the disk, so that it is read back from there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        with contextlib.suppress(AttributeError, OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def main() -> int:
    """Pack or prune one session; stop if the engine that started this ends."""
    parser = argparse.ArgumentParser(description=pack.__doc__)
    parser.add_argument("session", type=Path)
    parser.add_argument("--prune", action="store_true")
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args()
    with contextlib.suppress(OSError):
        os.nice(19)
    work = prune if asked.prune else pack
    try:
        print(work(asked.session, lambda: os.getppid() == asked.parent))
    except SleepstreamError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
