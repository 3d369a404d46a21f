"""The hot path: raw chunks and gaps in, scores and the ledger of losses out.

The same live, in replay and in evaluation. Synchronous, no clock, no I/O: what comes out depends on the
samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from streamer.frontend import FrontEnd, Graded
from streamer.messages import RATE_HZ, Doubt, Gap, Item, Notice, Score, StreamInfo, Switch, most_probable
from streamer.settings import SignalSettings
from streamer.smoother import Smoother
from streamer.staging import Stager

Output = Score | Gap | Doubt | Switch | Notice
NO_NETWORK = "the network could not be reached"  # among the reasons of a quality


class Pipeline:
    """One stream's stages, driven in the order in which the signal passes them.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, hop_s: int, model: Stager) -> None:
        self._front = FrontEnd(info, signal, hop_s)
        self.label = self._front.label
        self._session = model.session()
        self._troubled = False  # the network is out of reach
        self._scorer = Scorer()

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item of the source; give each score and each loss (in device samples), in order.

        Lazy: it must be iterated to its end before the next push.
        """
        return chain.from_iterable(map(self._staged, self._front.push(item)))

    def flush(self) -> Iterator[Output]:
        """The stream has ended: score what the stages still held back."""
        return chain.from_iterable(map(self._staged, self._front.flush()))

    def _staged(self, output: Graded | Gap | Doubt | Switch) -> Iterator[Output]:
        if not isinstance(output, Graded):
            yield output
            return
        probabilities, warmup, trouble = self._session.score(output.window, output.usable)
        if bool(trouble) != self._troubled:
            self._troubled = not self._troubled
            yield Notice(trouble or "the network is back")
        if trouble and output.usable and probabilities is None:
            quality = replace(output.quality, reasons=(*output.quality.reasons, NO_NETWORK))
            output = replace(output, quality=quality)
        yield self._scorer.score(output, probabilities, warmup)


class Scorer:
    """Makes scores of what the network says of one stream's windows; remembers the smoother's belief."""

    def __init__(self) -> None:
        self._smoother = Smoother.from_figures()
        self._scored_s = 0  # where the last window ended

    def score(self, graded: Graded, probabilities: tuple[float, ...] | None, warmup: bool) -> Score:
        """Take what the network says of the next window; None where it was not usable."""
        window = graded.window
        end_s = window.end // RATE_HZ
        smoothed = self._smoother.push(probabilities, end_s - self._scored_s)
        self._scored_s = end_s
        return Score(
            end=window.end,
            epoch=window.epoch,
            stage=most_probable(probabilities),
            smoothed=smoothed,
            probabilities=probabilities,
            warmup=warmup,
            quality=graded.quality,
            window=window,
            arrived=window.arrived,
            fast_uv=graded.fast_uv,
        )
