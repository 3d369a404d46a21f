"""The hot path: raw chunks and gaps in, scores and the ledger of losses out.

The same live, in replay, in archives and in evaluation. Synchronous, no clock, no I/O: what comes out depends
on the samples alone, not on how or when they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from streamer.frontend import FrontEnd, Graded
from streamer.messages import RATE_HZ, Doubt, Gap, Item, Score, StreamInfo, Switch, most_probable
from streamer.network.stager import Model, Staged
from streamer.settings import SignalSettings
from streamer.smoother import Smoother

Output = Score | Gap | Doubt | Switch
Part = Graded | Gap | Doubt | Switch  # what is before the network
BLOCK = 64  # epochs that an archive stages at once; more are no faster, and memory grows with them


class Front(Protocol):
    """The stages before the network; `FrontEnd` is the usual one."""

    label: str  # of the channel that is staged

    def push(self, item: Item) -> Iterator[Part]:
        """Take the next item of the stream."""
        ...

    def flush(self) -> Iterator[Part]:
        """End of the stream: return what is held back."""
        ...


class Pipeline:
    """One stream's stages, driven in the order in which the signal passes them.

    `push` and `flush` are all of it. To score several streams together, call the two halves: `front` for what
    is before the network, `session` for the network, `take` for what is behind it.

    Args:
        info: the stream's rate and channels.
        signal: which channel, and in which unit.
        hop_s: seconds between two scores.
        model: the network.
        front: stages before the network of another kind; then `info`, `signal` and `hop_s` say nothing.
        block: how many epochs to score at once, where nobody waits for a stage. More than 1 needs a hop of
            30 s. Probabilities then differ by the last bits (1e-5 is promised), because a sum over a block is
            rounded in another order.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(
        self,
        info: StreamInfo,
        signal: SignalSettings,
        hop_s: int,
        model: Model,
        *,
        front: Front | None = None,
        block: int = 1,
    ) -> None:
        self._front = front or FrontEnd(info, signal, hop_s)
        self.label = self._front.label
        self.session = model.session()
        self._scorer = Scorer()
        self._block = block
        self._waiting: list[Part] = []
        self._epochs = 0  # of those that wait

    @property
    def scored_s(self) -> int:
        """Where the last scored window ended, seconds of the stream."""
        return self._scorer.scored_s

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item of the source; yield each score and each loss (in device samples), in order.

        Lazy: it must be iterated to its end before the next push. With a `block` nothing leaves before the
        block is full.
        """
        return self._scored(self.front(item))

    def flush(self) -> Iterator[Output]:
        """End of the stream: yield scores of what the stages held back."""
        return chain(self._scored(self.front(None)), self._release())

    def front(self, item: Item | None) -> Iterator[Part]:
        """Run the half before the network on an item, or on the end of the stream (None). Lazy, too.

        Each `Graded` is to be scored by `session`, and the outcome taken, before the next part is asked for.
        """
        return self._front.flush() if item is None else self._front.push(item)

    def take(self, graded: Graded, staged: Staged) -> Score:
        """Run the half behind the network: turn its output into a score."""
        return self._scorer.score(graded, staged.probabilities, staged.warmup)

    def _scored(self, parts: Iterable[Part]) -> Iterator[Output]:
        for part in parts:
            if self._block == 1:
                yield self._staged(part)
                continue
            self._waiting.append(part)
            self._epochs += isinstance(part, Graded)
            if self._epochs == self._block:
                yield from self._release()

    def _staged(self, part: Part) -> Output:
        if not isinstance(part, Graded):
            return part
        return self.take(part, self.session.score(part.window, part.usable))

    def _release(self) -> Iterator[Output]:
        """Score the block that waits."""
        waiting, self._waiting, self._epochs = self._waiting, [], 0
        graded = [one for one in waiting if isinstance(one, Graded)]
        staged = iter(
            self.session.score_block([one.window for one in graded], [one.usable for one in graded])
        )
        for one in waiting:
            yield self.take(one, next(staged)) if isinstance(one, Graded) else one


class Scorer:
    """Turns the network's output into scores; holds the smoother."""

    def __init__(self) -> None:
        self._smoother = Smoother()
        self.scored_s = 0  # where the last window ended

    def score(self, graded: Graded, probabilities: tuple[float, ...] | None, warmup: bool) -> Score:
        """Take the network's output for the next window; None if it was not usable."""
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
