"""The hot path for whole recordings: the network takes many epochs at once, and says the same of each.

Nothing waits for a stage here, so epochs are encoded in batches and the stacks pass over a whole block of
them: the parallel pass that the network was trained with. Its numbers are those of the live path to 1e-5 of a
probability; not to the bit, because a sum over a batch is rounded in another order.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.frontend import FrontEnd, Graded
from streamer.messages import EPOCH_S, Item, StreamInfo
from streamer.network.stager import Model
from streamer.pipeline import Output, Part, Scorer
from streamer.settings import SignalSettings

BLOCK = 64  # epochs; more are no faster, and memory grows with them


class ParallelPipeline:
    """As `Pipeline` at a hop of 30 s, for a recording whose end is known to come.

    Scores and losses leave in the order of `Pipeline`, a block of epochs at a time. Memory is that of one
    block, however long the recording.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, model: Model, block: int = BLOCK) -> None:
        self._front = FrontEnd(info, signal, EPOCH_S)
        self.label = self._front.label
        self._session = model.session()
        self._scorer = Scorer()
        self._block = block
        self._waiting: list[Part] = []
        self._epochs = 0  # of those that wait

    def push(self, item: Item) -> Iterator[Output]:
        """Take the next item of the source; give what it completes. Must be iterated to its end."""
        for output in self._front.push(item):
            yield from self._take(output)

    def flush(self) -> Iterator[Output]:
        """The recording has ended: score what still waits."""
        for output in self._front.flush():
            yield from self._take(output)
        yield from self._release()

    def _take(self, output: Part) -> Iterator[Output]:
        self._waiting.append(output)
        self._epochs += isinstance(output, Graded)
        if self._epochs == self._block:
            yield from self._release()

    def _release(self) -> Iterator[Output]:
        waiting, self._waiting, self._epochs = self._waiting, [], 0
        graded = [one for one in waiting if isinstance(one, Graded)]
        said = iter(self._session.score_block([one.window for one in graded], [one.usable for one in graded]))
        for one in waiting:
            if isinstance(one, Graded):
                staged = next(said)
                yield self._scorer.score(one, staged.probabilities, staged.warmup)
            else:
                yield one
