"""The outcome of every recording of a folder: its manifest.jsonl, one line each.

Lines are appended as results come, and each is synced to the disk before the next recording, so a killed run
can continue; the last line of a recording counts. At its end a run rewrites the file, sorted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from streamer.errors import RecordingError, SinkError, UsageError
from streamer.host import private
from streamer.host.flock import lock
from tools.command import digest_of

FILE_NAME = "manifest.jsonl"


class Frozen(BaseModel):
    """A part of a manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(Frozen):
    """A file at the time when it was read."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str


class Entry(Frozen):
    """What came of a recording."""

    recording: str  # name, and that of its results
    finished: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))


class Failed(Entry):
    """A recording that could not be done; the next run tries it again."""

    status: Literal["failed"] = "failed"
    error: str  # one line
    inputs: tuple[str, ...] = ()


D = TypeVar("D", bound=Entry)


class Manifest(Generic[D]):
    """The manifest of one folder, open for one process at a time.

    Args:
        folder: where it is; created if it is missing.
        schema: name of its format, in every line.
        done: the model of a line about a recording that was done.

    Raises:
        UsageError: the folder cannot be created, or another process is filling it.
        RecordingError: there is a manifest that this version cannot read.
        SinkError: the manifest cannot be written.

    """

    def __init__(self, folder: Path, schema: str, done: type[D]) -> None:
        self.folder = folder
        self.entries: dict[str, D | Failed] = {}
        self._schema = schema
        self._line: TypeAdapter[D | Failed] = TypeAdapter(done | Failed)
        self._path = folder / FILE_NAME
        self._lock: BinaryIO | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            private.make_folder(self.folder)
            self._lock = open(self.folder / ".lock", "wb", opener=private.opener)
        except OSError as error:
            raise UsageError(f"cannot use {self.folder}: {error.strerror}; choose another --out") from error
        try:
            if not lock(self._lock.fileno()):
                raise UsageError(f"{self.folder} is being filled by another process; wait for it")
            self._read()
            self._write()  # removes an incomplete line of a killed run
            self._file = open(self._path, "ab", opener=private.opener)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        assert self._lock is not None
        try:
            self._file.close()
            self._write()
        finally:
            self._lock.close()

    def add(self, entry: D | Failed) -> None:
        """Append an entry; when this returns it is on the disk."""
        assert self._file is not None
        self.entries[entry.recording] = entry
        try:
            self._file.write(self._text(entry))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}; free some space") from error

    def _read(self) -> None:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageError(f"cannot read {self._path}: {error.strerror}; choose another --out") from error
        for number, line in enumerate(lines[:-1], 1):  # text after the last newline is incomplete
            try:
                said = json.loads(line)
                if said.pop("schema", None) != self._schema:
                    raise ValueError("another schema")
                entry = self._line.validate_python(said)
            except (ValueError, TypeError, AttributeError) as error:  # pydantic's are ValueErrors
                raise RecordingError(
                    f"{self._path}, line {number}, is not of a manifest that this version can read; move the "
                    "file away or choose another --out"
                ) from error
            self.entries[entry.recording] = entry

    def _text(self, entry: Entry) -> bytes:
        said = {"schema": self._schema, **entry.model_dump(mode="json")}
        return json.dumps(said, ensure_ascii=False).encode() + b"\n"

    def _write(self) -> None:
        """Write all entries, completely or not at all."""
        partial = self._path.with_suffix(".partial")
        try:
            with open(partial, "wb", opener=private.opener) as file:
                file.writelines(self._text(self.entries[name]) for name in sorted(self.entries))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}; choose another --out") from error


def describe_input(path: Path) -> Input:
    """Describe a file with its digest.

    Raises:
        RecordingError: the file cannot be read.

    """
    digest, found = digest_of(path)
    return Input(path=str(path), bytes=found.st_size, mtime_ns=found.st_mtime_ns, sha256=digest)


def is_untouched(before: Iterable[Input], paths: Iterable[Path]) -> bool:
    """Whether the files are those of before by path, size and time, without reading them."""
    try:
        found = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]
    except OSError:
        return False
    return found == [(one.path, one.bytes, one.mtime_ns) for one in before]


def is_complete(outputs: Mapping[str, int], place: Path) -> bool:
    """Whether all these files of a result are in its folder, with the right size."""
    try:
        return all((place / name).stat().st_size == size for name, size in outputs.items())
    except OSError:
        return False
