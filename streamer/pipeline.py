"""The signal's path: raw chunks and gaps in; scores, gaps and channel changes out.

Live staging, replay, archives and evaluation all use it. It is synchronous, without clock or I/O: the output
depends only on the samples, not on how they were cut into chunks or when they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

from streamer.asks import Ask, alone
from streamer.frontend import FrontEnd, Graded
from streamer.messages import (
    EPOCH_S,
    RATE_HZ,
    STAGES,
    UNSCORED,
    Doubt,
    Gap,
    Item,
    Label,
    Score,
    StreamInfo,
    Switch,
    most_probable,
)
from streamer.network.stager import Model, Staged
from streamer.settings import SignalSettings

Output = Score | Gap | Doubt | Switch
Part = Graded | Gap | Doubt | Switch  # output of the stages before the network
BLOCK = 64  # epochs that an archive scores at once; more are not faster and take more memory
MARGIN = 0.25  # of probability, by which another stage must exceed the held one
FORGET_S = 5 * 60  # after so long without a score the earlier stage is forgotten


class Front(Protocol):
    """The stages before the network; normally a `FrontEnd`."""

    label: str  # of the derivation that is staged

    def push(self, item: Item) -> Iterator[Part]:
        """Take the next item of the stream."""
        ...

    def flush(self) -> Iterator[Part]:
        """End of the stream: return what is held back."""
        ...


class Pipeline:
    """All stages of one stream.

    Call `push` and `flush` to stage one stream. To score several streams together, call the parts yourself:
    `front` for the stages before the network, `session` for the network, `take` for the stages after it.

    Args:
        info: the stream's rate and channels.
        signal: which channel to stage, and its unit.
        hop_s: seconds between two scores.
        model: the network.
        front: other stages before the network; then `info`, `signal` and `hop_s` are ignored.
        block: how many epochs to score at once, for archives. More than 1 needs a hop of 30 s, and changes
            probabilities by up to 1e-5, because sums over a block are rounded in another order.

    Raises:
        UsageError: the channel does not exist, or is not a voltage.
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
        self._epochs = 0  # number of `Graded` in `_waiting`

    @property
    def scored_s(self) -> int:
        """End of the last scored window, in seconds of the stream."""
        return self._scorer.scored_s

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item; yield scores, gaps (in device samples) and other outputs, in order.

        Lazy: iterate to the end before the next push. With a `block`, output comes only when the block is
            full.
        """
        return self._scored(alone(self.front(item)))

    def flush(self) -> Iterator[Output]:
        """End of the stream: yield the outputs that the stages still held back."""
        return chain(self._scored(alone(self.front(None))), self._release())

    def front(self, item: Item | None) -> Iterator[Part | Ask]:
        """Run the stages before the network on the next item, or on the end of the stream (None).

        Lazy: settle each `Ask`, and score each `Graded` with `session` and pass the result to `take`, before
            the next part.
        """
        if isinstance(self._front, FrontEnd):
            return self._front.steps(item)
        return self._front.flush() if item is None else self._front.push(item)

    def take(self, graded: Graded, staged: Staged) -> Score:
        """Run the stages after the network: turn its output for a window into a score."""
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
        """Score the waiting block."""
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
        self.scored_s = 0  # end of the last window, in seconds of the stream

    def score(self, graded: Graded, probabilities: tuple[float, ...] | None, warmup: bool) -> Score:
        """Score the next window from the network's output; `probabilities` is None for an unusable window."""
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


class Smoother:
    """Keeps a stage until another is more probable by a margin; causal.

    The network already knows minutes of context. Its output flickers only when two stages are about equally
    probable. A forward filter with the transition probabilities of real hypnograms (Bourlard and Morgan 1994)
    would use that context a second time: it cut the changes of stage to a third, but cost .04 of kappa on
    held-out nights. The margin takes away a third to a half of the changes and costs less than .01 (model
    card, "The smoother").

    Only windows on the 30 s grid change the held stage. A window off the grid is compared with it, but leaves
    it as it is. So smoothed epochs do not depend on the hop.

    Args:
        margin: how much more probable than the held stage another must be, 0..1; 0: no smoothing.

    Raises:
        ValueError: the margin is not in 0..1.

    """

    def __init__(self, margin: float = MARGIN) -> None:
        if not 0 <= margin <= 1:
            raise ValueError(f"margin of {margin}, not a probability")
        self._margin = margin
        self.reset()

    def reset(self) -> None:
        """Forget everything, for a new recording."""
        self._now_s = 0.0
        self._held: int | None = None  # the stage of the last scored window on the grid
        self._held_s = 0.0  # when that ended

    def push(self, probabilities: Sequence[float] | None, seconds: float) -> Label:
        """Take the probabilities of the next window; return its smoothed stage.

        Args:
            probabilities: (5,) in the order of STAGES, or None for a window without a score.
            seconds: from the last window's end (at first, from sample 0) to this one's; more than 30 after a
                gap.

        Returns:
            The stage, or "unscored" for a window without a score.

        """
        if seconds < 0:
            raise ValueError(f"{seconds} s since the last window; time does not go back")
        self._now_s += seconds
        if probabilities is None:
            return UNSCORED
        stage = max(range(len(STAGES)), key=lambda one: probabilities[one])
        held = self._held if self._now_s - self._held_s < FORGET_S else None
        if held is not None and probabilities[stage] <= probabilities[held] + self._margin:
            stage = held
        if self._now_s % EPOCH_S == 0:
            self._held, self._held_s = stage, self._now_s
        return STAGES[stage]
