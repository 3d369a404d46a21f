"""Committed epochs as a text file, one JSON object a line."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.errors import SinkError
from streamer.payloads import EpochPayload, to_json


class JsonlSink:
    """Appends to `path`, whose folder is made if need be; a line is with the operating system once written.

    A line that was left unfinished (a killed run, a full disk) is ended before the next one begins, so that
    it is the only one damaged.

    Raises:
        SinkError: the file cannot be opened or written. After a failed `write` the sink is still usable: who
            calls decides whether to go on, and later epochs are written once there is room.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None  # unbuffered: what cannot be written fails here and now
        self._torn = False

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "a+")
            self._torn = _ends_torn(self._file)
        except OSError as error:
            raise SinkError(f"cannot open {self.path}: {error.strerror}; choose another file") from error
        return self

    def write(self, epoch: EpochPayload) -> None:
        """One epoch, one line."""
        assert self._file is not None
        line = ("\n" * self._torn + to_json(epoch) + "\n").encode()
        try:
            written = self._file.write(line)
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}; make room") from error
        self._torn = written < len(line)
        if self._torn:
            raise SinkError(f"cannot write {self.path}: no room for a whole line; make room")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()


def _ends_torn(file: FileIO) -> bool:
    if file.seek(0, 2) == 0:
        return False
    file.seek(-1, 2)
    return file.read(1) != b"\n"
