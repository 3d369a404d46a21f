"""A session beside another scorer's hypnogram: how well they agree, and whether the two belong together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.messages import EPOCH_S, STAGES, Label
from streamer.night.agreement import Agreement, compare_stages
from streamer.night.hypnogram import Scoring
from streamer.payloads import PublishedStage

LEAST_KAPPA = 0.1  # below, two scorings of one night say nothing of each other
CHANCE_SIGMAS = 1.645  # so near to 0, a kappa is no better than chance (one-sided, 5 %)
CLEAR_KAPPA = 0.6  # from here on they agree, however few epochs there are
LATER_EPOCHS = 240  # how far two begins are looked for apart: 2 h
LATER_LEAST = 120  # epochs in which two shifted scorings must overlap
LATER_GAIN = 0.15  # so much better a kappa must become, before another begin is believed
LISTED = 6  # words named in a message


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a session and a scorer agree, and what to know before believing it.

    Attributes:
        truth: the scorer's stage of each epoch.
        found: their agreement.
        unknown: the scorer's words that were not understood, and how often; their epochs are unscored.
        doubts: why the scoring may not belong to the recording.

    """

    truth: tuple[Label, ...]
    found: Agreement
    unknown: Mapping[str, int]
    doubts: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return {
            **self.found.to_json(),
            "not_understood": dict(self.unknown),
            "doubts": list(self.doubts),
        }

    def said(self) -> list[str]:
        """What a person should read beside the figures, a line each."""
        lines = []
        if self.unknown:
            listed = [f"{word!r} ({count})" for word, count in list(self.unknown.items())[:LISTED]]
            more = f" and {len(self.unknown) - LISTED} more" if len(self.unknown) > LISTED else ""
            lines.append(f"not understood as a sleep stage, and left out: {', '.join(listed)}{more}")
        return [*lines, *(f"doubtful: {doubt}" for doubt in self.doubts)]


def compare(
    scoring: Scoring,
    labels: Sequence[PublishedStage],
    confidence: Sequence[float | None] | None = None,
) -> Comparison:
    """Lay a scorer's stages beside a session's, one per epoch.

    Args:
        scoring: of the scorer.
        labels: of the session.
        confidence: as many probabilities of the session's stages, if known.

    """
    truth = scoring.labels(len(labels))
    found = compare_stages(truth, labels, confidence)
    doubts = (*scoring.doubts, *_extent(scoring, len(labels)), *_chance(found), *_later(truth, labels))
    return Comparison(truth, found, scoring.unknown, doubts)


def comparison_text(
    compared: Comparison, stages: Sequence[PublishedStage], smoothed: Sequence[PublishedStage]
) -> str:
    """What agreement.json holds: how the stages, and beside them the smoothed ones, agree with a scorer's."""
    also = compare_stages(compared.truth, smoothed).to_json()
    return json.dumps({**compared.to_json(), "smoothed": also}, indent=1) + "\n"


def _extent(scoring: Scoring, n_epochs: int) -> list[str]:
    """The scoring covers other epochs than the session has."""
    doubts = []
    if scoring.contradictions:
        doubts.append(
            f"{scoring.contradictions} of its stages overlap an earlier, different one; the earlier counts"
        )
    end = max((onset + duration for onset, duration, _ in scoring.stages), default=0.0) / EPOCH_S
    begin = min((onset for onset, _, _ in scoring.stages), default=0.0) / EPOCH_S
    if not scoring.placed and abs(end - n_epochs) > 1:
        return [*doubts, f"it has {round(end)} epochs, and the recording {n_epochs}"]
    outside = max(0.0, end - n_epochs) + max(0.0, -begin)
    if outside > 1:
        doubts.append(
            f"it reaches from epoch {math.floor(begin)} to {math.ceil(end)}, the recording to {n_epochs}"
        )
    elif n_epochs and end - max(0.0, begin) < n_epochs / 2:
        doubts.append(f"it covers {round(end - max(0.0, begin))} of the recording's {n_epochs} epochs")
    return doubts


def _chance(found: Agreement) -> list[str]:
    """They agree no better than two that never saw the same night."""
    if not found.n:
        return ["there is no epoch that both have scored"]
    if found.kappa is None:
        return []
    counts = np.array(found.confusion) / found.n
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    expected = float(rows @ columns)
    # Standard error of kappa where there is none (Fleiss, Cohen and Everitt, Psychol. Bull. 72:323, 1969).
    spread = expected + expected**2 - float((rows * columns * (rows + columns)).sum())
    sigma = math.sqrt(max(spread, 0.0) / found.n) / (1 - expected)
    if found.kappa > min(max(LEAST_KAPPA, CHANCE_SIGMAS * sigma), CLEAR_KAPPA):
        return []
    return [
        f"they agree no better than by chance (kappa {found.kappa:.2f} over {found.n} epochs): is it the "
        "scoring of this recording, and of this channel?"
    ]


def _later(truth: Sequence[PublishedStage], labels: Sequence[PublishedStage]) -> list[str]:
    """They would agree much better if one of them began at another time."""
    position: dict[PublishedStage, int] = {stage: number for number, stage in enumerate(STAGES)}
    one, other = (
        np.array([position.get(label, -1) for label in scored], dtype=np.int64) for scored in (truth, labels)
    )
    most = min(LATER_EPOCHS, len(labels) - LATER_LEAST)
    kappas = {
        shift: kappa
        for shift in range(-most, most + 1)
        if (kappa := _kappa_shifted(one, other, shift)) is not None
    }
    if not kappas or 0 not in kappas:
        return []
    best = max(kappas, key=lambda shift: kappas[shift])
    if abs(best) < 2 or kappas[best] < max(kappas[0], 0.0) + LATER_GAIN:
        return []
    moved = f"{abs(best) * EPOCH_S / 60:g} min {'later' if best > 0 else 'earlier'}"
    return [
        f"they would agree better (kappa {kappas[best]:.2f}, not {kappas[0]:.2f}) if it were laid {moved}: "
        "do both begin at the same time?"
    ]


def _kappa_shifted(one: np.ndarray, other: np.ndarray, shift: int) -> float | None:
    """Cohen's kappa with `one` so many epochs later; None where too few overlap."""
    a, b = (
        (one[: one.size - shift], other[shift:])
        if shift >= 0
        else (one[-shift:], other[: other.size + shift])
    )
    both = (a >= 0) & (b >= 0)
    n = int(both.sum())
    if n < LATER_LEAST:
        return None
    counts = np.bincount(5 * a[both] + b[both], minlength=25).reshape(5, 5)
    chance = float(counts.sum(axis=0) @ counts.sum(axis=1)) / n**2
    return None if chance == 1 else (float(np.trace(counts)) / n - chance) / (1 - chance)
