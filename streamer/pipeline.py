"""The hot path: raw chunks and gaps in, scores and the ledger of losses out.

The same live, in replay and in evaluation. Synchronous, no clock, no I/O: what comes out depends on the
samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from streamer.frontend import FrontEnd, Graded
from streamer.messages import RATE_HZ, Doubt, Gap, Item, Score, StreamInfo, Switch, most_probable
from streamer.network.stager import Model, Staged
from streamer.settings import SignalSettings
from streamer.smoother import Smoother

Output = Score | Gap | Doubt | Switch
Part = Graded | Gap | Doubt | Switch  # what is before the network


class Pipeline:
    """One stream's stages, driven in the order in which the signal passes them.

    `push` and `flush` are all of it. Who has the windows of several streams to score uses the halves: `front`
    for what is before the network, `session` for the network, `take` for what is behind it.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, hop_s: int, model: Model) -> None:
        self._front = FrontEnd(info, signal, hop_s)
        self.label = self._front.label
        self.session = model.session()
        self._scorer = Scorer()

    @property
    def scored_s(self) -> int:
        """Where the last scored window ended, seconds of the stream."""
        return self._scorer.scored_s

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item of the source; give each score and each loss (in device samples), in order.

        Lazy: it must be iterated to its end before the next push.
        """
        return chain.from_iterable(map(self._staged, self.front(item)))

    def flush(self) -> Iterator[Output]:
        """The stream has ended: score what the stages still held back."""
        return chain.from_iterable(map(self._staged, self.front(None)))

    def front(self, item: Item | None) -> Iterator[Part]:
        """The half before the network, of an item, or of the end of the stream (None); lazy, too.

        Each `Graded` is to be scored by `session`, and the outcome taken, before the next part is asked for.
        """
        return self._front.flush() if item is None else self._front.push(item)

    def take(self, graded: Graded, staged: Staged) -> Iterator[Output]:
        """The half behind the network: give the score that its word on a window comes to."""
        probabilities, warmup = staged
        yield self._scorer.score(graded, probabilities, warmup)

    def _staged(self, part: Part) -> Iterator[Output]:
        if not isinstance(part, Graded):
            return iter((part,))
        return self.take(part, self.session.score(part.window, part.usable))


class Scorer:
    """Makes scores of what the network says of one stream's windows; remembers the smoother's belief."""

    def __init__(self) -> None:
        self._smoother = Smoother.from_figures()
        self.scored_s = 0  # where the last window ended

    def score(self, graded: Graded, probabilities: tuple[float, ...] | None, warmup: bool) -> Score:
        """Take what the network says of the next window; None where it was not usable."""
        window = graded.window
        end_s = window.end // RATE_HZ
        smoothed = self._smoother.push(probabilities, end_s - self.scored_s)
        self.scored_s = end_s
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
