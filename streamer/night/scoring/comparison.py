"""Compares a session with a scorer's hypnogram: how well they agree, and whether they belong together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamer.messages import EPOCH_S, STAGES, Label
from streamer.night.agreement import Agreement, cohen_kappa, compare_stages
from streamer.night.hypnogram import Scoring
from streamer.payloads import PublishedStage

LEAST_KAPPA = 0.1  # below, the two are doubted to be of the same night
CHANCE_SIGMAS = 1.645  # standard errors below which a kappa is no better than chance (one-sided, 5 %)
CLEAR_KAPPA = 0.6  # above, they agree, however few epochs there are
LATER_EPOCHS = 240  # largest shift between the two that is tried: 2 h
LATER_LEAST = 120  # number of epochs in which the shifted scorings must overlap
LATER_GAIN = 0.15  # gain of kappa from which a shift is reported
LISTED = 6  # number of words named in a message


@dataclass(frozen=True, slots=True)
class Comparison:
    """The agreement of a session and a scorer, and reasons to doubt it.

    Attributes:
        truth: the scorer's stage of each epoch.
        found: their agreement.
        unknown: the scorer's words that were not understood, and how often each occurs; those epochs are
            unscored.
        doubts: reasons why the scoring may not belong to the recording.

    """

    truth: tuple[Label, ...]
    found: Agreement
    unknown: Mapping[str, int]
    doubts: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Convert to JSON values."""
        return {**self.found.to_json(), "not_understood": dict(self.unknown), "doubts": list(self.doubts)}

    def said(self) -> list[str]:
        """Remarks for the user, one line each."""
        lines = []
        if self.unknown:
            listed = [f"{word!r} ({count})" for word, count in list(self.unknown.items())[:LISTED]]
            more = f" and {len(self.unknown) - LISTED} more" if len(self.unknown) > LISTED else ""
            lines.append(f"not understood as a sleep stage, and left out: {', '.join(listed)}{more}")
        return [*lines, *(f"doubtful: {doubt}" for doubt in self.doubts)]


def compare(
    scoring: Scoring, labels: Sequence[PublishedStage], confidence: Sequence[float | None] | None = None
) -> Comparison:
    """Compare a scorer's stages with a session's, epoch by epoch.

    Args:
        scoring: the scorer's stages.
        labels: the session's stages, one per epoch.
        confidence: the probability of each of the session's stages, if known.

    """
    truth = scoring.labels(len(labels))
    found = compare_stages(truth, labels, confidence)
    doubts = (*scoring.doubts, *_extent(scoring, len(labels)), *_chance(found), *_later(truth, labels))
    return Comparison(truth, found, scoring.unknown, doubts)


def format_comparison(
    compared: Comparison, stages: Sequence[PublishedStage], smoothed: Sequence[PublishedStage]
) -> str:
    """The content of agreement.json: the agreement of the stages, and of the smoothed ones, with a scorer."""
    also = compare_stages(compared.truth, smoothed).to_json()
    return json.dumps({**compared.to_json(), "smoothed": also}, indent=1) + "\n"


def _extent(scoring: Scoring, n_epochs: int) -> list[str]:
    """Doubts because the scoring does not cover the same epochs as the session."""
    doubts = []
    if scoring.contradictions:
        doubts.append(
            f"{scoring.contradictions} of its stages overlap an earlier, different one, which counts"
        )
    end = max((onset + duration for onset, duration, _ in scoring.stages), default=0.0) / EPOCH_S
    begin = min((onset for onset, _, _ in scoring.stages), default=0.0) / EPOCH_S
    if not scoring.placed and abs(end - n_epochs) > 1:
        return [*doubts, f"it has {round(end)} epochs, but the recording {n_epochs}"]
    outside = max(0.0, end - n_epochs) + max(0.0, -begin)
    if outside > 1:
        doubts.append(
            f"it reaches from epoch {math.floor(begin)} to {math.ceil(end)}, but the recording has {n_epochs}"
        )
    elif n_epochs and end - max(0.0, begin) < n_epochs / 2:
        doubts.append(f"it covers {round(end - max(0.0, begin))} of the recording's {n_epochs} epochs")
    return doubts


def _chance(found: Agreement) -> list[str]:
    """A doubt if they agree no better than by chance."""
    if not found.n:
        return ["there is no epoch that both have scored"]
    if found.kappa is None:
        return []
    counts = np.array(found.confusion) / found.n
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    expected = float(rows @ columns)
    # Standard error of kappa without any agreement (Fleiss, Cohen and Everitt, Psychol. Bull. 72:323, 1969).
    spread = expected + expected**2 - float((rows * columns * (rows + columns)).sum())
    sigma = math.sqrt(max(spread, 0.0) / found.n) / (1 - expected)
    if found.kappa > min(max(LEAST_KAPPA, CHANCE_SIGMAS * sigma), CLEAR_KAPPA):
        return []
    return [
        f"they agree no better than by chance (kappa {found.kappa:.2f} over {found.n} epochs): is it the "
        "scoring of this recording, and of this channel?"
    ]


def _later(truth: Sequence[PublishedStage], labels: Sequence[PublishedStage]) -> list[str]:
    """A doubt if they would agree much better when shifted in time."""
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
        f"they would agree better (kappa {kappas[best]:.2f} instead of {kappas[0]:.2f}) if it were {moved}: "
        "do both begin at the same time?"
    ]


def _kappa_shifted(one: np.ndarray, other: np.ndarray, shift: int) -> float | None:
    """Cohen's kappa with `one` moved `shift` epochs later; None if too few epochs overlap."""
    a, b = (
        (one[: one.size - shift], other[shift:])
        if shift >= 0
        else (one[-shift:], other[: other.size + shift])
    )
    both = (a >= 0) & (b >= 0)
    if both.sum() < LATER_LEAST:
        return None
    return cohen_kappa(np.bincount(5 * a[both] + b[both], minlength=25).reshape(5, 5))
