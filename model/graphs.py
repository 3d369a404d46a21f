"""Build the network's live methods as ONNX graphs, for the runtime that is fastest on a CPU.

A network this small is a few hundred operations, each of which takes longer to start than to run. So the
graphs do not follow the training code: they compute the same in fewer operations, and export verifies that.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbones import RawBackbone, SpectrumBackbone, SpectrumLayer
from model.ensemble import Ensemble
from model.mc2sleepnet import Attention, MC2SleepNet, SequenceLayer, State
from model.scaled_epoch import ScaledEpoch
from model.standard import Past
from streamer.messages import EPOCH_SAMPLES
from streamer.network.artifact import GRAPHS
from streamer.window import BINS, FRAMES


def graphs(network: MC2SleepNet | Ensemble) -> dict[str, bytes]:
    """Return the files by the names in `GRAPHS`; needs the extra `train`.

    The first takes one epoch of any number of streams, the second any number of epochs of one stream. Inputs
    and outputs are named as in `OnnxRunner`.
    """
    with torch.no_grad():
        return dict(zip(GRAPHS, (_step(network), _block(network)), strict=True))


def _step(network: MC2SleepNet | Ensemble) -> bytes:
    streams = 2  # a dimension of 1 would be taken for a constant
    raw, spectrum = torch.zeros(streams, EPOCH_SAMPLES), torch.zeros(streams, FRAMES, BINS)
    layers, _, _, _, heads, places, depth = network.memory_shape
    present = torch.ones(streams, 2, dtype=torch.bool)
    blocked = torch.zeros(streams, 1, 1, 1, places + 1)
    past = [torch.zeros(2, streams, 1, heads, places, depth) for _ in range(4 * layers)]
    first = {0: torch.export.Dim("streams")}
    second = {1: first[0]}
    return _graph(
        _Step(network) if isinstance(network, MC2SleepNet) else _Steps(network),
        (raw, spectrum, present, *network.initial_state(streams)[2:], blocked, *past),
        (*[first] * 7, (second,) * len(past)),
        ["logits", "new", *(f"{name}_after" for name in Past._fields)],
    )


def _block(network: MC2SleepNet | Ensemble) -> bytes:
    epochs = 3
    raw, spectrum = torch.zeros(1, epochs, EPOCH_SAMPLES), torch.zeros(1, epochs, FRAMES, BINS)
    present = torch.ones(1, epochs, 2, dtype=torch.bool)
    along = {1: torch.export.Dim("epochs")}
    return _graph(
        _Block(network),
        (raw, spectrum, present, *network.initial_state(1)),
        (*[along] * 3, *[{}] * len(State._fields)),
        ["logits", *(f"{name}_after" for name in State._fields)],
    )


class _Block(nn.Module):
    """The network's `advance`, as it is."""

    def __init__(self, network: MC2SleepNet | Ensemble) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        raw: Tensor,
        spectrum: Tensor,
        present: Tensor,
        memory: Tensor,
        seen: Tensor,
        scale_weight: Tensor,
        scale_mean: Tensor,
        scale_square: Tensor,
    ) -> tuple[Tensor, ...]:
        logits, state = self.network.advance(
            raw, spectrum, present, State(memory, seen, scale_weight, scale_mean, scale_square)
        )
        return logits, *map(torch.clone, state)  # an input that is an output as it is loses its name


class _Encode(nn.Module):
    """The network's `encode` of one epoch."""

    def __init__(self, network: MC2SleepNet) -> None:
        super().__init__()
        self.network = network
        self.raw = _leaky(cast(RawBackbone, network.raw)) if network.waves else None
        self.level = _spectral(network.level) if network.levels else None
        self.level_scale = ScaledEpoch(network.level_bands, network.level_scale)
        self.spectrum = _spectral(network.spectrum)
        self.scale = ScaledEpoch(network.bands, network.standard)

    def forward(self, raw: Tensor, spectrum: Tensor, present: Tensor, past: Past) -> tuple[Tensor, Past]:
        """(B, 3000) µV and (B, 29, 128) dB, NaN where lost; present (B, 2) -> tokens (2, B, D), the past."""
        network, parts, after = self.network, [], past
        if network.hidden != 0 and self.raw is not None:
            samples = (raw / network.raw_scale_uv).clamp(-25.0, 25.0)
            parts.append(self.raw(torch.where(torch.isnan(raw), 0.0, samples)))
        if network.hidden != 0 and self.level is not None:
            parts.append(self.level(self.level_scale(spectrum, present[:, 0], past)[0]))
        masks = network.mask[:, None].expand(-1, raw.size(0), -1)
        absolute = sum(parts[1:], parts[0]) if parts else masks[0]
        relative = masks[1]
        if network.hidden != 1:
            frames, after = self.scale(spectrum, present[:, 1], past)
            relative = self.spectrum(frames)
        seen = present.T[:, :, None] & (torch.arange(2) != network.hidden)[:, None, None]
        return torch.where(seen, torch.stack([absolute, relative]), network.mask[:, None]), after


