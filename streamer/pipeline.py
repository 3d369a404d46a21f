"""The hot path: raw chunks and gaps in, scores and the ledger of losses out.

The same live, in replay and in evaluation. Synchronous, no clock, no I/O: what comes out depends on the
samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.channels import choose
from streamer.conditioner import Conditioner
from streamer.derivation import Derivation
from streamer.messages import RATE_HZ, STAGES, UNSCORED, Doubt, Gap, Item, Label, Score, StreamInfo, Window
from streamer.plausibility import Plausibility
from streamer.quality import QualityMeter, usable
from streamer.settings import SignalSettings
from streamer.smoother import Smoother
from streamer.stager import Model, Session
from streamer.window import Windows

Output = Score | Gap | Doubt


class Pipeline:
    """One stream's stages, driven in the order in which the signal passes them.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, hop_s: int, model: Model) -> None:
        pick = choose(info.channels, signal.channel, [info.rate_hz] * len(info.channels))
        self.label = pick.label
        self._derivation = Derivation(pick, info.channels, signal.unit)
        self._plausibility = Plausibility(info.rate_hz, pick.label)
        self._quality = QualityMeter(info.rate_hz, signal.mains_hz)
        self._conditioner = Conditioner(info.rate_hz, signal.bridge_s)
        self._windows = Windows(hop_s)
        self._session = Session(model)
        self._smoother = Smoother.from_figures()
        self._scored_s = 0  # where the last window ended

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item of the source; give each score and each loss (in device samples), in order.

        Lazy: it must be iterated to its end before the next push.
        """
        for derived in self._derivation.push(item):
            yield from self._advance(derived)

    def flush(self) -> Iterator[Output]:
        """The stream has ended: score what the stages still held back."""
        for derived in self._derivation.flush():
            yield from self._advance(derived)
        for conditioned in self._conditioner.flush():
            yield from map(self._score, self._windows.push(conditioned))

    def _advance(self, derived: Item) -> Iterator[Output]:
        if isinstance(derived, Gap):
            yield derived
        doubt = self._plausibility.push(derived)
        if doubt is not None:
            yield Doubt(doubt)
        self._quality.push(derived)
        for conditioned in self._conditioner.push(derived):
            yield from map(self._score, self._windows.push(conditioned))

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
