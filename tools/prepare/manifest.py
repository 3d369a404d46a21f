"""Where prepared nights come from: manifest.json, which stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamer import __version__
from streamer.conditioner import BAND_HZ
from streamer.errors import RecordingError, SinkError
from streamer.messages import RATE_HZ
from tools.digest import digest_of

FILE_NAME = "manifest.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Source(_Frozen):
    """A file as it was when it was read or written."""

    name: str  # without its folder: the hash says which file it is
    bytes: int
    sha256: str


class Rules(_Frozen):
    """What, besides its input, decides how a night comes out; another version's nights are made again."""

    channels: tuple[str, ...]  # asked for, best first; empty: a sensible one
    subject: str  # asked for; empty: whom the file names
    drop_unscored: bool
    wake_min: int  # kept on either side of sleep
    band_hz: tuple[float, float] = BAND_HZ
    rate_hz: int = RATE_HZ
    sleepstream: str = __version__


class Made(_Frozen):
    """One prepared night."""

    recording: str
    subject: str
    output: Source
    inputs: tuple[Source, ...]  # the signal, then its scoring where that is a file of its own
    rules: Rules
    channel: str
    rate_hz: float  # of the recording
    stages: dict[str, int]  # epochs of each, unscored ones included


class Failed(_Frozen):
    """One recording that could not be prepared by the last command."""

    recording: str
    error: str


class Manifest(_Frozen):
    """Every prepared night of a folder, by name, and what failed last."""

    schema_: Literal["sleepstream/prepared/1"] = Field(default="sleepstream/prepared/1", alias="schema")
    sleepstream: str = __version__
    commands: tuple[str, ...] = ()  # that filled the folder, in order; a repeated one once
    nights: tuple[Made, ...] = ()
    failed: tuple[Failed, ...] = ()


def hashed(path: Path) -> Source:
    """Describe a file.

    Raises:
        RecordingError: it cannot be read.

    """
    digest, found = digest_of(path)
    return Source(name=path.name, bytes=found.st_size, sha256=digest)


def still_good(made: Made | None, inputs: Sequence[Source], rules: Rules, out: Path) -> bool:
    """Whether a night is there as its entry says, from the same input by the same rules."""
    if made is None or made.inputs != tuple(inputs) or made.rules != rules:
        return False
    output = out / made.output.name
    return output.is_file() and hashed(output) == made.output


def read_manifest(out: Path) -> Manifest:
    """The manifest of a folder; an empty one where there is none.

    Raises:
        RecordingError: it is damaged or foreign.

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
    """Write it whole or not at all.

    Raises:
        SinkError: the folder cannot be written.

    """
    partial = out / f"{FILE_NAME}.partial"
    try:
        partial.write_text(manifest.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")
        partial.replace(out / FILE_NAME)
    except OSError as error:
        raise SinkError(f"cannot write {out / FILE_NAME}: {error.strerror}; choose another --out") from error
