"""Standard output and error, written at once and past Python's buffers.

A buffer would keep what could not be written, say so once more when the process ends, and be locked for ever
by a thread that is stuck in it. Here a write reaches the system or raises, and nothing stays behind.
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

LONGEST = 4096  # characters of a library's line
LAST_S = 2.0  # for the last words
LOOK_S = 1.0  # at a descriptor that takes nothing for now


class Unbuffered:
    """Text to a file descriptor; as much of a file as `print`, logging and rich need.

    A character that the encoding lacks is written as an escape. Text that was cut off by an error (a full
    disk) is ended with a line break before anything else is written.

    Args:
        descriptor: where to.
        encoding: of the text.

    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self.encoding = encoding
        self._descriptor = descriptor
        self._torn = False

    def write(self, text: str) -> int:
        """Write all of it, however long that takes.

        Raises:
            OutputError: the reader is gone, the disk is full, the terminal was closed.

        """
        left = memoryview(("\n" * self._torn + text).encode(self.encoding, "backslashreplace"))
        whole = len(left)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody else made it so; we have the time
                select.select([], [self._descriptor], [], LOOK_S)
            except OSError as error:
                self._torn = self._torn or 0 < len(left) < whole
                text = f"the output cannot be written: {error.strerror}; give it another place"
                raise OutputError(text) from error
        self._torn = False
        return len(text)

    def flush(self) -> None:
        """Does nothing: nothing is buffered."""

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)


def unbuffer(stream: TextIO | None) -> TextIO:
    """The same place without a buffer; a stream that has no descriptor is taken as it is, none is nowhere."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # for as long as the process lives
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (OSError, ValueError):  # what a test puts in its place, or closed
        return stream
    return cast(TextIO, Unbuffered(descriptor, stream.encoding or "utf-8"))  # all of it that is used


@contextmanager
def safe() -> Iterator[None]:
    """Make standard output and error safe to write to, whatever this process was started with.

    A descriptor that is closed would be given to the next file that is opened, and what is printed would end
    up in that. A write that fails raises `OutputError`, and leaves nothing that fails again at the exit.
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
    """Redirect what libraries in C write to standard error to `tell`, where a write there may block.

    A library would hang in its write as long as a terminal is stopped (Ctrl-S) or nobody reads a pipe. `tell`
    is called in a thread of its own; what comes faster is lost. Python's own lines, and the traceback
    of a crash, still go where they went.
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
        os.dup2(kept, 2)  # and with that the thread comes to its end; `kept` may still be written to
        telling.join(LAST_S)


@contextmanager
def hush() -> Iterator[None]:
    """Suppress standard error meanwhile, also of libraries in C.

    liblsl says at its first call which configuration it has read, whoever asked.
    """
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
    """Whether a write to it may take for ever."""
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
    """Write something as the process ends; give up after `LAST_S`."""

    def try_to() -> None:
        with contextlib.suppress(OutputError):
            write()

    writing = threading.Thread(target=try_to, name="last words", daemon=True)
    writing.start()
    writing.join(LAST_S)


def complain(text: str) -> None:
    """Write one line to standard error, if it can be written to."""
    last_words(lambda: print(f"sleepstream: {printable(text)}", file=sys.stderr))


class Quiet(logging.StreamHandler[TextIO]):
    """Log records to standard error; a failure to write is ignored."""

    def handleError(self, record: logging.LogRecord) -> None:  # its name is Python's
        """Ignore it: there is nowhere to report it."""
