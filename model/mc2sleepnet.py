"""The whole network: two views of every epoch, two causal stacks that read each other, five heads.

After Na et al., "MC2SleepNet: Multi-modal Cross-masking with Contrastive Learning for Sleep Stage
Classification" (arXiv 2502.17470), with the raw backbone of SleePyCo (Lee et al. 2024). What is ours: every
attention sees the past only and no further back than `context` epochs, and positions are a learnt bias per
distance instead of absolute, so keys and values can be cached and a live epoch costs one pass over one token.
`Size.bands_hz` pools the spectrum into bands, and adds the whole epoch's power as one more frame: a network
that was taught on drawn signals carries over to real ones by band powers, not by what lies within a band.
What that costs can be measured: `Size` also describes a bidirectional twin and networks that see one view.

Letters in the shapes: B streams, T epochs, D token width, H heads, P remembered epochs, 2 views (raw and
spectrum, in this order).
"""

# No `from __future__ import annotations` here: TorchScript reads the annotations themselves.
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = ("joint", "raw_cross", "spectrum_cross", "raw_alone", "spectrum_alone")
STAGE_COUNT = 5
FRAMES = 29
Views = Literal["both", "raw", "spectrum"]
BIN_HZ = 100 / 256
BANDS_HZ = (0.5, 4.0, 8.0, 12.0, 16.0, 30.0)  # delta, theta, alpha, sigma, beta
HIDDEN: dict[Views, int] = {"both": -1, "raw": 1, "spectrum": 0}  # the view that is always masked; -1: none


@dataclass(frozen=True)
class Size:
    """Everything that sets the shape of the network."""

    name: str
    width: int  # D, of every token
    channels: tuple[int, ...]  # of the raw blocks
    convolutions: tuple[int, ...]  # per raw block
    bins: int  # spectrum bins used, from the lowest (bin k is k * 100 / 256 Hz)
    spectrum_layers: int
    sequence_layers: int
    heads: int
    feedforward: int
    context: int = 40  # epochs each attention reaches back, its own included
    dropout: float = 0.1
    causal: bool = True  # False: attention reaches as far ahead as back; for measuring, it cannot be streamed
    views: Views = "both"
    bands_hz: tuple[
        float, ...
    ] = ()  # edges of the bands that the spectrum is pooled into; (): bins as they are

    @property
    def features(self) -> int:
        """Numbers per frame of the spectrum."""
        return len(self.bands_hz) - 1 if self.bands_hz else self.bins

    @property
    def frames(self) -> int:
        """Frames of an epoch; with bands, one for the whole of it."""
        return FRAMES + 1 if self.bands_hz else FRAMES

    @property
    def ahead(self) -> int:
        """Epochs of the future that attention sees."""
        return 0 if self.causal else self.context - 1


SIZES = {
    "base": Size("base", 128, (64, 128, 192, 256, 256), (2, 2, 3, 3, 3), 128, 4, 4, 8, 1024),
    "small": Size("small", 64, (8, 16, 32, 48, 64), (1, 1, 2, 2, 2), 90, 2, 2, 4, 192, bands_hz=BANDS_HZ),
}


class State(NamedTuple):
    """What a stream remembers between epochs; its size never changes."""

    memory: Tensor  # (B, layers, 2 views, 2 attentions, key/value, H, P = context - 1, D / H)
    seen: Tensor  # (B,) int64: how many of the P places are filled


class Gate(nn.Module):
    """Squeeze and excite: one weight per channel from the channel means (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 16)
        self.weigh = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale (B, channels, n) by channel."""
        return x * torch.sigmoid(self.weigh(x.mean(2))).unsqueeze(2)


def raw_block(before: int, channels: int, convolutions: int, pool: bool) -> nn.Sequential:
    """Make a SleePyCo block: convolutions of width 3, pooling by 5, the gate before the last activation.

    SleePyCo pools between blocks. The maximum commutes with a gate above 0 and a rising activation: pooling
    before them differs in what the gate squeezes only, and a fifth of the samples go through both.
    """
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers += [nn.Conv1d(before, channels, 3, padding=1, bias=False), nn.BatchNorm1d(channels)]
        if number == convolutions - 1:
            layers += [nn.MaxPool1d(5, ceil_mode=True)] if pool else []
            layers += [Gate(channels)]
        layers.append(nn.PReLU())
        before = channels
    return nn.Sequential(*layers)


