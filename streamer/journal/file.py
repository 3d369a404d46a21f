"""The tables of a session file; creates, opens and writes it."""

from __future__ import annotations

import errno
import math
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.errors import DiskError, JournalError
from streamer.host import private
from streamer.journal.outbox import Parcel
from streamer.journal.rows import Meta, meta_rows
from streamer.messages import Floats

APPLICATION_ID = 0x536C5374  # "SlSt"
BLOCK_SAMPLES = 512  # of each channel in a row, if they come in smaller pieces
CLOSED = "closed"  # key in table `meta` of a file that its writer has closed, so that it is complete
CACHE_KIB = 256  # for the writer, which only appends; SQLite's default of 2 MB is half of a stream's memory
# One script per version of the file; `PRAGMA user_version` counts those applied. Append, never edit.
MIGRATIONS: Final[tuple[str, ...]] = (
    f"""
    PRAGMA application_id = {APPLICATION_ID};
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;  -- value: JSON
    CREATE TABLE samples (
        start INTEGER PRIMARY KEY,                   -- index of the first sample
        n INTEGER NOT NULL,
        wall REAL NOT NULL, monotonic REAL NOT NULL, -- arrival of the last sample, seconds
        data BLOB NOT NULL                           -- float32, little-endian, (channels, n)
    );
    CREATE TABLE gaps (
        id INTEGER PRIMARY KEY, start INTEGER NOT NULL, stop INTEGER NOT NULL, reason TEXT NOT NULL,
        wall REAL NOT NULL, monotonic REAL NOT NULL
    );
    CREATE TABLE epochs (
        seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, t_start TEXT NOT NULL, t_end TEXT NOT NULL,
        stage TEXT NOT NULL, smoothed TEXT NOT NULL, confidence REAL,
        body TEXT NOT NULL                           -- the payload as it is published
    );
    CREATE TABLE events (seq INTEGER PRIMARY KEY, t TEXT NOT NULL, event TEXT NOT NULL, body TEXT NOT NULL);
    CREATE TABLE clocks (sample INTEGER NOT NULL, wall REAL NOT NULL, monotonic REAL NOT NULL);
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body TEXT NOT NULL, created REAL NOT NULL
    );
    """,
    """
    CREATE TABLE packed (                            -- rows of table samples; see pieces.py
        start INTEGER PRIMARY KEY,                   -- index of the first sample
        stop INTEGER NOT NULL,                       -- one past the last
        wall REAL NOT NULL, monotonic REAL NOT NULL, -- arrival of the last one, seconds
        rows BLOB NOT NULL,                          -- where each row lay, and when it came
        data BLOB NOT NULL                           -- their samples
    );
    """,
)
SAMPLES = "INSERT INTO samples VALUES (?, ?, ?, ?, ?)"
Singles = NDArray[np.float32]
PRUNED = "pruned"  # key in table `meta` of a file whose samples were deleted: how far they went, and when


@dataclass(frozen=True, slots=True)
class Mark:
    """The time at which the stream had come to `index`."""

    index: int = 0  # one past the last sample, or past a gap
    wall: float = 0.0  # Unix time, seconds
    monotonic: float = 0.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a journal starts writing: at the beginning, or after an earlier process."""

    last: Mark = Mark()
    next_parcel: int = 0
    epoch_seq: int = -1  # of the last epoch written
    event_seq: int = -1
    parcels: tuple[Parcel, ...] = ()  # not acknowledged, in order

    @property
    def next_sample(self) -> int:
        """Index after the last recorded sample or gap."""
        return self.last.index


class Block:
    """Consecutive samples that are to be written as one row.

    Args:
        start: index of the first.
        samples: (channels, n); they are copied.
        wall, monotonic: arrival of the last one.

    """

    __slots__ = "_room", "monotonic", "n", "start", "wall"

    def __init__(self, start: int, wall: float, monotonic: float, samples: Floats | Singles) -> None:
        channels, n = samples.shape
        self._room: Singles = np.empty((channels, max(n, BLOCK_SAMPLES)), "<f4")
        self.start, self.n = start, 0
        self.add(start, wall, monotonic, samples)

    @property
    def samples(self) -> Singles:
        """(channels, n), little-endian."""
        return self._room[:, : self.n]

    def add(self, start: int, wall: float, monotonic: float, samples: Floats | Singles) -> bool:
        """Add the next samples; return False if they do not follow, or there is no room."""
        n = self.n
        stop = n + samples.shape[1]
        if start != self.start + n or stop > self._room.shape[1]:
            return False
        self._room[:, n:stop] = samples
        self.n, self.wall, self.monotonic = stop, wall, monotonic
        return True

    @property
    def row(self) -> tuple[int, int, float, float, bytes]:
        """The row of table `samples`."""
        return self.start, self.n, self.wall, self.monotonic, self.samples.tobytes()


@dataclass(slots=True)
class Batch:
    """The content of one transaction."""

    ticket: int = 0  # number of the last thing in here, of all that were handed over
    within_s: float = math.inf  # after the last transaction, within which the content must be written
    blocks: list[Block] = field(default_factory=list)
    rows: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)  # statement and values

    def __bool__(self) -> bool:
        return bool(self.blocks or self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the samples."""
        return sum(block.samples.nbytes for block in self.blocks)

    def absorb(self, later: Batch) -> None:
        """Append a later batch."""
        self.blocks += later.blocks
        self.rows += later.rows
        self.ticket = later.ticket


