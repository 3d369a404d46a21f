"""The whole network: two views of every epoch, two causal stacks that read each other, five heads.

After Na et al., "MC2SleepNet: Multi-modal Cross-masking with Contrastive Learning for Sleep Stage
Classification" (arXiv 2502.17470). What is ours: every attention sees the past only and no further back than
`context` epochs, and positions are a learnt bias per distance instead of absolute, so keys and values can be
cached and a live epoch costs one pass over one token. The raw view may read absolute band powers beside the
waveform or in its place (`Size.level_hz`), and the spectrum may be standardised over the stream's own past
(`Size.trailing_epochs`): one view that knows amplitude, one that is blind to it.
What that costs can be measured: `Size` also describes a bidirectional twin and networks that see one view.

Letters in the shapes: B streams, T epochs, D token width, H heads, P remembered epochs, 2 views (raw and
spectrum, in this order), F features of a frame of the spectrum.
"""

# No `from __future__ import annotations` here: TorchScript reads the annotations themselves.
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbones import FeedForward, Frames, RawBackbone, embedder
from model.size import Size, Views
from model.standard import Bands, Past, Standard

HEADS = ("joint", "raw_cross", "spectrum_cross", "raw_alone", "spectrum_alone")
STAGE_COUNT = 5
HIDDEN: dict[Views, int] = {"both": -1, "raw": 1, "spectrum": 0}  # the view that is always masked; -1: none


class State(NamedTuple):
    """What a stream remembers between epochs; its size never changes."""

    memory: Tensor  # (B, layers, 2 views, 2 attentions, key/value, H, P = context - 1, D / H)
    seen: Tensor  # (B,) int64: how many of the P places are filled
    weight: Tensor  # (B,), with the next two what `Standard` remembers, see there
    mean: Tensor  # (B, F)
    square: Tensor  # (B, F)


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

    def restore(self, source: Tensor, past: Tensor) -> Tensor:
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
        own = self.self_attention.restore(x, past[:, 0])
        x = self.norm_self(x + self.dropout(self.self_attention(x, own, distance, blocked)))
        seen = self.cross_attention.restore(other, past[:, 1])
        x = self.norm_cross(x + self.dropout(self.cross_attention(x, seen, distance, blocked)))
        x = self.norm_feedforward(x + self.dropout(self.feedforward(x)))
        return x, torch.stack([own, seen], dim=1)


