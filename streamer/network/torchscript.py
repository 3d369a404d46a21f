"""Runs the network as frozen TorchScript, in float32 or half precision.

Only this file, cuda_graph.py and torch_loader.py import torch in the engine, and they are imported only for
TorchScript.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from streamer.network.runner import Given, Singles
from streamer.settings import Precision

LIVE = ("advance", "initial_state")


class State(NamedTuple):
    """The state of B streams between epochs, in the layout of model/mc2sleepnet.py."""

    memory: Tensor  # (B, layers, 2 views, 2 attentions, key/value, H, P, D / H)
    seen: Tensor  # (B,) int64
    weight: Tensor  # (B,)
    mean: Tensor  # (B, F)
    square: Tensor  # (B, F)


class TorchRunner:
    """A network that torch runs, on any device.

    Args:
        network: a `TorchNetwork`, or another with its methods.
        device: where it is.

    """

    def __init__(self, network: Any, device: torch.device) -> None:
        self.network = network
        self.device = device

    @torch.inference_mode()
    def start(self) -> State:
        """As `Runner`."""
        return State(*self.network.initial_state(1))

    @torch.inference_mode()
    def step(self, given: Given, past: State) -> tuple[Singles, Callable[[], State]]:
        """As `Runner`."""
        epochs = [self._there(one).unsqueeze(1) for one in given]
        logits, after = self.network.advance(*epochs, past)
        return logits[:, 0].cpu().numpy(), lambda: State(*after)

    def order(self, pasts: Sequence[State]) -> Sequence[int]:
        """As `Runner`: every order is as good."""
        return range(len(pasts))

    @torch.inference_mode()
    def together(self, given: Given, pasts: Sequence[State]) -> tuple[Singles, Callable[[int], State]]:
        """As `Runner`."""
        past = State(*(torch.cat(parts) for parts in zip(*pasts, strict=True)))
        epochs = [self._there(one).unsqueeze(1) for one in given]
        logits, after = self.network.advance(*epochs, past)
        # Clones, so that one stream's past does not keep those of the others.
        return logits[:, 0].cpu().numpy(), lambda at: State(*(part[at : at + 1].clone() for part in after))

    @torch.inference_mode()
    def block(self, given: Given, past: State) -> tuple[Singles, State]:
        """As `Runner`."""
        logits, after = self.network.advance(*(self._there(one).unsqueeze(0) for one in given), past)
        return logits[0].cpu().numpy(), State(*after)

    def _there(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.device)


class TorchNetwork:
    """A network with frozen weights, so that TorchScript can fold constants.

    Inputs, logits and states are float32, whatever the precision inside.

    Args:
        scripted: the network from its artifact.
        device: where it is.
        precision: of matrix products; torch's autocast keeps sums, norms and softmax in float32.

    """

    def __init__(self, scripted: Any, device: torch.device, precision: Precision = "float32") -> None:
        self.precision = precision
        with deprecated_script():
            self._network = torch.jit.freeze(scripted, preserved_attrs=list(LIVE))
        self._device = device.type
        self._half = None if precision == "float32" else getattr(torch, precision)

    def advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """Run T epochs of B streams: logits (B, T, 5), next state; see `MC2SleepNet.advance`."""
        with self._precision():
            logits, (memory, seen, *scale) = self._network.advance(raw, spectrum, present, state)
        return logits.float(), State(memory.float(), seen, *(one.float() for one in scale))

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` new streams."""
        return State(*self._network.initial_state(batch))

    def _precision(self) -> AbstractContextManager[Any]:
        if self._half is None:
            return nullcontext()
        return torch.autocast(self._device, self._half, cache_enabled=False)  # each weight is used once


@contextmanager
def deprecated_script() -> Iterator[None]:
    """Use `torch.jit`, which torch 2.13 deprecates; no other format carries methods and state."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        yield
