"""What the manifest of prepared nights says of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from streamer import __version__
from streamer.conditioner import BAND_HZ
from streamer.messages import RATE_HZ
from tools.manifest import Entry, Failure, Frozen, Input, Manifest

Schema = Literal["sleepstream/prepared/1"]
SCHEMA: Schema = "sleepstream/prepared/1"


class Rules(Frozen):
    """What determines a prepared night besides its input; nights of another version are prepared again."""

    channels: tuple[str, ...]  # wanted ones, best first; empty: chosen by the labels
    subject: str  # wanted one; "": as in the file
    drop_unscored: bool
    wake_min: int  # of wake kept on either side of sleep
    band_hz: tuple[float, float] = BAND_HZ
    rate_hz: int = RATE_HZ
    sleepstream: str = __version__


class Made(Entry):
    """One prepared night."""

    schema_: Schema = Field(default=SCHEMA, alias="schema")
    status: Literal["done"] = "done"
    subject: str
    inputs: tuple[Input, ...]  # the signal, then its scoring if that is a separate file
    outputs: dict[str, int]  # file in the folder -> size
    rules: Rules
    channel: str
    rate_hz: float  # of the recording
    stages: dict[str, int]  # number of epochs of each, unscored ones included


class Failed(Failure):
    """One recording that could not be prepared."""

    schema_: Schema = Field(default=SCHEMA, alias="schema")


Outcome = Made | Failed
_LINE: TypeAdapter[Outcome] = TypeAdapter(Annotated[Outcome, Field(discriminator="status")])


def manifest_of(folder: Path) -> Manifest[Outcome]:
    """The manifest of a folder of prepared nights, to be opened by `with`."""
    return Manifest(folder, _LINE)