def _leaky(backbone: RawBackbone) -> RawBackbone:
    """Its twin with constant slopes, which ONNX Runtime fuses into the convolution; learnt ones are slow."""
    twin = copy.deepcopy(backbone)
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.PReLU):
                setattr(parent, name, nn.LeakyReLU(float(child.weight)))
    return twin


def _spectral(embedder: nn.Module) -> nn.Module:
    """What embeds a spectrum: a summary as it is, a Transformer in ONNX Runtime's terms."""
    return _Spectral(embedder) if isinstance(embedder, SpectrumBackbone) else embedder


class _Spectral(nn.Module):
    """A `SpectrumBackbone`: frames (B, n, features) on their scale -> (B, D)."""

    def __init__(self, backbone: SpectrumBackbone) -> None:
        super().__init__()
        self.embed = _constant(backbone.embed.weight.T)
        self.place = _constant(backbone.place + backbone.embed.bias)
        self.layers = nn.ModuleList(_Layer(cast(SpectrumLayer, layer)) for layer in backbone.layers)
        self.pool = backbone.pool

    def forward(self, frames: Tensor) -> Tensor:
        x = frames @ self.embed + self.place
        for layer in self.layers:
            x = layer(x)
        scores = self.pool.score(torch.tanh(self.pool.look(x))).view(-1, 1, x.size(1))
        return (torch.softmax(scores, dim=2) @ x).squeeze(1)


class _Layer(nn.Module):
    """A `SpectrumLayer` with ONNX Runtime's own attention, which is one operation instead of a dozen."""

    def __init__(self, layer: SpectrumLayer) -> None:
        super().__init__()
        self.layer = layer
        self.project = _constant(layer.project.weight.T)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        given = (x, self.project, layer.project.bias)
        mixed: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::Attention",
            given,
            {"num_heads": layer.heads},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )
        x = _normalised(x + layer.merge(mixed), layer.norm_attention)
        return _normalised(x + layer.feedforward(x), layer.norm_feedforward)


def _normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Apply a norm, spelt out: for 30 rows ONNX Runtime's own takes 1.4 times as long as its parts."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