class Pool(nn.Module):
    """Attention pooling: a weighted mean over places, the weights learnt from what is there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, D) -> (B, D)."""
        weights = torch.softmax(self.score(torch.tanh(self.look(x))), dim=1)
        return (weights * x).sum(1)


class RawBackbone(nn.Module):
    """(B, 3000) µV -> (B, D): five blocks, 3000 -> 600 -> 120 -> 24 -> 5 places between them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        before = (1, *size.channels[:-1])
        last = len(size.channels) - 1
        self.blocks = nn.Sequential(
            *(
                raw_block(before[n], size.channels[n], size.convolutions[n], n < last)
                for n in range(last + 1)
            ),
            nn.Conv1d(size.channels[-1], size.width, 1),
        )
        self.pool = Pool(size.width)

    def forward(self, raw: Tensor) -> Tensor:
        """Embed scaled samples, lost ones 0."""
        embedded: Tensor = self.pool(self.blocks(raw.unsqueeze(1)).transpose(1, 2))
        return embedded


class SpectrumLayer(nn.Module):
    """A post-norm Transformer layer over the 29 frames of one epoch; all of them are past at its end."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.project = nn.Linear(size.width, 3 * size.width)
        self.merge = nn.Linear(size.width, size.width)
        self.feedforward = FeedForward(size)
        self.norm_attention = nn.LayerNorm(size.width)
        self.norm_feedforward = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 29, D) -> the same shape."""
        batch, frames, width = x.shape
        query, key, value = (
            self.project(x)
            .view(batch, frames, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        mixed = (
            F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, frames, width)
        )
        x = self.norm_attention(x + self.dropout(self.merge(mixed)))
        fed: Tensor = self.norm_feedforward(x + self.dropout(self.feedforward(x)))
        return fed


class SpectrumBackbone(nn.Module):
    """(B, frames, features) normalised dB -> (B, D)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embed = nn.Linear(size.features, size.width)
        self.place = nn.Parameter(torch.randn(size.frames, size.width) * 0.02)
        self.layers = nn.Sequential(*(SpectrumLayer(size) for _ in range(size.spectrum_layers)))
        self.pool = Pool(size.width)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Embed normalised frames, lost ones 0."""
        embedded: Tensor = self.pool(self.layers(self.embed(spectrum) + self.place))
        return embedded


class FeedForward(nn.Module):
    """Two linear maps with a GELU between."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.widen = nn.Linear(size.width, size.feedforward, bias=False)
        self.narrow = nn.Linear(size.feedforward, size.width, bias=False)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        fed: Tensor = self.narrow(self.dropout(F.gelu(self.widen(x))))
        return fed


