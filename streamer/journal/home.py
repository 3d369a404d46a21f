"""Puts a session file back in place when its folder, the file or its log was deleted or moved.

An open file stays readable whatever happens to its name, so its content can be written again to the old
place. Otherwise the recording would go on unnoticed into a deleted file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from streamer.errors import JournalError, explain
from streamer.host import private
from streamer.journal import file as session_file
from streamer.journal.lock import FileLock
from streamer.journal.place import LOG

INDEX = "-shm"  # after the session file's name: the index of SQLite's log
NEW = ".new"  # after the session file's name, until the file is complete
RETRY_S = 5.0  # between two attempts to write it again
Identity = tuple[int, int] | None  # device and number of a file; None: there is none


class Home:
    """The place of one session file, its connection and its lock; used by the journal's thread alone.

    Args:
        path: of the session file.
        db: the connection that writes it.
        lock: the right to write it.

    Attributes:
        db, lock: of the file in place.
        pen: the connection's one cursor, for all that is written.
        remade: how often it was written again.

    """

    def __init__(self, path: Path, db: sqlite3.Connection, lock: FileLock) -> None:
        self.db = db
        self.pen = db.cursor()
        self.lock = lock
        self.remade = 0
        self._path = path
        self._paths = tuple(str(path.with_name(path.name + end)) for end in ("", LOG, INDEX))
        self._known = self._identities()
        self._failed_at: float | None = None
        self._problem = ""
        self._made: Identity = None  # of the file that was written again last

    @property
    def device(self) -> int:
        """Device number of the file's disk."""
        known = self._known[0]
        return -1 if known is None else known[0]

    def mend(self, now: float) -> str:
        """Check that the file is in its place, or put it back; return why that failed, or "".

        Args:
            now: monotonic, s.

        """
        if self._identities() == self._known:
            self._problem = ""
        elif self._failed_at is None or now - self._failed_at >= RETRY_S or not self._problem:
            self._problem = self._remake()
            self._failed_at = now if self._problem else None
        return self._problem

    def sync(self) -> None:
        """Sync transactions that were not synced to disk.

        Raises:
            OSError: the disk refuses.

        """
        with contextlib.suppress(FileNotFoundError):  # no log: SQLite has moved all of it into the file
            private.sync(self._path.with_name(self._path.name + LOG))

    def settle(self) -> None:
        """Move SQLite's log into the file, because a moved file may have lost its log."""
        with contextlib.suppress(sqlite3.Error):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _remake(self) -> str:
        found = self._identities()[0]
        if found not in (None, self._known[0], self._made):
            return f"another file was put in the place of {self._path}; move it away"
        new = self._path.with_name(self._path.name + NEW)
        try:
            private.make_folder(self._path.parent)
            new.unlink(missing_ok=True)
            private.make_file(new)
            self.db.execute("VACUUM INTO ?", (str(new),))
            private.sync(new)
            for end in (LOG, INDEX):  # of the old file, whose pages must not come into the new one
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)
            new.replace(self._path)
            self._made = _identity(self._path)
            private.sync(self._path.parent)
            self._change()
        except (OSError, sqlite3.Error, JournalError) as error:
            return (
                f"{self._path} was deleted or moved during the recording, and cannot be written there again "
                f"({explain(error)}); until then the recording goes to the moved file, if it still exists"
            )
        self.remade += 1
        return ""

    def _change(self) -> None:
        """Switch to the rewritten file; the old one is kept until then."""
        lock = self.lock if self.lock.in_place else FileLock(self._path)
        try:
            db = session_file.connect(self._path)
        except JournalError:
            if lock is not self.lock:
                lock.release()
            raise
        if lock is not self.lock:
            self.lock.release()
        # Closed last: SQLite notices that this file has lost its name, and leaves the new one alone.
        old, self.db, self.pen, self.lock = self.db, db, db.cursor(), lock
        self._known = self._identities()
        with contextlib.suppress(sqlite3.Error):
            old.close()

    def _identities(self) -> tuple[Identity, ...]:
        return tuple(map(_identity, self._paths))


def _identity(path: Path | str) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
