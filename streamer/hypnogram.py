"""The expert's stages in a recording's annotations, and one stage per 30 s epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from streamer.errors import RecordingError, SignalError
from streamer.messages import EPOCH_S, UNSCORED, Label
from streamer.payloads import PublishedStage
from streamer.sources.edf_header import is_edf
from streamer.sources.edf_times import read_annotations
from streamer.sources.recordings import read_head

_STAGE = re.compile(r"sleep stage\s*(\S+)", re.IGNORECASE)
# Rechtschaffen and Kales' stages 3 and 4 are the AASM's N3; movement time has no counterpart there.
_LABELS: dict[str, Label] = {
    "w": "W",
    "0": "W",
    "n1": "N1",
    "1": "N1",
    "n2": "N2",
    "2": "N2",
    "n3": "N3",
    "3": "N3",
    "n4": "N3",
    "4": "N3",
    "r": "R",
    "rem": "R",
    "5": "R",
}
_UNSCORED = ("?", "uns", "unscored", "no_signal", "art", "6", "7", "9", "-1", "m", "mt", "movement")

Scored = tuple[float, float, Label]  # onset s, duration s, stage


def label_of(text: str) -> Label:
    """The stage that a scorer's text means: "N2", "2", "Sleep stage N2", "WAKE", "REM", "?" ...

    Raises:
        ValueError: it is no stage.

    """
    name = text.strip()
    match = _STAGE.fullmatch(name)
    name = (match[1] if match else name).lower()
    name = {"wake": "w", "rem": "r"}.get(name, name)
    if name in _UNSCORED:
        return UNSCORED
    if name not in _LABELS:
        raise ValueError(f"{text.strip()!r} is no sleep stage")
    return _LABELS[name]


def sleep_stages(path: Path) -> list[Scored]:
    """Every "Sleep stage" annotation of an EDF+ or BDF+ file: (onset s, duration s, stage), by onset.

    Onsets count from sample 0. An annotation without a duration lasts until the next one (the last: 30 s).
    Empty for other formats and for files without such annotations.

    Raises:
        RecordingError: the file is missing or damaged.

    """
    if not is_edf(read_head(path)):
        return []
    found = [
        (onset, duration, _LABELS.get(match[1].lower(), UNSCORED))
        for onset, duration, text in read_annotations(path)
        if (match := _STAGE.fullmatch(text.strip()))
    ]
    ends = [onset for onset, _, _ in found[1:]] + [found[-1][0] + EPOCH_S] if found else []
    return [
        (onset, duration or end - onset, stage)
        for (onset, duration, stage), end in zip(found, ends, strict=True)
    ]


def stages_per_epoch(scored: Sequence[Scored], n_epochs: int) -> tuple[Label, ...]:
    """One stage per epoch: the one that covers at least half of it, else "unscored".

    Where two stages share an epoch equally, the earlier one has it.
    """
    half = EPOCH_S / 2
    covered: list[dict[Label, float]] = [{} for _ in range(n_epochs)]
    for onset, duration, stage in scored:
        first = max(0, int(onset // EPOCH_S))
        for epoch in range(first, min(n_epochs, int((onset + duration) // EPOCH_S) + 1)):
            inside = min(onset + duration, (epoch + 1) * EPOCH_S) - max(onset, epoch * EPOCH_S)
            covered[epoch][stage] = covered[epoch].get(stage, 0.0) + max(0.0, inside)
    tolerance = 1e-6  # onsets are decimal text
    return tuple(
        next((stage for stage, seconds in stages.items() if seconds >= half - tolerance), UNSCORED)
        for stages in covered
    )


def refuse_empty(labels: Sequence[PublishedStage], file: Path) -> None:
    """A recording of which nothing could be scored must not look like a result.

    Raises:
        RecordingError: it is shorter than an epoch.
        SignalError: no epoch of it could be scored.

    """
    if not labels:
        raise RecordingError(f"{file} holds no whole epoch of 30 s; nothing was scored")
    if all(label == "unscored" for label in labels):
        raise SignalError(
            f"{file}: none of its {len(labels)} epochs could be scored; the channel is flat, railed or lost "
            "throughout: choose another with --channel"
        )
