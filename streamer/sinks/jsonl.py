"""Writes committed epochs to a text file, one JSON object per line."""

from __future__ import annotations

from collections import deque
from io import FileIO
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from streamer.errors import SinkError
from streamer.host import private
from streamer.news import News
from streamer.payloads import EpochPayload, to_json

MOST = 30_000  # epochs that wait for a disk: ten days
TAIL_BYTES = 1 << 16  # enough for many lines


class JsonlSink:
    """A sink that appends to `path`, without buffering; its folder is made if needed.

    An unfinished line (of a killed run, or on a full disk) is ended before the next one, so that only that
    line is damaged. An epoch that cannot be written is kept, up to `MOST` of them, and written before the
    next one. A session that continues after a crash may commit an epoch again; it is not written twice.

    It may wait for its disk. As a context manager it closes the file.
    """

    wants: tuple[type, ...] = (EpochPayload,)
    prompt = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._file: FileIO | None = None  # unbuffered: what cannot be written fails here and now
        self._torn = False
        self._last: tuple[str, int] = ("", -1)  # session and seq of the last line
        self._owed: deque[EpochPayload] = deque(maxlen=MOST)

    def __enter__(self) -> Self:
        return self

    def open(self) -> None:
        """Open the file now, not only at the first epoch.

        Raises:
            SinkError: it cannot be opened.

        """
        self._opened()

    def hear(self, stream: str, news: News) -> None:
        """Write an epoch, after those that could not be written before.

        Raises:
            SinkError: the file cannot be opened or written at present; the epoch is kept.

        """
        if isinstance(news, EpochPayload):
            self._owed.append(news)
            self._pay()

    def __exit__(self, *exception: object) -> None:
        try:
            self._pay()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _pay(self) -> None:
        while self._owed:
            self._write(self._owed[0])
            self._owed.popleft()

    def _opened(self) -> FileIO:
        if self._file is None:
            try:
                private.make_folder(self.path.parent)
                self._file = FileIO(self.path, "a+", opener=private.opener)
                self._torn = _ends_torn(self._file)
                self._last = _last_key(self._file)
            except OSError as error:
                raise SinkError(f"cannot open {self.path}: {error.strerror}; choose another file") from error
        return self._file

    def _write(self, epoch: EpochPayload) -> None:
        """Write an epoch as one line, unless it is there already."""
        file = self._opened()
        session, seq = self._last
        if epoch.session == session and epoch.seq <= seq:
            return
        line = ("\n" * self._torn + to_json(epoch) + "\n").encode()
        try:
            written = file.write(line)
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}; make room") from error
        self._torn = written < len(line)
        if self._torn:
            raise SinkError(f"cannot write {self.path}: no room for a whole line; make room")
        self._last = epoch.session, epoch.seq


def _last_key(file: FileIO) -> tuple[str, int]:
    """Return session and seq of the last whole line; ("", -1) if there is none."""
    file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
    for line in reversed(file.read().split(b"\n")):
        try:
            last = EpochPayload.model_validate_json(line)
        except ValidationError:
            continue
        return last.session, last.seq
    return "", -1


def _ends_torn(file: FileIO) -> bool:
    if file.seek(0, 2) == 0:
        return False
    file.seek(-1, 2)
    return file.read(1) != b"\n"
