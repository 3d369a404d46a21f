"""How long each stage lasts, and whether that is a number of epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamer.errors import ScoringError
from streamer.messages import EPOCH_S, Label
from streamer.night.hypnogram import Scored

Timed = tuple[float, float | None, Label | None]  # onset s, duration s or None, stage or not understood


def whole_epochs(timed: Sequence[Timed], path: Path) -> tuple[Scored, ...]:
    """Every stage with its duration, by onset; one without lasts until the next (the last: 30 s).

    What was not understood is left out, but ends the one in front of it.

    Raises:
        ScoringError: stages last something else than a number of 30 s, so that they cannot be compared. The
            first and the last may: a scorer's grid seldom begins and ends with the recording.

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
            f"{path}: {sum(odd.values())} of its {len(stages)} stages last no multiple of 30 s (such as "
            f"{usual_s:g} s); stages are compared by epochs of 30 s: give a scoring in those"
        )
    return stages


def is_epochs(duration_s: float) -> bool:
    """Whether it is a number of 30 s, as near as text and a device's clock say it."""
    near = round(duration_s / EPOCH_S) * EPOCH_S
    # Stages of one time that are there twice, as per channel, have no duration between them.
    return duration_s == 0 or (near > 0 and abs(duration_s - near) <= min(1.0, 0.05 + 1e-3 * duration_s))
