"""The hot path for whole recordings: the network takes many epochs at once, and says the same of each.

Nothing waits for a stage here, so epochs are encoded in batches and the stacks pass over a whole block of
them: the parallel pass that the network was trained with. Its numbers are those of the live path to 1e-5 of a
probability; not to the bit, because a sum over a batch is rounded in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamer.frontend import FrontEnd, Graded
from streamer.messages import EPOCH_S, Item, StreamInfo
from streamer.network.stager import Model
from streamer.network.staging import Staged
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
        self._network = Blocks(model)
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
        said = iter(self._network.score([one for one in waiting if isinstance(one, Graded)]))
        for one in waiting:
            if isinstance(one, Graded):
                staged = next(said)
                yield self._scorer.score(one, staged.probabilities, staged.warmup)
            else:
                yield one


class Blocks:
    """What `Session` is to single windows, for blocks of epochs: one stream's committed past."""

    def __init__(self, model: Model) -> None:
        self._model = model
        with torch.inference_mode():
            self._state = model.network.initial_state(1)
        self._seen = 0  # epochs with data

    def score(self, block: list[Graded]) -> list[Staged]:
        """Stage the next epochs. One that is not usable is committed as lost: the network's clock goes on."""
        if not block:
            return []
        usable = [one.usable for one in block]
        seen = self._seen + np.cumsum(usable)
        self._seen = int(seen[-1])
        with torch.inference_mode():
            rows = torch.softmax(self._logits(block, usable).double(), 1).tolist()
        warmup = seen < self._model.contract.warmup_epochs
        return [
            Staged(tuple(row) if real else None, bool(warm))
            for row, real, warm in zip(rows, usable, warmup, strict=True)
        ]

    def _logits(self, block: list[Graded], usable: list[bool]) -> Tensor:
        """(epochs, 5) of the joint head."""
        network, device = self._model.network, self._model.device
        present = torch.tensor(usable, device=device)
        tokens = torch.zeros((len(block), *network.mask.shape), device=device)
        real = [one.window for one in block if one.usable]
        if real:
            raw = torch.from_numpy(np.stack([window.samples for window in real]))
            spectra = torch.from_numpy(np.stack([window.spectrogram for window in real]))
            tokens[present] = network.encode(raw.to(device), spectra.to(device))
        logits, self._state = advance(
            network, tokens[None], present[None, :, None].expand(1, -1, 2), self._state
        )
        return logits[0]


def advance(network: Any, tokens: Tensor, present: Tensor, state: Any) -> tuple[Tensor, Any]:
    """As the network's `step`, for T epochs at once.

    tokens (B, T, 2, D), present (B, T, 2) bool -> joint logits (B, T, 5), and the state after the last.
    """
    first, streams, memory = network.relate(tokens, present, state)
    logits = network.classify(first, streams)[:, :, 0]
    places, epochs = state.memory.size(6), tokens.size(1)
    seen = (state.seen + epochs).clamp(max=places)
    return logits, state._replace(memory=memory[:, :, :, :, :, :, epochs:], seen=seen)
