"""What the manifest of an archive says of each recording."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from streamer import __version__
from tools.manifest import Entry, Frozen, Input, Manifest


class Options(Frozen):
    """The options that determine the result of a recording, besides its files."""

    channels: tuple[str, ...] = ()  # best first; empty: chosen by the labels
    unit: Literal["V", "mV", "uV", "nV"] | None = None
    rate_hz: float | None = None  # of a CSV without times
    formats: tuple[str, ...] = ()  # of the hypnogram, in addition to epochs.jsonl
    model_sha256: str  # of the artifact
    sleepstream: str = __version__


class Compared(Frozen):
    """The agreement with an expert, in short; agreement.json has all of it."""

    n: int
    accuracy: float | None
    kappa: float | None
    macro_f1: float | None


class Done(Entry):
    """A recording that was staged."""

    status: Literal["done"] = "done"
    inputs: tuple[Input, ...]  # the recording, then the scoring beside it
    asked: Options
    outputs: dict[str, int]  # files in its folder -> size
    channel: str
    rate_hz: float
    started: datetime
    duration_s: float
    lost_s: float
    epochs: int
    statistics: dict[str, float | None]
    agreement: Compared | None  # None: there is no scoring
    took_s: float
    remarks: tuple[str, ...] = ()  # what was left out or doubted


def manifest_of(folder: Path) -> Manifest[Done]:
    """The manifest of a folder of results, to be opened by `with`."""
    return Manifest(folder, "sleepstream/scored/1", Done)
