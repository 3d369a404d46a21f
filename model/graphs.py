"""What a live stream needs of the network, as ONNX graphs: the fastest runtime on a CPU reads those."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import Tensor, nn

from model.mc2sleepnet import FRAMES, MC2SleepNet, State
from streamer.messages import EPOCH_SAMPLES
from streamer.network import GRAPHS
from streamer.spectrogram import BINS


class _Encode(nn.Module):
    def __init__(self, network: MC2SleepNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        return self.network.encode(raw, spectrum)


class _Step(nn.Module):
    def __init__(self, network: MC2SleepNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, tokens: Tensor, present: Tensor, memory: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, state = self.network.step(tokens, present, State(memory, seen))
        return logits, state.memory, state.seen


def graphs(network: MC2SleepNet) -> dict[str, bytes]:
    """Return the files by the names in `GRAPHS`, for any number of streams; needs the extra `train`.

    Names of inputs and outputs are those of `OnnxNetwork`'s arguments and results.
    """
    streams = 2  # a dimension of 1 would be taken for a constant
    raw, spectrum = torch.zeros(streams, EPOCH_SAMPLES), torch.zeros(streams, FRAMES, BINS)
    present = torch.ones(streams, 2, dtype=torch.bool)
    with torch.no_grad():
        tokens, state = network.encode(raw, spectrum), network.initial_state(streams)
        return {
            GRAPHS[0]: _graph(_Encode(network), (raw, spectrum), ["tokens"]),
            GRAPHS[1]: _graph(
                _Step(network), (tokens, present, *state), ["logits", "memory_after", "seen_after"]
            ),
        }


def _graph(module: nn.Module, inputs: tuple[Tensor, ...], outputs: list[str]) -> bytes:
    """Export a module whose inputs all begin with the number of streams."""
    streams = torch.export.Dim("streams")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself uses; the result is verified
        program = torch.onnx.export(
            module.eval(),
            inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: streams} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph: bytes = program.model_proto.SerializeToString()
    return graph
