"""The origin of prepared nights: manifest.json beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamer import __version__
from streamer.conditioner import BAND_HZ
from streamer.errors import RecordingError, SinkError
from streamer.messages import RATE_HZ
from tools.command import digest_of

FILE_NAME = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FileOrigin(_Frozen):
    """A file at the time when it was read or written."""

    name: str  # without its folder, as the hash identifies it
    bytes: int
    sha256: str


class Rules(_Frozen):
    """What determines a prepared night besides its input; nights of another version are prepared again."""

    channels: tuple[str, ...]  # wanted ones, best first; empty: chosen by the labels
    subject: str  # wanted one; "": as in the file
    drop_unscored: bool
    wake_min: int  # of wake kept on either side of sleep
    band_hz: tuple[float, float] = BAND_HZ
    rate_hz: int = RATE_HZ
    sleepstream: str = __version__


class Made(_Frozen):
    """One prepared night."""

    recording: str
    subject: str
    output: FileOrigin
    inputs: tuple[FileOrigin, ...]  # the signal, then its scoring if that is a separate file
    rules: Rules
    channel: str
    rate_hz: float  # of the recording
    stages: dict[str, int]  # number of epochs of each, unscored ones included


class Failed(_Frozen):
    """One recording that could not be prepared by the last command."""

    recording: str
    error: str


class Manifest(_Frozen):
    """Every prepared night of a folder, by name, and the failures of the last command."""

    schema_: Literal["sleepstream/prepared/1"] = Field(default="sleepstream/prepared/1", alias="schema")
    sleepstream: str = __version__
    commands: tuple[str, ...] = ()  # that filled the folder, in order, each once
    nights: tuple[Made, ...] = ()
    failed: tuple[Failed, ...] = ()


def describe_file(path: Path) -> FileOrigin:
    """Describe a file by name, size and sha256.

    Raises:
        RecordingError: the file cannot be read.

    """
    digest, found = digest_of(path)
    return FileOrigin(name=path.name, bytes=found.st_size, sha256=digest)


def is_current(made: Made | None, inputs: Sequence[FileOrigin], rules: Rules, out: Path) -> bool:
    """Whether a prepared night exists, unchanged, from the same input and by the same rules."""
    if made is None or made.inputs != tuple(inputs) or made.rules != rules:
        return False
    output = out / made.output.name
    return output.is_file() and describe_file(output) == made.output


def read_manifest(out: Path) -> Manifest:
    """Read the manifest of a folder; an empty one if there is none.

    Raises:
        RecordingError: the manifest is damaged or of another program.

    """
    path = out / FILE_NAME
    if not path.exists():
        return Manifest()
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RecordingError(
            f"{path} is not a manifest that this version can read; move it away or choose another --out"
        ) from error


def write_manifest(out: Path, manifest: Manifest) -> None:
    """Write the manifest, completely or not at all.

    Raises:
        SinkError: the folder cannot be written.

    """
    partial = out / f"{FILE_NAME}.partial"
    try:
        partial.write_text(manifest.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")
        partial.replace(out / FILE_NAME)
    except OSError as error:
        raise SinkError(f"cannot write {out / FILE_NAME}: {error.strerror}; choose another --out") from error
