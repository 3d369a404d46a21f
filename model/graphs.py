"""What a live stream needs of the network, as ONNX graphs: the fastest runtime on a CPU reads those."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.mc2sleepnet import FRAMES, Attention, MC2SleepNet, SequenceLayer
from streamer.messages import EPOCH_SAMPLES
from streamer.network import GRAPHS
from streamer.spectrogram import BINS


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
            GRAPHS[1]: _graph(_Step(network), (tokens, present, *state), ["logits", "new"]),
        }


class _Encode(nn.Module):
    def __init__(self, network: MC2SleepNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        return self.network.encode(raw, spectrum)


class _Step(nn.Module):
    """The network's `step` for one epoch, laid out for speed: both views side by side, one product for both.

    Of the memory it gives only what is new: (B, layers, 2 views, 2 attentions, 2, H, 1, D/H).
    """

    def __init__(self, network: MC2SleepNet) -> None:
        super().__init__()
        self.network = network
        pairs = zip(network.raw_layers, network.spectrum_layers, strict=True)
        self.layers = nn.ModuleList(_BothViews([cast(SequenceLayer, one) for one in pair]) for pair in pairs)

    def forward(self, tokens: Tensor, present: Tensor, memory: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        places = memory.size(6)
        unfilled = torch.arange(places + 1) < places - seen.unsqueeze(1)  # the last place is the present
        blocked = torch.where(unfilled, float("-inf"), 0.0).view(-1, 1, 1, 1, places + 1)
        first = torch.where(present.unsqueeze(-1), tokens, self.network.mask).transpose(0, 1)  # (2, B, D)
        x, new = first, []
        for number, layer in enumerate(self.layers):
            x, added = layer(x, first.flip(0), memory[:, number], blocked)
            new.append(added)
        logits = self.network.joint(x.transpose(0, 1).flatten(1)) / self.network.temperature
        return logits, torch.stack(new, dim=1)


class _BothViews(nn.Module):
    """A `SequenceLayer` of each view, one epoch at a time; every tensor of weights begins with the view."""

    def __init__(self, layers: Sequence[SequenceLayer]) -> None:
        super().__init__()
        self.own = _BothAttentions([layer.self_attention for layer in layers])
        self.cross = _BothAttentions([layer.cross_attention for layer in layers])
        self.widen = _stacked([layer.feedforward.widen.weight.T for layer in layers])
        self.narrow = _stacked([layer.feedforward.narrow.weight.T for layer in layers])
        names = ("norm_self", "norm_cross", "norm_feedforward")
        self.norms = nn.ParameterList(
            _stacked([getattr(layer, name).weight[None] for layer in layers]) for name in names
        )

    def forward(self, x: Tensor, other: Tensor, past: Tensor, blocked: Tensor) -> tuple[Tensor, Tensor]:
        """x, other (2, B, D), past (B, 2 views, 2 attentions, 2, H, P, D/H) -> x, and one more place."""
        mixed, own = self.own(x, x, past[:, :, 0], blocked)
        x = _norm(x + mixed) * self.norms[0]
        mixed, seen = self.cross(x, other, past[:, :, 1], blocked)
        x = _norm(x + mixed) * self.norms[1]
        x = _norm(x + F.gelu(x @ self.widen) @ self.narrow) * self.norms[2]
        return x, torch.stack([own, seen], dim=2)


class _BothAttentions(nn.Module):
    """An `Attention` of each view: the remembered past and the present epoch, which is not yet part of it."""

    def __init__(self, attentions: Sequence[Attention]) -> None:
        super().__init__()
        self.heads = attentions[0].heads
        scale = (attentions[0].query.weight.size(0) // self.heads) ** -0.5
        self.query = _stacked([one.query.weight.T * scale for one in attentions])
        self.remember = _stacked([one.remember.weight.T for one in attentions])
        self.merge = _stacked([one.merge.weight.T for one in attentions])
        self.bias = _stacked([one.bias.flip(1).unsqueeze(1) for one in attentions])  # (2, H, 1, P + 1)

    def forward(self, x: Tensor, source: Tensor, past: Tensor, blocked: Tensor) -> tuple[Tensor, Tensor]:
        """x, source (2, B, D), past (B, 2 views, 2, H, P, D/H) -> (2, B, D), (B, 2 views, 2, H, 1, D/H)."""
        _, batch, width = x.shape
        depth, places = width // self.heads, past.size(4)
        query = (x @ self.query).view(2, batch, self.heads, 1, depth).transpose(0, 1)
        new = (source @ self.remember).view(2, batch, 2, self.heads, 1, depth).transpose(0, 1)
        then = query @ past[:, :, 0].transpose(-1, -2)  # (B, 2, H, 1, P)
        now = (query * new[:, :, 0]).sum(-1, keepdim=True)
        weights = torch.softmax(torch.cat([then, now], dim=-1) + self.bias + blocked, dim=-1)
        mixed = weights[..., :places] @ past[:, :, 1] + weights[..., places:] * new[:, :, 1]
        return mixed.transpose(0, 1).reshape(2, batch, width) @ self.merge, new


def _stacked(weights: list[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack(weights).detach().contiguous(), requires_grad=False)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.size(-1),))


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
