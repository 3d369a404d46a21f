"""Runs the network with ONNX Runtime: the fastest way on a CPU, and without torch.

ONNX graphs and TorchScript are in one artifact; model/export.py refuses unless their probabilities agree to
1e-5.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.network.contract import Shape
from streamer.network.rooms import STREAMS, Memory, Rooms
from streamer.network.runner import PASS, Given, Singles
from streamer.network.runtime import InferenceSession, SessionOptions

# The axes of the memory have one order in the network's `State` and another in `OnnxPast`.
TO_PAST = (3, 1, 4, 2, 0, 5, 6, 7)
TO_STATE = (4, 1, 3, 0, 2, 5, 6, 7)
PLACES = 6  # the axis of remembered epochs, in both
SCALE = ("scale_weight", "scale_mean", "scale_square")  # the fields of `model.standard.Past`


class OnnxPast(NamedTuple):
    """The state of streams, with the axes in the order in which the graph of a step uses them."""

    memory: Memory  # (2 attentions, layers, key/value, 2 views, B, H, P, D / H)
    seen: NDArray[np.int64]  # (B,): how many of the P places are filled
    scale: tuple[Singles, ...]  # of the names in SCALE: (B,), (B, F), (B, F)
    given: dict[str, Singles]  # the graph's inputs: memory in contiguous pieces, unfilled places, scale


class OnnxRunner:
    """A network that ONNX Runtime runs on the CPU.

    Args:
        step: the graph of one epoch of several streams (made by model/graphs.py).
        block: the graph of several epochs of one stream (likewise).
        shape: of a stream's state.
        threads: the most that each graph may use.

    """

    def __init__(self, step: bytes, block: bytes, shape: Shape, threads: int = 1) -> None:
        self._step, self._block = _session(step, threads), _session(block, threads)
        memory = np.zeros((1, *shape.memory), np.float32)
        scale = np.zeros(1, np.float32), *(np.zeros((1, shape.features), np.float32) for _ in range(2))
        self._nothing = _from_state(memory, np.zeros(1, np.int64), scale)
        self._scratch = np.empty(0, np.float32)  # for the memories of a pass: too large to make each time
        self._rooms = Rooms()  # for those of a full pass
        self._turn = threading.Lock()  # guards both

    def start(self) -> OnnxPast:
        """As `Runner`."""
        return self._nothing

    def step(self, given: Given, past: OnnxPast) -> tuple[Singles, Callable[[], OnnxPast]]:
        """As `Runner`."""
        logits, new, *scale = self._step.run(None, {**given._asdict(), **past.given})
        return logits, lambda: _after(past, new, tuple(scale))

    def order(self, pasts: Sequence[OnnxPast]) -> Sequence[int]:
        """As `Runner`."""
        if len(pasts) < PASS:
            return range(len(pasts))
        return self._rooms.order([past.memory for past in pasts])

    def together(self, given: Given, pasts: Sequence[OnnxPast]) -> tuple[Singles, Callable[[int], OnnxPast]]:
        """As `Runner`."""
        with self._turn:
            past = self._joined(pasts)
            logits, new, *scale = self._step.run(None, {**given._asdict(), **past.given})

        def after(at: int) -> OnnxPast:
            one = slice(at, at + 1)
            return _after(pasts[at], new[:, one], tuple(part[one] for part in scale))

        return logits, after

    def block(self, given: Given, past: OnnxPast) -> tuple[Singles, OnnxPast]:
        """As `Runner`."""
        epochs = {name: one[None] for name, one in given._asdict().items()}
        memory = np.ascontiguousarray(past.memory.values.transpose(TO_STATE))
        state = {"memory": memory, "seen": past.seen, **dict(zip(SCALE, past.scale, strict=True))}
        logits, memory, seen, *scale = self._block.run(None, {**epochs, **state})
        return logits[0], _from_state(memory, seen, tuple(scale))

    def _joined(self, pasts: Sequence[OnnxPast]) -> OnnxPast:
        """Put the pasts of several streams side by side."""
        memories = [past.memory for past in pasts]
        joined = self._rooms.joined(memories) if len(pasts) == PASS else self._copied(memories)
        scale = tuple(map(np.concatenate, zip(*(past.scale for past in pasts), strict=True)))
        return _past(joined, np.concatenate([past.seen for past in pasts]), scale)

    def _copied(self, memories: Sequence[Memory]) -> Singles:
        """Copy memories side by side, where those of such a pass before were."""
        values = [memory.values for memory in memories]
        size = sum(one.size for one in values)
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.float32)
        before, after = values[0].shape[:STREAMS], values[0].shape[STREAMS + 1 :]
        joined = self._scratch[:size].reshape(*before, len(values), *after)
        np.concatenate(values, axis=STREAMS, out=joined)
        return joined


def _from_state(memory: Singles, seen: NDArray[np.int64], scale: tuple[Singles, ...]) -> OnnxPast:
    """Convert the state from the network's order of axes."""
    return _past(np.ascontiguousarray(memory.transpose(TO_PAST)), seen, scale)


def _past(memory: Singles, seen: NDArray[np.int64], scale: tuple[Singles, ...]) -> OnnxPast:
    """Split memory into the inputs of the graph's matrix products: (2 views, B, 1, H, P, D / H) each."""
    places = memory.shape[PLACES]
    filled = np.arange(places + 1) >= places - seen[:, None]  # the last place is the present
    blocked = np.where(filled, 0, -np.inf).astype(np.float32)[:, None, None, None]
    pieces = np.expand_dims(memory, 5).reshape(-1, *memory.shape[3:5], 1, *memory.shape[5:])
    named: Mapping[str, Singles] = dict(zip(SCALE, scale, strict=True))
    past = {f"past_{number}": piece for number, piece in enumerate(pieces)}
    return OnnxPast(Memory(memory), seen, scale, {"blocked": blocked, **named, **past})


def _after(past: OnnxPast, new: Singles, scale: tuple[Singles, ...]) -> OnnxPast:
    """Shift the memory by one epoch; `new` is the graph's output."""
    before = past.memory.values
    memory = np.empty_like(before)
    memory[..., :-1, :] = before[..., 1:, :]
    memory[..., -1:, :] = np.moveaxis(new, 2, 0).reshape(*memory.shape[:PLACES], 1, -1)
    return _past(memory, np.minimum(past.seen + 1, memory.shape[PLACES]), scale)


def _session(graph: bytes, threads: int) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # do not burn CPU between hops
    return InferenceSession(graph, options, providers=["CPUExecutionProvider"])