class MC2SleepNet(nn.Module):
    """MC2SleepNet with causal context; `forward` for training, `advance` for live streams and archives."""

    raw_scale_uv: Tensor
    temperature: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.context = size.context
        self.ahead = size.ahead
        self.hidden = HIDDEN[size.views]
        places, depth = size.context - 1, size.width // size.heads
        self.memory_shape = (size.sequence_layers, 2, 2, 2, size.heads, places, depth)
        self.waves, self.levels = len(size.channels) > 0, len(size.level_hz) > 0
        self.raw = RawBackbone(size) if self.waves else nn.Identity()
        self.level_bands = Bands(size.level_hz or (0.5, 30.0), size.bins)  # without levels not looked at
        self.level_scale = Standard(self.level_bands.features, 0)
        self.level = (
            embedder(size, self.level_bands.features, self.level_bands.frames)
            if self.levels
            else nn.Identity()
        )
        self.bands = Bands(size.bands_hz, size.bins)
        self.features = self.bands.features
        self.standard = Standard(self.bands.features, size.trailing_epochs)
        of_frames = Frames if size.frame_width else embedder
        self.spectrum = of_frames(size, self.bands.features, self.bands.frames)
        self.raw_layers = nn.ModuleList(SequenceLayer(size) for _ in range(size.sequence_layers))
        self.spectrum_layers = nn.ModuleList(SequenceLayer(size) for _ in range(size.sequence_layers))
        self.mask = nn.Parameter(torch.randn(2, size.width) * 0.5)  # stands in for a lost epoch, per view
        self.joint = nn.Linear(2 * size.width, STAGE_COUNT)
        self.singles = nn.ModuleList(nn.Linear(size.width, STAGE_COUNT) for _ in HEADS[1:])
        # Fixed after training starts: the scale of the training set, and the calibration (Guo et al. 2017).
        self.register_buffer("raw_scale_uv", torch.tensor(20.0))
        self.register_buffer("temperature", torch.tensor(1.0))

    def encode(self, raw: Tensor, spectrum: Tensor, present: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Embed epochs in the order of their stream.

        raw (B, T, 3000) µV and spectrum (B, T, 29, 128) dB, NaN where lost; present (B, T, 2) bool.

        Returns:
            tokens (B, T, 2, D), and the past of `Standard` that has these epochs in it.

        """
        masks = self.mask.expand(raw.size(0), raw.size(1), -1, -1)  # a hidden view costs nothing
        absolute = masks[:, :, 0] if self.hidden == 0 else self.look_absolute(raw, spectrum, present, past)
        after = past
        relative = masks[:, :, 1]
        if self.hidden != 1:
            frames, after = self.standard(self.bands(spectrum), present[:, :, 1], past)
            relative = self.spectrum(frames.flatten(0, 1)).view(relative.shape)
        return torch.stack([absolute, relative], dim=2), after

    def weights(self, spectrum: Tensor, present: Tensor, past: Past) -> Tensor:
        """Return how many epochs the spectrum's scale is of at each epoch, as `encode`: (B, T)."""
        return self.standard.weights(spectrum, present[:, :, 1], past)

    def look_absolute(self, raw: Tensor, spectrum: Tensor, present: Tensor, past: Past) -> Tensor:
        """Embed what the raw view reads, as `encode`: (B, T, D)."""
        parts: list[Tensor] = []
        if self.waves:
            samples = torch.nan_to_num(raw / self.raw_scale_uv, nan=0.0).clamp(-25.0, 25.0)
            parts.append(self.raw(samples.flatten(0, 1)))
        if self.levels:
            frames, _ = self.level_scale(self.level_bands(spectrum), present[:, :, 0], past)
            parts.append(self.level(frames.flatten(0, 1)))
        return torch.stack(parts).sum(0).view(raw.size(0), raw.size(1), -1)

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` streams that have seen nothing."""
        layers, views, attentions, pair, heads, places, depth = self.memory_shape
        memory = torch.zeros(
            (batch, layers, views, attentions, pair, heads, places, depth), device=self.mask.device
        )
        seen = torch.zeros(batch, dtype=torch.int64, device=self.mask.device)
        weight, mean, square = self.standard.blank(batch)
        return State(memory, seen, weight, mean, square)

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
        return self.decode(self.encode_all(raw, spectrum, present), present)

    def encode_all(self, raw: Tensor, spectrum: Tensor, present: Tensor) -> Tensor:
        """`encode` of sequences that begin here: tokens (B, T, 2, D)."""
        tokens, _ = self.encode(raw, spectrum, present, self.standard.blank(raw.size(0)))
        return tokens

    def decode(self, tokens: Tensor, present: Tensor) -> Tensor:
        """`forward` from tokens (B, T, 2, D) on."""
        first, streams, _ = self.relate(tokens, present, self.blank(tokens.size(0)))
        return self.classify(first, streams)

    def blank(self, batch: int) -> State:
        """Return a state without places: a sequence that begins here and is seen whole."""
        state = self.initial_state(batch)
        return State(state.memory[:, :, :, :, :, :, :0], state.seen, state.weight, state.mean, state.square)

    def advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """Take the next T epochs of live streams; for T = 1 a step, for more a block of an archive.

        raw (B, T, 3000) µV and spectrum (B, T, 29, 128) dB, NaN where lost; present (B, T, 2) bool: views
        that are not are masked, and the clock goes on.

        Returns:
            logits of the joint head (B, T, 5), and the state that has these epochs in it.

        """
        assert self.ahead == 0, "a network that sees the future cannot be streamed"
        epochs = raw.size(1)
        past = Past(state.weight, state.mean, state.square)
        tokens, after = self.encode(raw, spectrum, present, past)
        first, streams, memory = self.relate(tokens, present, state)
        logits = self.classify(first, streams)[:, :, 0]
        seen = (state.seen + epochs).clamp(max=self.context - 1)
        memory = memory[:, :, :, :, :, :, epochs:]
        return logits, State(memory, seen, after.weight, after.mean, after.square)


def parameter_count(network: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters())
