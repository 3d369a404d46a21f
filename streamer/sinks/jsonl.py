"""Committed epochs as a text file, one JSON object a line."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from streamer import private
from streamer.errors import SinkError
from streamer.payloads import EpochPayload, to_json

TAIL_BYTES = 1 << 16  # enough for many lines


class JsonlSink:
    """Appends to `path`, whose folder is made if need be; a line is with the operating system once written.

    A line that was left unfinished (a killed run, a full disk) is ended before the next one begins, so that
    it is the only one damaged. A session that goes on after its process died may commit an epoch again whose
    line is there already: the first one stays, and no other is written.

    Raises:
        SinkError: the file cannot be opened or written. After a failed `write` the sink is still usable: who
            calls decides whether to go on, and later epochs are written once there is room.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None  # unbuffered: what cannot be written fails here and now
        self._torn = False
        self._last: tuple[str, int] = ("", -1)  # session and seq of the last line

    def __enter__(self) -> Self:
        try:
            private.make_folder(self.path.parent)
            self._file = FileIO(self.path, "a+", opener=private.opener)
            self._torn = _ends_torn(self._file)
            self._last = _last_key(self._file)
        except OSError as error:
            raise SinkError(f"cannot open {self.path}: {error.strerror}; choose another file") from error
        return self

    def write(self, epoch: EpochPayload) -> None:
        """One epoch, one line."""
        assert self._file is not None
        session, seq = self._last
        if epoch.session == session and epoch.seq <= seq:
            return
        line = ("\n" * self._torn + to_json(epoch) + "\n").encode()
        try:
            written = self._file.write(line)
        except OSError as error:
            raise SinkError(f"cannot write {self.path}: {error.strerror}; make room") from error
        self._torn = written < len(line)
        if self._torn:
            raise SinkError(f"cannot write {self.path}: no room for a whole line; make room")
        self._last = epoch.session, epoch.seq

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()


def _last_key(file: FileIO) -> tuple[str, int]:
    """Session and seq of the last line that is whole; none if the file holds something else."""
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
