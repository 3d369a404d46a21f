"""CUDA graphs: `encode` and `step` recorded once for a few numbers of streams, then replayed.

A network of this size is a few hundred kernels, each of which takes less time than its launch does. A graph
launches all of them at once, on tensors that stay where they are: what is asked is copied in, what comes of
it is copied out. Never run on a GPU so far; all but `CudaGraph` is tested on a CPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from streamer.messages import EPOCH_SAMPLES
from streamer.network.artifact import WARMUP_CALLS
from streamer.network.stepper import State
from streamer.spectrogram import BINS, FRAMES

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32)  # streams in a pass that have a graph; 32 is what tools.serve takes at once
TOLERANCE = 0.02  # of the largest number: rounding in 8 bits is below it, a wrong graph far above

Tensors = tuple[Tensor, ...]
Work = Callable[[], Tensors]


class Recorded(Protocol):
    """Work on tensors that stay where they are, ready to be done again."""

    outputs: Tensors  # the same memory each time

    def replay(self) -> None:
        """Do it again with what the inputs hold now."""
        ...


Capture = Callable[[Work], Recorded]


class CudaGraph:
    """Work recorded as one CUDA graph."""

    def __init__(self, work: Work) -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiling and first allocations cannot be recorded
            for _ in range(WARMUP_CALLS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.outputs = work()

    def replay(self) -> None:
        """Launch it."""
        self._graph.replay()


class GraphedNetwork:
    """A network whose live methods are replayed for up to `SIZES[-1]` streams at once, and called for more.

    A pass of other than those sizes is filled up to the next: no row reads another, so what the rest holds
    does not matter. All graphs are made here, so none has to wait for one during the night.

    Args:
        network: that runs without graphs.
        device: where it lies.
        capture: what records a piece of work.

    Raises:
        RuntimeError: it cannot be recorded, or a replay does otherwise than the network.

    """

    def __init__(self, network: Any, device: torch.device, capture: Capture = CudaGraph) -> None:
        self.network = network
        self.scripted = network.scripted
        self.mask: Tensor = network.mask
        self.initial_state, self.relate = network.initial_state, network.relate
        self.classify, self.forward = network.classify, network.forward
        self._lock = threading.Lock()  # streams of several threads share the tensors
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():  # not inference_mode: its tensors could not be written to outside of it
            self._encode = {
                size: _Static(self._encoded, _epochs(size, device, generator), capture) for size in SIZES
            }
            self._step = {
                size: _Static(self._stepped, self._moments(size, device, generator), capture)
                for size in SIZES
            }
            for size in SIZES:
                self._encode[size].check(_epochs(size, device, generator))
                self._step[size].check(self._moments(size, device, generator))

    def encode(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        """As `TorchNetwork.encode`."""
        size = padded(raw.size(0))
        if size not in self._encode:
            return self.network.encode(raw, spectrum)  # type: ignore[no-any-return]
        with self._lock:
            (tokens,) = self._encode[size].run((raw, spectrum))
        return tokens

    def step(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """As `TorchNetwork.step`."""
        size = padded(tokens.size(0))
        if size not in self._step:
            return self.network.step(tokens, present, state)  # type: ignore[no-any-return]
        with self._lock:
            logits, memory, seen = self._step[size].run((tokens, present, *state))
        return logits, State(memory, seen)

    def _encoded(self, raw: Tensor, spectrum: Tensor) -> Tensors:
        return (self.network.encode(raw, spectrum),)

    def _stepped(self, tokens: Tensor, present: Tensor, memory: Tensor, seen: Tensor) -> Tensors:
        logits, state = self.network.step(tokens, present, State(memory, seen))
        return logits, *state

    def _moments(self, size: int, device: torch.device, generator: torch.Generator) -> Tensors:
        """Inputs of `step`, drawn: streams at any place of their nights."""
        memory, seen = self.initial_state(size)
        tokens = torch.randn((size, *self.mask.shape), generator=generator).to(device)
        present = (torch.rand((size, 2), generator=generator) < 0.8).to(device)
        memory = torch.randn(memory.shape, generator=generator).to(device)
        filled = torch.randint(0, memory.size(6) + 1, seen.shape, generator=generator)
        return tokens, present, memory, filled.to(device)


class _Static:
    """A function of tensors that begin with the stream, recorded for one number of streams."""

    def __init__(self, function: Callable[..., Tensors], inputs: Tensors, capture: Capture) -> None:
        self._function = function
        self._inputs = inputs
        self._recorded = capture(lambda: function(*inputs))

    def run(self, given: Tensors) -> Tensors:
        """Do it for as many streams as are given, at most those that it was recorded for."""
        streams = given[0].size(0)
        for ours, theirs in zip(self._inputs, given, strict=True):
            ours[:streams].copy_(theirs)
        self._recorded.replay()
        return tuple(one[:streams].clone() for one in self._recorded.outputs)

    def check(self, given: Tensors) -> None:
        """Hold what is replayed against the function itself."""
        for found, expected in zip(self.run(given), self._function(*given), strict=True):
            off = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
            if not off <= TOLERANCE:  # NaN must not pass
                raise RuntimeError(f"a replay is off by {off:.1e} of the largest number")


def padded(streams: int) -> int:
    """Return the next power of two."""
    return 1 << max(streams - 1, 0).bit_length()


def with_graphs(network: Any, device: torch.device, capture: Capture = CudaGraph) -> Any:
    """Record a network, or say in the log why that cannot be had and return it as it is."""
    try:
        return GraphedNetwork(network, device, capture)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        log.warning("no CUDA graphs (%s): the network runs without them, and slower", reason)
        return network


def _epochs(size: int, device: torch.device, generator: torch.Generator) -> Tensors:
    """Inputs of `encode`, drawn at EEG's amplitude."""
    raw = 20 * torch.randn((size, EPOCH_SAMPLES), generator=generator)
    spectrum = 35 + 10 * torch.randn((size, FRAMES, BINS), generator=generator)
    return raw.to(device), spectrum.to(device)