class Attention(nn.Module):
    """Attention over the epochs within reach, the present included, with a learnt bias per distance."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.query = nn.Linear(size.width, size.width, bias=False)
        self.remember = nn.Linear(size.width, 2 * size.width, bias=False)
        self.merge = nn.Linear(size.width, size.width, bias=False)
        # Heads start from short-sighted to far-sighted, as in ALiBi (Press et al. 2022).
        slopes = torch.logspace(0, -2, size.heads, base=10).unsqueeze(1)
        distance = torch.arange(-size.ahead, size.context)  # in epochs, those of the future below 0
        self.bias = nn.Parameter(-slopes * distance.abs())  # (H, ahead + context)

    def recall(self, source: Tensor, past: Tensor) -> Tensor:
        """Append the keys and values of `source` (B, T, D) to `past` (B, 2, H, P, D/H)."""
        batch, epochs, width = source.shape
        new = self.remember(source).view(batch, epochs, 2, self.heads, width // self.heads)
        return torch.cat([past, new.permute(0, 2, 3, 1, 4)], dim=3)

    def forward(self, x: Tensor, memory: Tensor, distance: Tensor, blocked: Tensor) -> Tensor:
        """Let x (B, T, D) look at memory (B, 2, H, P+T, D/H); distance (T, P+T), blocked (B, 1, T, P+T).

        `distance` counts from the farthest future within reach, so that it is a place in the bias.
        """
        batch, epochs, width = x.shape
        query = self.query(x).view(batch, epochs, self.heads, width // self.heads).transpose(1, 2)
        bias = self.bias[:, distance].unsqueeze(0).masked_fill(blocked, float("-inf"))
        mixed = F.scaled_dot_product_attention(query, memory[:, 0], memory[:, 1], attn_mask=bias)
        merged: Tensor = self.merge(mixed.transpose(1, 2).reshape(batch, epochs, width))
        return merged


class SequenceLayer(nn.Module):
    """One view's layer: attend to itself, to the other view's first embeddings, then feed forward."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.self_attention = Attention(size)
        self.cross_attention = Attention(size)
        self.feedforward = FeedForward(size)
        self.norm_self = nn.LayerNorm(size.width, bias=False)
        self.norm_cross = nn.LayerNorm(size.width, bias=False)
        self.norm_feedforward = nn.LayerNorm(size.width, bias=False)
        self.dropout = nn.Dropout(size.dropout)

    def forward(
        self, x: Tensor, other: Tensor, past: Tensor, distance: Tensor, blocked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x, other (B, T, D), past (B, 2 attentions, 2, H, P, D/H) -> x and the memory with T more places."""
        own = self.self_attention.recall(x, past[:, 0])
        x = self.norm_self(x + self.dropout(self.self_attention(x, own, distance, blocked)))
        seen = self.cross_attention.recall(other, past[:, 1])
        x = self.norm_cross(x + self.dropout(self.cross_attention(x, seen, distance, blocked)))
        x = self.norm_feedforward(x + self.dropout(self.feedforward(x)))
        return x, torch.stack([own, seen], dim=1)


class MC2SleepNet(nn.Module):
    """MC2SleepNet with causal context; `forward` for training, `encode` and `step` for a live stream."""

    raw_scale_uv: Tensor
    spectrum_mean_db: Tensor
    spectrum_std_db: Tensor
    temperature: Tensor
    bands: list[tuple[int, int]]  # first bin of each band, and the one after its last

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bins = size.bins
        self.context = size.context
        self.ahead = size.ahead
        self.hidden = HIDDEN[size.views]
        places, depth = size.context - 1, size.width // size.heads
        self.memory_shape = (size.sequence_layers, 2, 2, 2, size.heads, places, depth)
        self.raw = RawBackbone(size)
        self.spectrum = SpectrumBackbone(size)
        self.raw_layers = nn.ModuleList(SequenceLayer(size) for _ in range(size.sequence_layers))
        self.spectrum_layers = nn.ModuleList(SequenceLayer(size) for _ in range(size.sequence_layers))
        self.mask = nn.Parameter(torch.randn(2, size.width) * 0.5)  # stands in for a lost epoch, per view
        self.joint = nn.Linear(2 * size.width, STAGE_COUNT)
        self.singles = nn.ModuleList(nn.Linear(size.width, STAGE_COUNT) for _ in HEADS[1:])
        # Fixed after training starts: the scales of the training set, and the calibration (Guo et al. 2017).
        self.register_buffer("raw_scale_uv", torch.tensor(20.0))
        self.register_buffer("spectrum_mean_db", torch.full((size.features,), 35.0))
        self.register_buffer("spectrum_std_db", torch.full((size.features,), 10.0))
        self.register_buffer("temperature", torch.tensor(1.0))
        edges = [math.ceil(hz / BIN_HZ) - 1 for hz in size.bands_hz]  # the first bin at or above each
        self.bands = [(low, min(high, size.bins)) for low, high in pairwise(edges)]

    def encode(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        """Embed epochs one by one: (B, 3000) µV and (B, 29, 128) dB, NaN where lost -> tokens (B, 2, D)."""
        samples = torch.nan_to_num(raw / self.raw_scale_uv, nan=0.0).clamp(-25.0, 25.0)
        frames = (self.look(spectrum) - self.spectrum_mean_db) / self.spectrum_std_db
        frames = torch.nan_to_num(frames, nan=0.0).clamp(-6.0, 6.0)
        masks = self.mask.unsqueeze(0).expand(raw.size(0), -1, -1)  # a hidden view costs nothing
        waves = masks[:, 0] if self.hidden == 0 else self.raw(samples)
        spectral = masks[:, 1] if self.hidden == 1 else self.spectrum(frames)
        return torch.stack([waves, spectral], dim=1)

    def look(self, spectrum: Tensor) -> Tensor:
        """Return what the network uses of (B, 29, 128) dB: (B, frames, features) dB, NaN where lost."""
        used = spectrum[:, :, : self.bins]
        if len(self.bands) == 0:
            return used
        bins = torch.pow(10.0, used / 10.0)
        power = torch.stack([bins[:, :, low:high].sum(2) for low, high in self.bands], dim=2)
        there = ~torch.isnan(power)
        whole = torch.nan_to_num(power, nan=0.0).sum(1, keepdim=True) / there.sum(1, keepdim=True)
        return 10.0 * torch.log10(torch.cat([power, whole], dim=1))  # whole: 0 / 0, so NaN, where all is lost

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` streams that have seen nothing."""
        layers, views, attentions, pair, heads, places, depth = self.memory_shape
        memory = torch.zeros(
            (batch, layers, views, attentions, pair, heads, places, depth), device=self.mask.device
        )
        return State(memory, torch.zeros(batch, dtype=torch.int64, device=self.mask.device))

    def relate(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Run T further epochs through both stacks.

        tokens (B, T, 2, D), present (B, T, 2) bool -> first embeddings and streams, both (B, T, 2, D), and
        the memory with T more places. A view that is not present is its mask token; the clock goes on.
        """
        present = present & (torch.arange(2, device=present.device) != self.hidden)
        first = torch.where(present.unsqueeze(-1), tokens, self.mask.to(tokens.dtype))
        places = state.memory.size(6)
        now = torch.arange(first.size(1), device=first.device).unsqueeze(1) + places
        place = torch.arange(places + first.size(1), device=first.device).unsqueeze(0)
        distance = now - place  # (T, P+T), in epochs
        unreachable = (distance < -self.ahead) | (distance >= self.context)
        unfilled = place < places - state.seen.unsqueeze(1)  # (B, P+T)
        blocked = (unreachable.unsqueeze(0) | unfilled.unsqueeze(1)).unsqueeze(1)
        distance = distance.clamp(-self.ahead, self.context - 1) + self.ahead
        raw, spectrum = first[:, :, 0], first[:, :, 1]
        memory: list[Tensor] = []
        for number, (raw_layer, spectrum_layer) in enumerate(
            zip(self.raw_layers, self.spectrum_layers)  # noqa: B905  (TorchScript has no strict=)
        ):
            past = state.memory[:, number]
            raw, raw_memory = raw_layer(raw, first[:, :, 1], past[:, 0], distance, blocked)
            spectrum, spectrum_memory = spectrum_layer(
                spectrum, first[:, :, 0], past[:, 1], distance, blocked
            )
            memory.append(torch.stack([raw_memory, spectrum_memory], dim=1))
        return first, torch.stack([raw, spectrum], dim=2), torch.stack(memory, dim=1)

    def classify(self, first: Tensor, streams: Tensor) -> Tensor:
        """First embeddings and streams (B, T, 2, D) -> calibrated logits (B, T, 5 heads, 5 stages)."""
        logits = [self.joint(streams.flatten(2))]
        for number, head in enumerate(self.singles):
            logits.append(head(streams[:, :, number] if number < 2 else first[:, :, number - 2]))
        return torch.stack(logits, dim=2) / self.temperature

    def forward(self, raw: Tensor, spectrum: Tensor, present: Tensor) -> Tensor:
        """Whole sequences at once: (B, T, 3000), (B, T, 29, 128), (B, T, 2) -> logits (B, T, 5 heads, 5)."""
        return self.decode(self.encode_all(raw, spectrum), present)

    def encode_all(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        """`encode` of sequences: (B, T, 3000), (B, T, 29, 128) -> tokens (B, T, 2, D)."""
        tokens = self.encode(raw.flatten(0, 1), spectrum.flatten(0, 1))
        return tokens.view(raw.size(0), raw.size(1), 2, -1)

    def decode(self, tokens: Tensor, present: Tensor) -> Tensor:
        """`forward` from tokens (B, T, 2, D) on."""
        first, streams, _ = self.relate(tokens, present, self.blank(tokens.size(0)))
        return self.classify(first, streams)

    def blank(self, batch: int) -> State:
        """Return a state without places: a sequence that begins here and is seen whole."""
        state = self.initial_state(batch)
        return State(state.memory[:, :, :, :, :, :, :0], state.seen)

    def step(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """One epoch of a live stream: tokens (B, 2, D), present (B, 2) -> joint logits (B, 5), next state."""
        assert self.ahead == 0, "a network that sees the future cannot be streamed"
        first, streams, memory = self.relate(tokens.unsqueeze(1), present.unsqueeze(1), state)
        logits = self.classify(first, streams)[:, 0, 0]
        seen = (state.seen + 1).clamp(max=self.context - 1)
        return logits, State(memory[:, :, :, :, :, :, 1:], seen)


def parameter_count(network: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
