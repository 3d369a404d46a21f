"""TorchScript at work: frozen, in float32 or in half as many bits, and on a GPU by CUDA graphs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from streamer.errors import ArtifactError
from streamer.network.artifact import torchscript
from streamer.network.cuda_graph import with_graphs
from streamer.network.stepper import State
from streamer.settings import Precision

LIVE = ("encode", "step", "initial_state", "relate", "classify", "mask")


class TorchNetwork:
    """A network that torch runs: its weights made constants, so that what can be computed ahead is.

    Whatever the precision of products inside, all that goes in and comes out is float32: tokens, logits and
    what a stream remembers.

    Args:
        scripted: the same network, as it came out of its artifact.
        device: where it lies.
        precision: of products; sums, norms and softmax stay in float32, as torch's autocast sees fit.

    """

    def __init__(self, scripted: Any, device: torch.device, precision: Precision = "float32") -> None:
        self.scripted = scripted
        self.precision = precision
        self.mask: Tensor = scripted.mask
        self._network = _frozen(scripted)
        self._device = device.type
        self._half = None if precision == "float32" else getattr(torch, precision)

    def encode(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        """Embed epochs: (B, 3000) µV and (B, 29, 128) dB, NaN where lost -> tokens (B, 2, D)."""
        with self._precision():
            tokens: Tensor = self._network.encode(raw, spectrum)
        return tokens.float()

    def step(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """One epoch: tokens (B, 2, D), present (B, 2) bool -> joint logits (B, 5), next state."""
        with self._precision():
            logits, (memory, seen) = self._network.step(tokens, present, state)
        return logits.float(), State(memory.float(), seen)

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` streams that have seen nothing."""
        return State(*self._network.initial_state(batch))

    def relate(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, ...]:
        """Run T further epochs through both stacks at once, as the network does."""
        with self._precision():
            related = self._network.relate(tokens, present, state)
        return tuple(one.float() for one in related)

    def classify(self, first: Tensor, streams: Tensor) -> Tensor:
        """Give the logits of all heads, as the network does."""
        with self._precision():
            logits: Tensor = self._network.classify(first, streams)
        return logits.float()

    def forward(self, raw: Tensor, spectrum: Tensor, present: Tensor) -> Tensor:
        """Run whole sequences at once, as the network does."""
        with self._precision():
            logits: Tensor = self._network.forward(raw, spectrum, present)
        return logits.float()

    def _precision(self) -> AbstractContextManager[Any]:
        if self._half is None:
            return nullcontext()
        return torch.autocast(self._device, self._half, cache_enabled=False)  # each weight is used once


def with_torch(scripted: Any, device: torch.device, precision: Precision) -> Any:
    """Have torch run a network as fast as it can on a device: a `TorchNetwork` or a `GraphedNetwork`.

    Raises:
        ArtifactError: the device cannot do this precision.

    """
    if device.type != "cuda":
        return TorchNetwork(scripted, device, precision)
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ArtifactError(f"precision 'bfloat16': {name} cannot do it; use float16 or float32")
    torch.backends.cudnn.allow_tf32 = False  # or float32 would be 10 bits of it in convolutions
    return with_graphs(TorchNetwork(scripted, device, precision), device)


def _frozen(scripted: Any) -> Any:
    with torchscript():
        return torch.jit.freeze(scripted, preserved_attrs=list(LIVE))
