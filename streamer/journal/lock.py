"""Locks session files: at most one process may write each."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.errors import JournalError
from streamer.host import private
from streamer.host.flock import is_locked, lock

LOCK = ".lock"  # after the session file's name
KEPT_UP, OUTRUN = b"0", b"1"  # first byte of the lock file: whether messages left that are not in the session


def seize(path: Path) -> int | None:
    """Lock a file, creating it if needed; return its descriptor, None if another process has the lock.

    The lock lasts while the descriptor is open; the kernel frees it when the process ends. It holds for every
    path to the file. A process may remove the file only while it holds the lock.

    Raises:
        OSError: the file cannot be created or locked.

    """
    while True:
        descriptor = private.opener(str(path), os.O_RDWR | os.O_CREAT)
        try:
            if not lock(descriptor):
                os.close(descriptor)
                return None
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last owner removed it between our open and our lock


class FileLock:
    """The right to write one session, held by one process and freed by the kernel when that process dies.

    The lock is a file beside the session file: closing a second descriptor of the SQLite file would drop
    SQLite's own locks in the same process.
    """

    def __init__(self, session: Path) -> None:
        self._path = _lock_of(session)
        self._kept = False
        try:
            descriptor = seize(self._path)
        except OSError as error:
            raise JournalError(f"cannot record to {session}: {error.strerror}") from error
        if descriptor is None:
            raise JournalError(f"{session} is in use: another process records it; stop that first")
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # on a full disk, where no session can begin either
            if os.fstat(descriptor).st_size == 0:
                os.pwrite(descriptor, KEPT_UP, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            self.release()

    def keep(self) -> None:
        """Hold it beyond the `with` block."""
        self._kept = True

    def outrun(self, yes: bool) -> None:
        """Note in the lock file whether messages are sent that are not in the session: the disk refuses them.

        This overwrites one existing byte, which a full disk allows; a read-only one does not.
        """
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, OUTRUN if yes else KEPT_UP, 0)

    @property
    def in_place(self) -> bool:
        """Whether the lock file is still in its place."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        """Release the lock and remove its file, unless it notes messages that are not in the session."""
        if self.in_place and os.pread(self._descriptor, 1, 0) != OUTRUN:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def outrun(session: Path) -> bool:
    """Whether the crashed process may have sent messages that are not in the session file."""
    try:
        return _lock_of(session).read_bytes()[:1] == OUTRUN
    except OSError:
        return False


def held(session: Path) -> bool:
    """Whether a process records this session now."""
    try:
        descriptor = os.open(_lock_of(session), os.O_RDONLY)
    except OSError:
        return False
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)


def _lock_of(session: Path) -> Path:
    """Return the lock file's path, with links resolved."""
    file = session.resolve() if session.is_symlink() else session
    return file.with_name(file.name + LOCK)
