"""Standard output and error without Python's buffers.

A buffer would keep what could not be written, fail again when the process ends, and stay locked if a thread
is stuck in it. Here a write either reaches the system or raises, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO, cast

from streamer.errors import OutputError
from streamer.host.printable import printable

LONGEST = 4096  # longest line of a library, in characters
LAST_S = 2.0  # longest time for output at the end of the process
LOOK_S = 1.0  # time between two looks at a descriptor that is not ready


class Unbuffered:
    """Writes text to a file descriptor; has those methods of a file that `print`, logging and rich need.

    A character that the encoding lacks is written as an escape. If an error (a full disk) cuts off a text, a
    line break is written before the next one.

    Args:
        descriptor: of the file.
        encoding: of the text.

    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self.encoding = encoding
        self._descriptor = descriptor
        self._torn = False

    def write(self, text: str) -> int:
        """Write all of it, however long that takes.

        Raises:
            OutputError: the reader is gone, the disk is full, or the terminal was closed.

        """
        left = memoryview(("\n" * self._torn + text).encode(self.encoding, "backslashreplace"))
        whole = len(left)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # another process made the descriptor non-blocking: wait
                select.select([], [self._descriptor], [], LOOK_S)
            except OSError as error:
                self._torn = self._torn or 0 < len(left) < whole
                text = f"cannot write the output: {error.strerror}; send it somewhere else"
                raise OutputError(text) from error
        self._torn = False
        return len(text)

    def flush(self) -> None:
        """Do nothing, as nothing is buffered."""

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)


def unbuffer(stream: TextIO | None) -> TextIO:
    """Return the stream without its buffer.

    Without a descriptor it stays as it is, None becomes the null device.
    """
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # for as long as the process lives
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a test's replacement, or closed
        return stream
    return cast(TextIO, Unbuffered(descriptor, stream.encoding or "utf-8"))


@contextmanager
def safe() -> Iterator[None]:
    """Make standard output and error safe to write to, however this process was started.

    A closed descriptor would be reused by the next file that is opened, and output would end up in that file;
    so it is opened here. A failed write raises `OutputError`, and nothing is left that fails again at exit.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = unbuffer(sys.stdout), unbuffer(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def take_over_stderr(tell: Callable[[str], None]) -> Iterator[None]:
    """Redirect what C libraries write to standard error to `tell`, if writing there may block.

    Otherwise a library would hang in its write while the terminal is stopped (Ctrl-S) or a pipe is not read.
    `tell` is called in a separate thread; lines that come too fast are lost. Python's own lines, and the
    traceback of a crash, still go to the original place.
    """
    if not _may_wait(2):
        yield
        return
    kept = os.dup(2)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.dup2(writer, 2)
    os.close(writer)
    before, sys.stderr = sys.stderr, cast(TextIO, Unbuffered(kept, sys.stderr.encoding or "utf-8"))
    crashes = not faulthandler.is_enabled()
    if crashes:
        faulthandler.enable(kept)
    telling = threading.Thread(target=_tell, args=(reader, tell), name="standard error", daemon=True)
    telling.start()
    try:
        yield
    finally:
        if crashes:
            faulthandler.disable()
        sys.stderr = before
        os.dup2(kept, 2)  # this also ends the thread; `kept` stays open, as it may still be written to
        telling.join(LAST_S)


@contextmanager
def hush() -> Iterator[None]:
    """Suppress standard error, also of C libraries, such as liblsl's message about its configuration."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _may_wait(descriptor: int) -> bool:
    """Whether a write to the descriptor may block for ever."""
    try:
        return os.isatty(descriptor) or stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _tell(reader: int, tell: Callable[[str], None]) -> None:
    with open(reader, encoding="utf-8", errors="backslashreplace") as lines:
        for line in iter(partial(lines.readline, LONGEST), ""):
            if line.strip():
                tell(line.rstrip())


def last_words(write: Callable[[], None]) -> None:
    """Write something at the end of the process; give up after `LAST_S`."""

    def try_to() -> None:
        with contextlib.suppress(OutputError):
            write()

    writing = threading.Thread(target=try_to, name="last words", daemon=True)
    writing.start()
    writing.join(LAST_S)


def complain(text: str) -> None:
    """Write one line to standard error, if possible."""
    last_words(lambda: print(f"sleepstream: {printable(text)}", file=sys.stderr))


class Quiet(logging.StreamHandler[TextIO]):
    """Writes log records to standard error, and ignores failures."""

    def handleError(self, record: logging.LogRecord) -> None:  # Python's name for it
        """Ignore the failure, as there is nowhere to report it."""
