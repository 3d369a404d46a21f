"""A scorer's stages on the 30 s grid of a session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamer.errors import RecordingError, SignalError
from streamer.messages import EPOCH_S, UNSCORED, Label
from streamer.payloads import PublishedStage

TOLERANCE_S = 1e-6  # onsets are decimal text

ScoredSpan = tuple[float, float, Label]  # onset s, duration s, stage


@dataclass(frozen=True, slots=True)
class Scoring:
    """The content of a scorer's file.

    Attributes:
        stages: (onset s, duration s, stage), sorted by onset; onsets count from the recording's sample 0.
        unknown: words that were not understood as a stage, and how often each occurs.
        doubts: reasons why the file may not belong to the recording.
        begun: time of onset 0 by the scorer's clock, s: Unix time, or (below 86,400) a time of day; None if
            the file does not have it.
        placed: True if each stage has a time; False if the stages follow each other from the first epoch on.

    """

    stages: tuple[ScoredSpan, ...] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    placed: bool = True
    begun: float | None = None

    def labels(self, n_epochs: int) -> tuple[Label, ...]:
        """One stage per epoch; see `stages_per_epoch`."""
        return stages_per_epoch(self.stages, n_epochs)

    @property
    def contradictions(self) -> int:
        """Number of stages that begin within an earlier, different one; the earlier one counts."""
        count, end = 0, -math.inf
        last: Label = UNSCORED
        for onset, duration, stage in self.stages:
            count += onset < end - 1 and stage != last
            if onset + duration > end:
                end, last = onset + duration, stage
        return count


def stages_per_epoch(scored: Sequence[ScoredSpan], n_epochs: int) -> tuple[Label, ...]:
    """One stage per epoch: the one that covers at least half of it, else "unscored".

    If two stages cover half of an epoch each, the earlier one is taken.
    """
    half = EPOCH_S / 2
    covered: list[dict[Label, float]] = [{} for _ in range(n_epochs)]
    for onset, duration, stage in scored:
        first = max(0, int(onset // EPOCH_S))
        for epoch in range(first, min(n_epochs, int((onset + duration) // EPOCH_S) + 1)):
            inside = min(onset + duration, (epoch + 1) * EPOCH_S) - max(onset, epoch * EPOCH_S)
            covered[epoch][stage] = covered[epoch].get(stage, 0.0) + max(0.0, inside)
    return tuple(
        next((stage for stage, seconds in stages.items() if seconds >= half - TOLERANCE_S), UNSCORED)
        for stages in covered
    )


def refuse_empty(labels: Sequence[PublishedStage], file: Path) -> None:
    """Refuse a recording of which nothing could be scored, so that it does not look like a result.

    Raises:
        RecordingError: the recording is shorter than an epoch.
        SignalError: no epoch could be scored.

    """
    if not labels:
        raise RecordingError(f"{file} is shorter than one epoch of 30 s; nothing was scored")
    if all(label == "unscored" for label in labels):
        raise SignalError(
            f"{file}: none of its {len(labels)} epochs could be scored; the channel is flat, railed or lost "
            "throughout: choose another one with --channel"
        )
