"""The network on ONNX Runtime, which on a CPU is the fastest: for what a live stream needs of it.

It and TorchScript come out of one artifact and agree to 1e-5 of a probability, or it is not exported
(model/export.py); docs/speed.md has them side by side. Another runtime would be another class with the
methods of `OnnxNetwork`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from streamer.errors import ArtifactError
from streamer.network.artifact import GRAPHS, graphs_inside
from streamer.network.contract import Contract
from streamer.network.runtime import InferenceSession, SessionOptions
from streamer.network.stepper import TO_STATE, OnnxStepper, State


class OnnxNetwork:
    """A network whose `encode` and `step` ONNX Runtime runs on the CPU; the rest stays with TorchScript.

    With tensors, as any network; live streams take its `stepper`, which needs none.

    Args:
        scripted: the same network.
        graphs: ONNX files by the names in `GRAPHS`.
        threads: that each graph may use.

    """

    def __init__(self, scripted: Any, graphs: Mapping[str, bytes], threads: int = 1) -> None:
        self.scripted = scripted
        self.mask: Tensor = scripted.mask
        memory, _ = scripted.initial_state(1)
        encode, step = (_session(graphs[name], threads) for name in GRAPHS)
        self.stepper = OnnxStepper(encode, step, memory.numpy())

    def encode(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        """Embed epochs: (B, 3000) µV and (B, 29, 128) dB, NaN where lost -> tokens (B, 2, D)."""
        return torch.from_numpy(self.stepper.encode(raw.numpy(), spectrum.numpy()))

    def step(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """One epoch: tokens (B, 2, D), present (B, 2) bool -> joint logits (B, 5), next state."""
        memory, seen = state
        past = self.stepper.past(memory.numpy(), seen.numpy())
        logits, new = self.stepper.run(tokens.numpy(), present.numpy(), past)
        added = torch.from_numpy(new).permute(TO_STATE)
        after = torch.cat([memory[:, :, :, :, :, :, 1:], added], dim=6)
        return torch.from_numpy(logits), State(after, (seen + 1).clamp(max=memory.size(6)))

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` streams that have seen nothing."""
        return State(*self.scripted.initial_state(batch))

    def relate(self, tokens: Tensor, present: Tensor, state: State) -> Any:
        """Run T further epochs through both stacks at once, as the network does."""
        return self.scripted.relate(tokens, present, state)

    def classify(self, first: Tensor, streams: Tensor) -> Any:
        """Give the logits of all heads, as the network does."""
        return self.scripted.classify(first, streams)

    def forward(self, raw: Tensor, spectrum: Tensor, present: Tensor) -> Any:
        """Run whole sequences at once, as the network does."""
        return self.scripted.forward(raw, spectrum, present)


def with_onnx(
    scripted: Any, data: bytes, path: Path, contract: Contract, device: torch.device, threads: int
) -> OnnxNetwork:
    """Have ONNX Runtime run the live methods of a network, with the graphs of its artifact.

    Raises:
        ArtifactError: there are none, they are not those of the contract, or the device is no CPU.

    """
    if device.type != "cpu":
        raise ArtifactError(f"runtime 'onnx' serves the CPU, not {device}; use runtime torchscript")
    return OnnxNetwork(scripted, graphs_inside(data, path, contract), threads)


def _session(graph: bytes, threads: int) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the night is mostly waiting
    return InferenceSession(graph, options, providers=["CPUExecutionProvider"])
