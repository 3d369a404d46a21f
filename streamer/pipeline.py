"""The hot path: raw chunks and gaps in, scores and the ledger of losses out.

The same live, in replay and in evaluation. Synchronous, no clock, no I/O: what comes out depends on the
samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.conditioner import Conditioner
from streamer.fallback import derivation, mixed
from streamer.messages import RATE_HZ, Doubt, Gap, Item, Score, StreamInfo, Switch, Window, most_probable
from streamer.plausibility import Plausibility
from streamer.quality import QualityMeter, usable
from streamer.settings import SignalSettings
from streamer.smoother import Smoother
from streamer.stager import Model, Session
from streamer.window import Windows

Output = Score | Gap | Doubt | Switch


class Pipeline:
    """One stream's stages, driven in the order in which the signal passes them.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, hop_s: int, model: Model) -> None:
        self._derivation = derivation(info, signal)
        self.label = self._derivation.label
        self._plausibility = Plausibility(info.rate_hz, self.label)
        self._quality = QualityMeter(info.rate_hz, signal.mains_hz)
        self._conditioner = Conditioner(info.rate_hz, signal.bridge_s)
        self._windows = Windows(hop_s)
        self._session = Session(model)
        self._smoother = Smoother.from_figures()
        self._scored_s = 0  # where the last window ended
        self._rate_hz = info.rate_hz
        self._changed_s = float("-inf")  # since when the present channel is staged

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
        yield from self._scores(self._conditioner.flush())

    def _advance(self, derived: Item | Switch) -> Iterator[Output]:
        if isinstance(derived, Switch):
            yield from self._scores(self._conditioner.restart())
            self._changed_s = derived.at / self._rate_hz
            yield derived
            return
        if isinstance(derived, Gap):
            yield derived
        doubt = self._plausibility.push(derived)
        if doubt is not None:
            yield Doubt(doubt)
        self._quality.push(derived)
        yield from self._scores(self._conditioner.push(derived))

    def _scores(self, conditioned: list[Item]) -> Iterator[Score]:
        for item in conditioned:
            yield from map(self._score, self._windows.push(item))

    def _score(self, window: Window) -> Score:
        end_s = window.end // RATE_HZ
        quality = mixed(self._quality.grade(end_s), end_s - self._changed_s)
        probabilities, warmup = self._session.score(window, usable(quality))
        smoothed = self._smoother.push(probabilities, end_s - self._scored_s)
        self._scored_s = end_s
        return Score(
            end=window.end,
            epoch=window.epoch,
            stage=most_probable(probabilities),
            smoothed=smoothed,
            probabilities=probabilities,
            warmup=warmup,
            quality=quality,
            window=window,
            arrived=window.arrived,
            fast_uv=self._quality.fast_uv(end_s),
        )
