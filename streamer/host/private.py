"""Files and folders for the user alone, whatever the umask: what lies in them is health data."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FILE, FOLDER = 0o600, 0o700


def opener(path: str, flags: int) -> int:
    """As `opener` of `open`: a file that is made, or written anew, is for its owner alone.

    One that is only added to keeps its rights, since somebody may have been given them; so does a device.
    """
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, FILE)
    except FileExistsError:
        descriptor = os.open(path, flags, FILE)
        if not flags & os.O_TRUNC or not _is_our_file(descriptor):
            return descriptor
    os.fchmod(descriptor, FILE)  # a umask can take rights from the owner, too
    return descriptor


def make_file(path: Path) -> None:
    """Make an empty file, or take the rights of others from one that is there.

    Raises:
        OSError: it cannot be made.

    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE)
    except (
        FileExistsError
    ):  # not opened: to close a file of SQLite's drops the locks that this process has on it
        path.chmod(FILE)
        return
    try:
        os.fchmod(descriptor, FILE)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder with those that hold it; one that is there already keeps its rights.

    Raises:
        OSError: it cannot be made.

    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(FOLDER)
    if not path.is_dir():
        path.mkdir()  # for its error: a file is in the way


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
    """Write a whole file; text in UTF-8.

    Raises:
        OSError: it cannot be written.

    """
    data = content.encode() if isinstance(content, str) else content
    with open(path, "wb", opener=opener) as file:
        file.write(data)


def read(path: Path, most: int) -> bytes:
    """The first bytes of a file of ours; never waits, as a pipe in its place would make one.

    Raises:
        OSError: it cannot be read, or is no file.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return file.read(most)


def seen_by_others(path: Path) -> bool:
    """Whether someone else than the owner may look into a folder or file."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _is_our_file(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