def create(path: Path, meta: Meta) -> sqlite3.Connection:
    """Create a session file, ready to be written.

    Raises:
        DiskError: the disk is full, or fails.
        JournalError: the file exists, or cannot be created.

    """
    if path.exists():
        raise JournalError(
            f"{path} exists; a session is never overwritten: give another name or move it away"
        )
    try:
        db = connect(path)
    except JournalError:
        path.unlink(missing_ok=True)  # a full disk: nothing is in it
        raise
    try:
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO meta VALUES (?, ?)", meta_rows(meta))
    except sqlite3.Error as error:
        db.close()
        path.unlink(missing_ok=True)
        raise _refused(f"cannot create {path}", error) from error
    return db


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection with durable writes, and bring the file to the newest version.

    Raises:
        JournalError: the file cannot be opened or written.

    """
    try:
        private.make_file(path)  # here, because SQLite gives its log the permissions of the file
        for beside in ("-wal", "-shm"):
            if (found := path.with_name(path.name + beside)).exists():
                found.chmod(private.FILE)
        # Opened by the caller, who gets the errors; from then on only the journal's thread uses it.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except OSError as error:
        raise refusal(f"cannot record to {path}: {error.strerror}", error) from error
    except sqlite3.Error as error:
        raise JournalError(f"cannot record to {path}: {error}") from error
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT")
        if db.execute(f"SELECT 1 FROM meta WHERE key = '{CLOSED}'").fetchone():
            db.execute(f"DELETE FROM meta WHERE key = '{CLOSED}'")
    except sqlite3.Error as error:
        db.close()
        raise _refused(f"cannot record to {path}", error) from error
    return db


def refusal(said: str, error: OSError) -> JournalError:
    """Return the error to raise: a `DiskError` if the disk is full or broken, else a `JournalError`."""
    full_or_broken = error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT)
    return DiskError(said) if full_or_broken else JournalError(said)


def _refused(what: str, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # SQLite's primary code
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskError(f"{what}: {error}; make room")
    return JournalError(f"{what}: {error}")


def write(pen: sqlite3.Cursor, batch: Batch) -> None:
    """Write a batch in one transaction.

    The cursor is the same for all transactions of a connection: `execute` of the connection makes one each
    time, and Python keeps a reference to up to 200 of them. For a thousand sleepers these were most of what a
    search for garbage looks at, which then stops everything for some 80 ms.
    """
    if len(batch.blocks) == 1 and not batch.rows:  # the usual case: one statement is a transaction
        pen.execute(SAMPLES, batch.blocks[0].row)
        return
    with pen.connection:  # commits, or rolls back
        pen.execute("BEGIN IMMEDIATE")
        pen.executemany(SAMPLES, [block.row for block in batch.blocks])
        for statement, values in batch.rows:
            pen.execute(statement, values)


def wait_for_disk(db: sqlite3.Connection, yes: bool) -> None:
    """Set whether each transaction is synced to disk; if not, the caller syncs."""
    db.execute(f"PRAGMA synchronous = {'FULL' if yes else 'NORMAL'}")


def mark_closed(db: sqlite3.Connection) -> None:
    """Note that the file holds the whole session."""
    db.execute(f"INSERT OR REPLACE INTO meta VALUES ('{CLOSED}', 'true')")
