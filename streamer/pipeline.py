"""The hot path: raw chunks and gaps in, scores and the ledger of losses out. The same live, in replay and in tests.

Synchronous, no clock, no I/O: what comes out depends on the samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.conditioner import Conditioner
from streamer.derivation import Derivation
from streamer.messages import RATE_HZ, STAGES, UNSCORED, Gap, Item, Label, Score, Window
from streamer.quality import QualityMeter, usable
from streamer.smoother import Smoother
from streamer.stager import Session
from streamer.window import Windows


class Pipeline:
    """One stream's stages, in the order of the signal: derivation, quality, conditioner, windows, session, smoother."""

    def __init__(
        self,
        derivation: Derivation,
        quality: QualityMeter,
        conditioner: Conditioner,
        windows: Windows,
        session: Session,
        smoother: Smoother,
    ) -> None:
        self._derivation = derivation
        self._quality = quality
        self._conditioner = conditioner
        self._windows = windows
        self._session = session
        self._smoother = smoother
        self._scored_s = 0  # where the last window ended

    def push(self, item: Item) -> Iterator[Score | Gap]:
        """Take the next item of the source; give each score and each loss (in device samples), in order."""
        for derived in self._derivation.push(item):
            yield from self._advance(derived)

    def flush(self) -> Iterator[Score | Gap]:
        """The stream has ended: score what the stages still held back."""
        for derived in self._derivation.flush():
            yield from self._advance(derived)
        for conditioned in self._conditioner.flush():
            for window in self._windows.push(conditioned):
                yield self._score(window)

    def _advance(self, derived: Item) -> Iterator[Score | Gap]:
        if isinstance(derived, Gap):
            yield derived
        self._quality.push(derived)
        for conditioned in self._conditioner.push(derived):
            for window in self._windows.push(conditioned):
                yield self._score(window)

    def _score(self, window: Window) -> Score:
        end_s = window.end // RATE_HZ
        quality = self._quality.grade(end_s)
        probabilities, warmup = self._session.score(window, usable(quality))
        smoothed = self._smoother.push(probabilities, end_s - self._scored_s)
        self._scored_s = end_s
        stage: Label = UNSCORED
        if probabilities is not None:
            stage = STAGES[max(range(len(STAGES)), key=probabilities.__getitem__)]
        return Score(
            end=window.end,
            epoch=window.epoch,
            stage=stage,
            smoothed=smoothed,
            probabilities=probabilities,
            warmup=warmup,
            quality=quality,
            arrived=window.arrived,
        )
