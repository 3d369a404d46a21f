"""Scaling of the spectrum: pooled into bands, on fixed scales or standardised over the stream's own past.

Power on a fixed scale contains the amplitude, which tells N3 from N2. Power standardised over the last hour
or so does not depend on gain, reference and tilt, which differ between amplifiers and electrodes (the idea
is that of RobustSleepNet, Guillot & Thorey 2021, which standardises over windows that look ahead; this does
not).

Letters in the shapes: B streams, T epochs, F features.
"""

# No `from __future__ import annotations` here: TorchScript reads the annotations themselves.
import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from streamer.window import FRAMES

BIN_HZ = 100 / 256
PRIOR_EPOCHS = 10.0  # how many epochs the training nights' spread counts for, while little was seen
FARTHEST_DB = 60.0  # from the training nights' mean; larger deviations are artefacts or a dead channel


class Past(NamedTuple):
    """The running statistics of a stream's spectrum; their size never changes."""

    weight: Tensor  # (B,) epochs that count, older ones less
    mean: Tensor  # (B, F) dB, from `Standard.centre_db`
    square: Tensor  # (B, F) dB²


class Bands(nn.Module):
    """Pool a spectrum in dB into bands, and add the whole epoch's power as one more frame.

    A network trained on synthetic signals transfers to real ones by band powers, not by the detail within a
    band.
    """

    def __init__(self, edges_hz: tuple[float, ...], bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.pooled = len(edges_hz) > 0
        self.features = len(edges_hz) - 1 if self.pooled else bins
        self.frames = FRAMES + 1 if self.pooled else FRAMES
        edges = [math.ceil(hz / BIN_HZ) - 1 for hz in edges_hz]  # the first bin at or above each
        members = torch.zeros(bins, max(0, len(edges) - 1))
        for band, (low, high) in enumerate(pairwise(edges)):
            members[low : min(high, bins), band] = 1.0
        self.register_buffer("members", members)  # a product with it sums up every band

    members: Tensor

    def forward(self, spectrum: Tensor) -> Tensor:
        """(..., 29, 128) dB -> (..., frames, features) dB; NaN where lost."""
        used = spectrum[..., : self.bins]
        if not self.pooled:
            return used
        # In double: a product in half as many bits, as on a GPU, would overflow.
        power = (torch.exp(used * (math.log(10.0) / 10.0)).double() @ self.members.double()).float()
        lost = torch.isnan(power)
        there = (~lost).to(power.dtype).sum(-2, keepdim=True)
        whole = power.masked_fill(lost, 0.0).sum(-2, keepdim=True) / there  # 0 / 0, NaN, where all is lost
        return torch.log(torch.cat([power, whole], dim=-2)) * (10.0 / math.log(10.0))


class Standard(nn.Module):
    """Put power onto a scale: of the training nights, or of the stream's trailing past.

    Mean and spread of each feature over the frames of past epochs and of the present one; an epoch counts
    less the older it is (`Size.trailing_epochs` is the time constant). Epochs that are not present do not
    count, lost frames neither, and the clock goes on. While little was seen the spread leans on that of the
    training nights; the mean never does, so gain and tilt have no influence at all.

    Args:
        features: F.
        trailing_epochs: 0 for fixed scales.

    """

    centre_db: Tensor  # (F,) of the training nights
    spread_db: Tensor

    def __init__(self, features: int, trailing_epochs: int) -> None:
        super().__init__()
        self.frames, self.prior_epochs, self.farthest_db = FRAMES, PRIOR_EPOCHS, FARTHEST_DB
        self.trailing = trailing_epochs > 0
        self.decay = math.exp(-1.0 / trailing_epochs) if self.trailing else 1.0
        self.register_buffer("centre_db", torch.full((features,), 35.0))
        self.register_buffer("spread_db", torch.full((features,), 10.0))

    def forward(self, power: Tensor, present: Tensor, past: Past) -> tuple[Tensor, Past]:
        """Standardise power (B, T, frames, F) dB, NaN where lost; present (B, T) bool.

        Returns:
            (B, T, frames, F) within +-6, lost frames 0; and the past that has these epochs in it.

        """
        centred = (power - self.centre_db).clamp(-self.farthest_db, self.farthest_db)
        if not self.trailing:
            return torch.nan_to_num(centred / self.spread_db, nan=0.0).clamp(-6.0, 6.0), past
        frames = centred[:, :, : self.frames]  # not the one for the whole epoch
        heard = torch.nan_to_num(frames, nan=0.0)
        count = self.count(frames)
        each = count.clamp(min=1.0).unsqueeze(2)
        share = self.share(count, present)
        weight, mean, square = self.trail(
            share, heard.sum(2) / each, (heard * heard).sum(2) / each, past
        )  # (B, T), (B, T, F), (B, T, F)
        variance = (square - mean * mean).clamp(min=0.0)
        certain = weight.unsqueeze(2)
        spread = torch.sqrt(
            (self.prior_epochs * self.spread_db * self.spread_db + certain * variance)
            / (self.prior_epochs + certain)
        )
        standard = (centred - mean.unsqueeze(2)) / spread.unsqueeze(2)
        after = Past(weight[:, -1], mean[:, -1], square[:, -1])
        return torch.nan_to_num(standard, nan=0.0).clamp(-6.0, 6.0), after

    def trail(self, share: Tensor, mean: Tensor, square: Tensor, past: Past) -> tuple[Tensor, Tensor, Tensor]:
        """Return the decayed weight (B, T), mean and mean square (B, T, F) of each epoch and all before it.

        Computed in double precision: where TF32 is on, float32 products would be rounded too much.
        """
        share, mean, square = share.double(), mean.double(), square.double()
        kept, before, weight = self.faded(share, past)
        total = weight.clamp(min=1e-30).unsqueeze(2)
        counted = share.unsqueeze(2)
        old = before.unsqueeze(2)
        means = (kept @ (counted * mean) + old * past.mean.unsqueeze(1)) / total
        squares = (kept @ (counted * square) + old * past.square.unsqueeze(1)) / total
        return weight.float(), means.float(), squares.float()

    def count(self, power: Tensor) -> Tensor:
        """Count the frames of each epoch that are there: (B, T, frames, F), NaN where lost -> (B, T)."""
        return (~torch.isnan(power[:, :, : self.frames, 0])).to(power.dtype).sum(2)

    def share(self, count: Tensor, present: Tensor) -> Tensor:
        """Return how much each epoch counts, of which `count` frames are there: both (B, T) -> (B, T)."""
        return count / self.frames * present.to(count.dtype)

    def weights(self, power: Tensor, present: Tensor, past: Past) -> Tensor:
        """Return how many epochs count for the scale of each, itself included: as `forward`, -> (B, T)."""
        share = self.share(self.count(power), present).double()
        return self.faded(share, past)[2].float()

    def faded(self, share: Tensor, past: Past) -> tuple[Tensor, Tensor, Tensor]:
        """Let epochs count less with age.

        Returns:
            what is left of each epoch at each later one (T, T), what is left of `past.weight` (B, T), and the
            weight of all that came up to each epoch (B, T).

        """
        number = torch.arange(share.size(1), device=share.device, dtype=share.dtype)
        age = number.unsqueeze(1) - number.unsqueeze(0)
        kept = torch.pow(self.decay, age.clamp(min=0.0)) * (age >= 0)
        before = torch.pow(self.decay, number + 1.0).unsqueeze(0) * past.weight.unsqueeze(1)
        return kept, before, share @ kept.T + before

    def blank(self, batch: int) -> Past:
        """Return the past of `batch` streams that have seen nothing."""
        nothing = torch.zeros((batch, self.centre_db.size(0)), device=self.centre_db.device)
        # Two tensors: one that stands twice would be exported as one input for both.
        return Past(torch.zeros(batch, device=self.centre_db.device), nothing, nothing.clone())
