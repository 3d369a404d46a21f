"""Finds the real path of a session, so that SQLite's log beside it is read too.

SQLite keeps the last writes in a log beside the file, and looks for it by the name that it was given. Under
another name it would read the file without its log; in a folder that it may not write, it would not read it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from streamer.errors import JournalError
from streamer.journal.lock import LOCK

LOG = "-wal"  # after the session file's name: SQLite's log of the last writes


@dataclass(slots=True)
class Place:
    """A session file under the name by which it is written.

    Attributes:
        file: that name.
        log_away: there is no log beside it.

    """

    file: Path
    log_away: bool
    _copies: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def open(self) -> sqlite3.Connection:
        """Open a read-only connection, to a copy if the folder cannot be written.

        Raises:
            JournalError: the file cannot be opened.

        """
        # A file not in use is opened as immutable: that creates no log, and works on a read-only disk.
        at_rest = self.log_away and not _beside(self.file, LOCK).exists()
        try:
            db = _connected(self.file, "mode=ro&immutable=1" if at_rest else "mode=ro")
            if at_rest or _readable(db):
                return db
            db.close()
            return _connected(self._copied(), "mode=ro")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise JournalError(f"cannot read {self.file}: {error}") from error

    def close(self) -> None:
        """Remove the copy, if one was made."""
        self._copies.close()

    def _copied(self) -> Path:
        """Copy the file and its log to a private folder: SQLite reads a log only where it may write."""
        folder = Path(self._copies.enter_context(tempfile.TemporaryDirectory(prefix="sleepstream-")))
        for end in ("", LOG):
            shutil.copyfile(_beside(self.file, end), folder / f"{self.file.name}{end}")
        return folder / self.file.name


def find_place(path: Path) -> Place:
    """Resolve a path to the name under which the session is written.

    Raises:
        JournalError: there is no such file.

    """
    if not path.is_file():
        raise JournalError(f"no session file at {path}")
    file = path.resolve()
    if not _beside(file, LOG).exists() and file.stat().st_nlink > 1:
        file = _other_name(file)
    return Place(file, not _beside(file, LOG).exists())


def _other_name(file: Path) -> Path:
    """Return the name of the file in the same folder that has a log beside it; its own if none has."""
    own = os.stat(file)
    with contextlib.suppress(OSError):
        for other in sorted(file.parent.iterdir()):
            if other.is_file() and os.path.samestat(own, other.stat()) and _beside(other, LOG).exists():
                return other
    return file


def _connected(file: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True, isolation_level=None)


def _readable(db: sqlite3.Connection) -> bool:
    """Whether SQLite can read the log; damage is found when the file is read."""
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    except sqlite3.DatabaseError:
        return True
    return True


def _beside(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)
