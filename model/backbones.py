"""What embeds single epochs: convolutions over the raw signal, a Transformer over the spectrogram.

The raw backbone is that of SleePyCo (Lee et al. 2024), as in MC2SleepNet (arXiv 2502.17470).

Letters in the shapes: B streams, T epochs, D token width.
"""

# No `from __future__ import annotations` here: TorchScript reads the annotations themselves.

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.size import Size
from streamer.window import FRAMES

LOOKS = 4  # weighted means over the frames of an epoch


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
    before them changes only the gate's input, and leaves both a fifth of the samples.
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
    """Attention pooling: a weighted mean over positions, with weights computed from the input."""

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
        """Embed scaled samples (B, 3000), in which lost ones are 0: (B, D)."""
        embedded: Tensor = self.pool(self.blocks(raw.unsqueeze(1)).transpose(1, 2))
        return embedded


class SpectrumLayer(nn.Module):
    """A post-norm Transformer layer over the 29 frames of one epoch, which is complete when it is read."""

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


class Summary(nn.Module):
    """(B, frames, features) normalised dB -> (B, D), from each feature's mean over the frames.

    Used in place of the Transformer by sizes without layers for it: a twentieth of its work. It sees the
    power in an epoch but not the course within it, which synthetic signals imitate less well.
    """

    def __init__(self, size: Size, features: int, frames: int = FRAMES) -> None:
        super().__init__()
        self.frames = FRAMES
        rows = 1 + frames - FRAMES  # the means, and the frame for the whole epoch where there is one
        self.widen = nn.Linear(rows * features, 2 * size.width)
        self.narrow = nn.Linear(2 * size.width, size.width)
        self.norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Embed normalised frames, lost ones 0."""
        mean = spectrum[:, : self.frames].mean(1)
        rows = torch.cat([mean, spectrum[:, self.frames :].flatten(1)], dim=1)
        embedded: Tensor = self.norm(self.narrow(self.dropout(F.gelu(self.widen(rows)))))
        return embedded


class Frames(nn.Module):
    """(B, frames, features) normalised dB -> (B, D), from what happens within an epoch and from its means.

    Three convolutions over five frames each, one, two and four seconds apart, so that the last one sees the
    whole epoch; then several weighted means with separate weights. A quarter of a Transformer's work. It can
    learn from a teacher that reads frames (`model.lessons`) what means over an epoch do not contain.
    """

    def __init__(self, size: Size, features: int, frames: int = FRAMES) -> None:
        super().__init__()
        self.frames = FRAMES
        width, rows = size.frame_width, 1 + frames - FRAMES
        self.mix = nn.Conv1d(features, width, 1)
        self.steps = nn.ModuleList(
            nn.Conv1d(width, width, 5, padding=2 * apart, dilation=apart) for apart in (1, 2, 4)
        )
        self.score = nn.Conv1d(width, LOOKS, 1)
        self.widen = nn.Linear((1 + LOOKS) * width + rows * features, 2 * size.width)
        self.narrow = nn.Linear(2 * size.width, size.width)
        self.norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Embed normalised frames, lost ones 0."""
        course = spectrum[:, : self.frames].transpose(1, 2)  # (B, features, 29)
        hidden = self.mix(course)
        for step in self.steps:
            hidden = hidden + F.gelu(step(hidden))
        weight = torch.softmax(self.score(hidden), dim=-1)  # (B, LOOKS, 29)
        seen = [
            hidden.mean(-1),
            (weight @ hidden.transpose(1, 2)).flatten(1),
            course.mean(-1),
            spectrum[:, self.frames :].flatten(1),
        ]
        embedded: Tensor = self.norm(self.narrow(self.dropout(F.gelu(self.widen(torch.cat(seen, dim=1))))))
        return embedded


class SpectrumBackbone(nn.Module):
    """(B, frames, features) normalised dB -> (B, D)."""

    def __init__(self, size: Size, features: int, frames: int = FRAMES) -> None:
        super().__init__()
        self.embed = nn.Linear(features, size.width)
        self.place = nn.Parameter(torch.randn(frames, size.width) * 0.02)
        self.layers = nn.Sequential(*(SpectrumLayer(size) for _ in range(size.spectrum_layers)))
        self.pool = Pool(size.width)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Embed normalised frames, lost ones 0."""
        embedded: Tensor = self.pool(self.layers(self.embed(spectrum) + self.place))
        return embedded


def embedder(size: Size, features: int, frames: int) -> nn.Module:
    """Return the module that embeds the spectrum of an epoch: a Transformer, or without layers a summary."""
    if size.spectrum_layers == 0:
        return Summary(size, features, frames)
    return SpectrumBackbone(size, features, frames)