class _Step(nn.Module):
    """The network's `advance` by one epoch: both views side by side, one product for both.

    The past comes with every product's operand a tensor of its own, so that nothing of it is moved. Of the
    memory it gives only what is new.
    """

    def __init__(self, network: MC2SleepNet) -> None:
        super().__init__()
        self.network = network
        self.encode = _Encode(network)
        pairs = [
            [cast(SequenceLayer, one) for one in pair]
            for pair in zip(network.raw_layers, network.spectrum_layers, strict=True)
        ]
        self.heads = pairs[0][0].self_attention.heads
        self.layers = nn.ModuleList(_BothViews(pair) for pair in pairs)
        self.remember = _stacked(  # what all layers remember of the other view's token
            [torch.cat([pair[view].cross_attention.remember.weight for pair in pairs]).T for view in (0, 1)]
        )

    def forward(
        self,
        raw: Tensor,
        spectrum: Tensor,
        present: Tensor,
        scale_weight: Tensor,
        scale_mean: Tensor,
        scale_square: Tensor,
        blocked: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Epochs as `_Encode` takes them, and the pieces that `OnnxPast.given` describes.

        Gives logits (B, 5), what is new of the memory: (2 views, B, attentions x layers x key/value, H, 1,
        D/H), and `Past` with this epoch in it.
        """
        first, after = self.encode(raw, spectrum, present, Past(scale_weight, scale_mean, scale_square))
        _, batch, width = first.shape
        seen = (first.flip(0) @ self.remember).view(2, batch, -1, self.heads, 1, width // self.heads)
        count = len(self.layers)
        others = seen.chunk(2 * count, 2)
        x, new = first, []
        for number, layer in enumerate(self.layers):
            own, cross = (past[2 * (number + start) :][:2] for start in (0, count))
            x, added = layer(x, others[2 * number :][:2], own, cross, blocked)
            new += added
        logits = self.network.joint(x.transpose(0, 1).flatten(1)) / self.network.temperature
        return logits, torch.cat([*new, seen], dim=2), *map(torch.clone, after)


class _Steps(nn.Module):
    """A `_Step` of each member of an ensemble: each takes its part of the past, and the mean is given."""

    def __init__(self, network: Ensemble) -> None:
        super().__init__()
        self.network = network
        self.steps = nn.ModuleList(_Step(cast(MC2SleepNet, one)) for one in network.members)

    def forward(
        self,
        raw: Tensor,
        spectrum: Tensor,
        present: Tensor,
        scale_weight: Tensor,
        scale_mean: Tensor,
        scale_square: Tensor,
        blocked: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """As `_Step.forward`."""
        own, cross = past[: len(past) // 2], past[len(past) // 2 :]
        widths = self.network.widths
        means, squares = torch.split(scale_mean, widths, 1), torch.split(scale_square, widths, 1)
        mixed, at = [], 0
        new: tuple[list[Tensor], list[Tensor]] = (
            [],
            [],
        )  # of the attention to itself, of that to the other view
        after: list[tuple[Tensor, ...]] = []
        for number, step in enumerate(self.steps):
            end = at + 2 * self.network.layers[number]
            given = scale_weight, means[number], squares[number], blocked
            logits, added, *scale = step(raw, spectrum, present, *given, *own[at:end], *cross[at:end])
            mixed.append(torch.softmax(logits, -1))
            for kept, part in zip(new, added.chunk(2, 2), strict=True):
                kept.append(part)
            after.append(tuple(scale))
            at = end
        shares = self.network.shares_by(after[-1][0])
        mean = (torch.stack(mixed, 1) * shares[:, :, None]).sum(1) * self.network.stage_weights
        logits = torch.log(mean) / self.network.temperature
        scales = [torch.cat([one[place] for one in after], 1) for place in (1, 2)]
        return logits, torch.cat([*new[0], *new[1]], 2), after[-1][0], *scales


class _BothViews(nn.Module):
    """A `SequenceLayer` of each view, one epoch at a time; every tensor of weights begins with the view."""

    def __init__(self, layers: Sequence[SequenceLayer]) -> None:
        super().__init__()
        own, cross = [one.self_attention for one in layers], [one.cross_attention for one in layers]
        self.heads = own[0].heads
        self.own, self.cross = _BothAttentions(own), _BothAttentions(cross)
        scale = (own[0].query.weight.size(0) // self.heads) ** -0.5
        self.look_own = _stacked([torch.cat([a.query.weight * scale, a.remember.weight]).T for a in own])
        self.look_cross = _stacked([a.query.weight.T * scale for a in cross])
        self.widen = _stacked([one.feedforward.widen.weight.T for one in layers])
        self.narrow = _stacked([one.feedforward.narrow.weight.T for one in layers])
        names = ("norm_self", "norm_cross", "norm_feedforward")
        self.norms = nn.ParameterList(
            _stacked([getattr(layer, name).weight[None] for layer in layers]) for name in names
        )

    def forward(
        self,
        x: Tensor,
        other: Sequence[Tensor],
        own: Sequence[Tensor],
        cross: Sequence[Tensor],
        blocked: Tensor,
    ) -> tuple[Tensor, list[Tensor]]:
        """Give x (2, B, D), and the keys and values that it adds to its own past.

        other, own, cross: keys and values of the other view's token, and of both attentions' past.
        """
        query, key, value = self._heads(x @ self.look_own).chunk(3, 2)
        x = _norm(x + self.own(query, (key, value), own, blocked)) * self.norms[0]
        query = self._heads(x @ self.look_cross)
        x = _norm(x + self.cross(query, other, cross, blocked)) * self.norms[1]
        x = _norm(x + F.gelu(x @ self.widen) @ self.narrow) * self.norms[2]
        return x, [key, value]

    def _heads(self, x: Tensor) -> Tensor:
        """(2, B, n x D) -> (2, B, n, H, 1, D/H)."""
        depth = self.look_cross.size(2) // self.heads
        return x.view(2, x.size(1), -1, self.heads, 1, depth)


class _BothAttentions(nn.Module):
    """An `Attention` of each view: the remembered past and the present epoch, which is not yet part of it."""

    def __init__(self, attentions: Sequence[Attention]) -> None:
        super().__init__()
        self.merge = _stacked([one.merge.weight.T for one in attentions])
        self.bias = _stacked([one.bias.flip(1)[None, None, :, None] for one in attentions])

    def forward(
        self, query: Tensor, present: Sequence[Tensor], past: Sequence[Tensor], blocked: Tensor
    ) -> Tensor:
        """query, present (2, B, 1, H, 1, D/H), past (2, B, 1, H, P, D/H) -> (2, B, D)."""
        (key, value), (keys, values) = present, past
        then, now = query @ keys.transpose(-1, -2), (query * key).sum(-1, keepdim=True)
        weights = torch.softmax(torch.cat([then, now], dim=-1) + (self.bias + blocked), dim=-1)
        before, here = weights[..., :-1], weights[..., -1:]
        return (before @ values + here * value).flatten(2) @ self.merge


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone().contiguous(), requires_grad=False)


def _stacked(weights: list[Tensor]) -> nn.Parameter:
    return _constant(torch.stack(weights))


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.size(-1),))


def _graph(
    module: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[Any, ...], outputs: list[str]
) -> bytes:
    """Export a module; `shapes` says for each input which of its dimensions are open, and their names."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself uses; the result is verified
        program = torch.onnx.export(
            module.eval(), inputs, output_names=outputs, dynamic_shapes=shapes, dynamo=True, verbose=False
        )
    assert program is not None
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.value_info):  # where on this computer the code lay
        part.ClearField("metadata_props")
    graph: bytes = proto.SerializeToString()
    return graph
