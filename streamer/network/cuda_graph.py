"""CUDA graphs: `advance` of one epoch is recorded for a few numbers of streams, then replayed.

The network is a few hundred kernels, each shorter than its launch. A graph launches all of them at once, on
fixed tensors: inputs are copied in, outputs are copied out. Not run on a GPU so far; all but `CudaGraph` is
tested on a CPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from streamer.messages import EPOCH_SAMPLES
from streamer.network.runner import WARMUP_CALLS
from streamer.network.torchscript import State
from streamer.window import BINS, FRAMES

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32)  # numbers of streams for which there is a graph
TOLERANCE = 0.02  # of the largest value: rounding to 8 bits is below it, a wrong graph far above

Tensors = tuple[Tensor, ...]
Work = Callable[[], Tensors]


class Recorded(Protocol):
    """Recorded work on fixed tensors, ready to be replayed."""

    outputs: Tensors  # the same memory each time

    def replay(self) -> None:
        """Run the work on the present content of the inputs."""
        ...


Capture = Callable[[Work], Recorded]


class CudaGraph:
    """Work recorded as one CUDA graph."""

    def __init__(self, work: Work) -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compilation and first allocations cannot be recorded
            for _ in range(WARMUP_CALLS):
                work()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.outputs = work()

    def replay(self) -> None:
        """Launch the graph."""
        self._graph.replay()


class GraphedNetwork:
    """A network that replays graphs for single epochs of up to `SIZES[-1]` streams; other calls run directly.

    A pass with another number of streams is filled up to the next size: rows are independent, so the content
    of the others does not matter. All graphs are made on construction, so that none is made during the night.

    Args:
        network: the network without graphs.
        device: where it is.
        capture: records a piece of work.

    Raises:
        RuntimeError: it cannot be recorded, or a replay differs from the network.

    """

    def __init__(self, network: Any, device: torch.device, capture: Capture = CudaGraph) -> None:
        self.network = network
        self.initial_state = network.initial_state
        self._lock = threading.Lock()  # streams of several threads share the tensors
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():  # not inference_mode: its tensors could not be written to outside of it
            self._graphs = {
                size: _Static(self._advance, self._moments(size, device, generator), capture)
                for size in SIZES
            }
            for size in SIZES:
                self._graphs[size].check(self._moments(size, device, generator))

    def advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """As `TorchNetwork.advance`."""
        size = pad(raw.size(0))
        if size not in self._graphs or raw.size(1) != 1:
            return self.network.advance(raw, spectrum, present, state)  # type: ignore[no-any-return]
        with self._lock:
            logits, *after = self._graphs[size].run((raw, spectrum, present, *state))
        return logits, State(*after)

    def _advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, *state: Tensor) -> Tensors:
        logits, after = self.network.advance(raw, spectrum, present, State(*state))
        return logits, *after

    def _moments(self, size: int, device: torch.device, generator: torch.Generator) -> Tensors:
        """Draw inputs with the amplitude of EEG, and states as at any position in a night."""
        state = State(*self.initial_state(size))
        raw = 20 * torch.randn((size, 1, EPOCH_SAMPLES), generator=generator)
        spectrum = 35 + 10 * torch.randn((size, 1, FRAMES, BINS), generator=generator)
        present = torch.rand((size, 1, 2), generator=generator) < 0.8
        memory = torch.randn(state.memory.shape, generator=generator)
        filled = torch.randint(0, memory.size(6) + 1, state.seen.shape, generator=generator)
        weight = 40 * torch.rand(state.weight.shape, generator=generator)
        mean = torch.randn(state.mean.shape, generator=generator)
        drawn = (raw, spectrum, present, memory, filled, weight, mean, 50 + mean * mean)
        return tuple(one.to(device) for one in drawn)


class _Static:
    """A function of tensors with the streams as first axis, recorded for one number of streams."""

    def __init__(self, function: Callable[..., Tensors], inputs: Tensors, capture: Capture) -> None:
        self._function = function
        self._inputs = inputs
        self._recorded = capture(lambda: function(*inputs))

    def run(self, given: Tensors) -> Tensors:
        """Run it for as many streams as are given, at most the number it was recorded for."""
        streams = given[0].size(0)
        for ours, theirs in zip(self._inputs, given, strict=True):
            ours[:streams].copy_(theirs)
        self._recorded.replay()
        return tuple(one[:streams].clone() for one in self._recorded.outputs)

    def check(self, given: Tensors) -> None:
        """Compare a replay with the function itself.

        Raises:
            RuntimeError: they differ by more than TOLERANCE.

        """
        for found, expected in zip(self.run(given), self._function(*given), strict=True):
            off = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
            if not off <= TOLERANCE:  # NaN must not pass
                raise RuntimeError(f"a replay is off by {off:.1e} of the largest value")


def pad(streams: int) -> int:
    """Return the next power of two."""
    return 1 << max(streams - 1, 0).bit_length()


def with_graphs(network: Any, device: torch.device, capture: Capture = CudaGraph) -> Any:
    """Record a network's graphs; if that fails, log why and return the network unchanged."""
    try:
        return GraphedNetwork(network, device, capture)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        log.warning("no CUDA graphs (%s): the network runs without them, and slower", reason)
        return network
