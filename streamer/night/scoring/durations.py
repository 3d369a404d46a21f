"""Finds how long each stage lasts, and checks that it is a multiple of an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamer.errors import ScoringError
from streamer.messages import EPOCH_S, Label
from streamer.night.hypnogram import ScoredSpan

Timed = tuple[float, float | None, Label | None]  # onset s, duration s if given, stage if understood


def check_whole_epochs(timed: Sequence[Timed], path: Path) -> tuple[ScoredSpan, ...]:
    """Return every stage with its duration, by onset; without one it lasts until the next (the last: 30 s).

    A word that was not understood is left out, but ends the stage before it.

    Raises:
        ScoringError: stages do not last multiples of 30 s. The first and the last need not: a scorer's grid
            seldom begins and ends with the recording.

    """
    ordered = sorted(timed, key=lambda item: item[0])
    ends = [onset for onset, _, _ in ordered[1:]] + [ordered[-1][0] + EPOCH_S] if ordered else []
    lasting = [
        (onset, duration or end - onset) for (onset, duration, _), end in zip(ordered, ends, strict=True)
    ]
    stages = tuple(
        (*place, stage) for place, (*_, stage) in zip(lasting, ordered, strict=True) if stage is not None
    )
    inner = stages[1:-1] if len(stages) > 2 else stages[:1]
    odd = Counter(round(duration, 2) for _, duration, _ in inner if not is_epochs(duration))
    if odd:
        usual_s, _ = odd.most_common(1)[0]
        raise ScoringError(
            f"{path}: {sum(odd.values())} of its {len(stages)} stages are not multiples of 30 s (such as "
            f"{usual_s:g} s); give a scoring in epochs of 30 s"
        )
    return stages


def is_epochs(duration_s: float) -> bool:
    """Whether a duration is a multiple of 30 s, up to rounding and a device's clock."""
    near = round(duration_s / EPOCH_S) * EPOCH_S
    # A stage that is listed twice at the same time, as for two channels, has a duration of 0.
    return duration_s == 0 or (near > 0 and abs(duration_s - near) <= min(1.0, 0.05 + 1e-3 * duration_s))
