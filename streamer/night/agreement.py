"""Agreement between two scorings of one night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.messages import STAGES
from streamer.payloads import PublishedStage

Confusion = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement over the epochs that both have scored. A figure without a value is None, never NaN.

    Attributes:
        n: number of epochs that both have scored.
        unscored: number of epochs that the truth has scored and the other has not.
        accuracy: share of the n epochs on which they agree; None without epochs.
        kappa: Cohen's kappa (Cohen, Educational and Psychological Measurement 20:37, 1960); None if both have
            only one and the same stage, because agreement by chance is then certain.
        macro_f1: mean of `f1` over the stages that occur in either; None without epochs.
        f1: 2 TP / (2 TP + FP + FN) of each stage; None for a stage that occurs in neither.
        confusion: (5, 5) epochs; rows: truth, columns: scored, in the order W N1 N2 N3 R.
        confidence: mean probability of the scored stage over the n epochs; None if not given.

    """

    n: int
    unscored: int
    accuracy: float | None
    kappa: float | None
    macro_f1: float | None
    f1: dict[str, float | None]
    confusion: Confusion
    confidence: float | None = None

    def to_json(self) -> dict[str, object]:
        """Convert to JSON values; fractions with six decimals."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def compare_stages(
    truth: Sequence[PublishedStage],
    scored: Sequence[PublishedStage],
    confidence: Sequence[float | None] | None = None,
) -> Agreement:
    """Compare two hypnograms, epoch by epoch.

    Args:
        truth: one label per epoch.
        scored: as many labels; an epoch that is "unscored" or "no_signal" in either is left out.
        confidence: the probability of each scored stage, if known.

    Raises:
        ValueError: the lengths differ.

    """
    if len(truth) != len(scored) or (confidence is not None and len(confidence) != len(scored)):
        raise ValueError(f"{len(truth)} true and {len(scored)} scored epochs must match")
    position = {stage: number for number, stage in enumerate(STAGES)}
    counts = np.zeros((len(STAGES), len(STAGES)), dtype=np.int64)
    sure: list[float] = []
    for number, (true, other) in enumerate(zip(truth, scored, strict=True)):
        if true in position and other in position:
            counts[position[true], position[other]] += 1
            if confidence is not None and (value := confidence[number]) is not None:
                sure.append(value)
    unscored = sum(
        true in position and other not in position for true, other in zip(truth, scored, strict=True)
    )
    return compute_agreement(counts, unscored, sum(sure) / len(sure) if sure else None)


def compute_agreement(
    counts: NDArray[np.int64], unscored: int = 0, confidence: float | None = None
) -> Agreement:
    """Compute the agreement from a confusion matrix.

    Args:
        counts: (5, 5) epochs; rows: truth, columns: scored, in the order W N1 N2 N3 R.
        unscored: number of epochs that the truth has scored and the other has not.
        confidence: mean probability of the scored stage, if known.

    """
    n = int(counts.sum())
    f1 = _f1(counts)
    present = [value for value in f1.values() if value is not None]
    return Agreement(
        n=n,
        unscored=unscored,
        accuracy=int(np.trace(counts)) / n if n else None,
        kappa=cohen_kappa(counts),
        macro_f1=sum(present) / len(present) if present else None,
        f1=f1,
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
        confidence=confidence,
    )


def cohen_kappa(counts: NDArray[np.int64]) -> float | None:
    """Cohen's kappa of a (5, 5) confusion matrix; None where it is undefined, see `Agreement`."""
    n = int(counts.sum())
    # In whole numbers: n ** 2 times the agreement by chance.
    chance = int(counts.sum(axis=0) @ counts.sum(axis=1))
    if n * n == chance:  # also true without epochs
        return None
    return (n * int(np.trace(counts)) - chance) / (n * n - chance)


def _f1(counts: NDArray[np.int64]) -> dict[str, float | None]:
    either = counts.sum(axis=0) + counts.sum(axis=1)  # 2 TP + FP + FN
    return {
        stage: 2 * int(counts[row, row]) / int(either[row]) if either[row] else None
        for row, stage in enumerate(STAGES)
    }


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value
