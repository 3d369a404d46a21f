"""The network one epoch at a time, as a live stream needs it: arrays in, logits out.

What a stream remembers is kept as its runtime likes it, and made only when asked for: off the 30 s grid
nothing is committed, so a hop moves no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.network.runtime import InferenceSession

Singles = NDArray[np.float32]

# What streams remember has its axes in one order in `State` and in another in `Past`.
TO_PAST = (3, 1, 4, 2, 0, 5, 6, 7)
TO_STATE = (4, 1, 3, 0, 2, 5, 6, 7)


class State(NamedTuple):
    """What a stream remembers between epochs, as model/mc2sleepnet.py lays it out."""

    memory: Tensor  # (B, layers, 2 views, 2 attentions, key/value, H, P, D / H)
    seen: Tensor  # (B,) int64


class Stepper(Protocol):
    """What every runtime does for live streams; tokens and pasts are its own."""

    def start(self) -> Any:
        """Return the past of a stream that has seen nothing."""
        ...

    def joined(self, pasts: Sequence[Any]) -> Any:
        """Put the pasts of several streams side by side."""
        ...

    def encode(self, raw: Singles, spectrum: Singles) -> Any:
        """Embed epochs: (B, 3000) µV and (B, 29, 128) dB, NaN where lost -> tokens."""
        ...

    def step(self, tokens: Any, present: NDArray[np.bool_], past: Any) -> tuple[Singles, Callable[[], Any]]:
        """One epoch of B streams; present (B, 2) says which views are there.

        Returns:
            joint logits (B, 5), and what makes the past that has this epoch in it.

        """
        ...


class TorchStepper:
    """A network that torch runs, on any device."""

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network = network
        self._device = device

    @torch.inference_mode()
    def start(self) -> Any:
        """As `Stepper`."""
        return self._network.initial_state(1)

    @torch.inference_mode()
    def joined(self, pasts: Sequence[Any]) -> Any:
        """As `Stepper`."""
        return type(pasts[0])(*(torch.cat(parts) for parts in zip(*pasts, strict=True)))

    @torch.inference_mode()
    def encode(self, raw: Singles, spectrum: Singles) -> Tensor:
        """As `Stepper`; tokens (B, 2, D)."""
        tokens: Tensor = self._network.encode(self._there(raw), self._there(spectrum))
        return tokens

    @torch.inference_mode()
    def step(
        self, tokens: Tensor, present: NDArray[np.bool_], past: Any
    ) -> tuple[Singles, Callable[[], Any]]:
        """As `Stepper`."""
        logits, after = self._network.step(tokens, self._there(present), past)
        return logits.cpu().numpy(), lambda: after

    def _there(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class Past(NamedTuple):
    """What streams remember, with the axes in the order in which the graph of a step comes by them."""

    memory: Singles  # (2 attentions, layers, key/value, 2 views, B, H, P, D / H)
    seen: NDArray[np.int64]  # (B,): how many of the P places are filled
    given: dict[str, Singles]  # to the graph: the same in contiguous pieces, and what is not filled yet


class OnnxStepper:
    """A network that ONNX Runtime runs on the CPU.

    Args:
        encode: the graph of `encode`; model/graphs.py makes both.
        step: the graph of `step`.
        memory: that of a stream which has seen nothing, as the network lays it out.

    """

    def __init__(self, encode: InferenceSession, step: InferenceSession, memory: Singles) -> None:
        self._encode, self._step = encode, step
        self._nothing = self.past(memory, np.zeros(1, np.int64))

    def start(self) -> Past:
        """As `Stepper`."""
        return self._nothing

    def joined(self, pasts: Sequence[Past]) -> Past:
        """As `Stepper`."""
        memory = np.concatenate([past.memory for past in pasts], axis=4)
        return _past(memory, np.concatenate([past.seen for past in pasts]))

    def encode(self, raw: Singles, spectrum: Singles) -> Singles:
        """As `Stepper`; tokens (B, 2, D)."""
        (tokens,) = self._encode.run(None, {"raw": raw, "spectrum": spectrum})
        return tokens  # type: ignore[no-any-return]

    def step(
        self, tokens: Singles, present: NDArray[np.bool_], past: Past
    ) -> tuple[Singles, Callable[[], Past]]:
        """As `Stepper`."""
        logits, new = self.run(tokens, present, past)
        return logits, lambda: _after(past, new)

    def run(self, tokens: Singles, present: NDArray[np.bool_], past: Past) -> tuple[Singles, Singles]:
        """Joint logits (B, 5), and what is new of the memory: the same axes, of one place."""
        logits, new = self._step.run(None, {"tokens": tokens, "present": present, **past.given})
        return logits, np.moveaxis(new, 2, 0).reshape(*past.memory.shape[:6], 1, -1)

    def past(self, memory: Singles, seen: NDArray[np.int64]) -> Past:
        """Take over what streams remember as the network lays it out; see `State`."""
        return _past(np.ascontiguousarray(memory.transpose(TO_PAST)), seen)


def _past(memory: Singles, seen: NDArray[np.int64]) -> Past:
    """Cut memory into what each product of the graph takes: (2 views, B, 1, H, P, D / H)."""
    places = memory.shape[6]
    filled = np.arange(places + 1) >= places - seen[:, None]  # the last place is the present
    blocked = np.where(filled, 0, -np.inf).astype(np.float32)[:, None, None, None]
    pieces = np.expand_dims(memory, 5).reshape(-1, *memory.shape[3:5], 1, *memory.shape[5:])
    return Past(memory, seen, {"blocked": blocked} | {f"past_{n}": piece for n, piece in enumerate(pieces)})


def _after(past: Past, new: Singles) -> Past:
    """Move the memory up by one place."""
    memory = np.empty_like(past.memory)
    memory[..., :-1, :] = past.memory[..., 1:, :]
    memory[..., -1:, :] = new
    return _past(memory, np.minimum(past.seen + 1, memory.shape[6]))
