"""Creates files and folders that only the user can read, whatever the umask: they hold health data."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FILE, FOLDER = 0o600, 0o700


def opener(path: str, flags: int) -> int:
    """Open a file, as the `opener` of `open`: a file that is created or truncated becomes private.

    A file that is appended to keeps its permissions, since the user may have set them; so does a device.
    """
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, FILE)
    except FileExistsError:
        descriptor = os.open(path, flags, FILE)
        if not flags & os.O_TRUNC or not _is_our_file(descriptor):
            return descriptor
    os.fchmod(descriptor, FILE)  # a umask can take permissions from the owner, too
    return descriptor


def make_file(path: Path) -> None:
    """Create an empty private file, or make an existing file private.

    Raises:
        OSError: the file cannot be created.

    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE)
    except FileExistsError:
        # Do not open it: closing a SQLite file would drop the locks that this process has on it.
        path.chmod(FILE)
        return
    try:
        os.fchmod(descriptor, FILE)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a private folder and its parents; existing ones keep their permissions.

    Raises:
        OSError: a folder cannot be created.

    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(FOLDER)
    if not path.is_dir():
        path.mkdir()  # raises, because it is a file


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder, so that they survive a power cut.

    Raises:
        OSError: the disk refuses.

    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: str | bytes) -> None:
    """Write a whole private file; text in UTF-8.

    Raises:
        OSError: the file cannot be written.

    """
    data = content.encode() if isinstance(content, str) else content
    with open(path, "wb", opener=opener) as file:
        file.write(data)


def read(path: Path, most: int) -> bytes:
    """Read the first `most` bytes of a file; does not block if it is a pipe.

    Raises:
        OSError: it cannot be read, or is not a regular file.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(most)


def seen_by_others(path: Path) -> bool:
    """Whether others than the owner have access to a folder or file."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _is_our_file(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
