"""The hot path: raw chunks and gaps in, scores and the ledger of losses out.

The same live, in replay and in evaluation. Synchronous, no clock, no I/O: what comes out depends on the
samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.frontend import FrontEnd, Graded
from streamer.messages import RATE_HZ, Doubt, Gap, Item, Score, StreamInfo, Switch, most_probable
from streamer.settings import SignalSettings
from streamer.smoother import Smoother
from streamer.stager import Model, Session

Output = Score | Gap | Doubt | Switch


class Pipeline:
    """One stream's stages, driven in the order in which the signal passes them.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, hop_s: int, model: Model) -> None:
        self._front = FrontEnd(info, signal, hop_s)
        self.label = self._front.label
        self._session = Session(model)
        self._scorer = Scorer()

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item of the source; give each score and each loss (in device samples), in order.

        Lazy: it must be iterated to its end before the next push.
        """
        return map(self._staged, self._front.push(item))

    def flush(self) -> Iterator[Output]:
        """The stream has ended: score what the stages still held back."""
        return map(self._staged, self._front.flush())

    def _staged(self, output: Graded | Gap | Doubt | Switch) -> Output:
        if not isinstance(output, Graded):
            return output
        probabilities, warmup = self._session.score(output.window, output.usable)
        return self._scorer.score(output, probabilities, warmup)


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
