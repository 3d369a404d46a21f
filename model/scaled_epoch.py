"""`Bands` and `Standard` of one epoch, in as few operations as possible, for the graph of a step.

Each operation of a network this small takes longer to start than to run.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.standard import Bands, Past, Standard


class ScaledEpoch(nn.Module):
    """`Bands` and `Standard` of one epoch: without a sum over epochs, and lost frames are found once."""

    def __init__(self, bands: Bands, standard: Standard) -> None:
        super().__init__()
        self.bands, self.standard = bands, standard

    def forward(self, spectrum: Tensor, present: Tensor, past: Past) -> tuple[Tensor, Past]:
        """(B, 29, 128) dB, NaN where lost; present (B,) -> (B, frames, F) on its scale, and the past."""
        standard = self.standard
        centred = (self._power(spectrum) - standard.centre_db).clamp(
            -standard.farthest_db, standard.farthest_db
        )
        lost = torch.isnan(centred)
        heard = torch.where(lost, 0.0, centred)
        if not standard.trailing:
            return (heard / standard.spread_db).clamp(-6.0, 6.0), past
        frames = heard if heard.size(1) == standard.frames else heard[:, : standard.frames]
        count = (~lost[:, : standard.frames, 0]).to(heard.dtype).sum(1)
        share, each = count / standard.frames * present.to(heard.dtype), count.clamp(min=1.0)
        before = standard.decay * past.weight
        weight = share + before
        total = weight.clamp(min=1e-30)
        new, old = (share / (total * each))[:, None], (before / total)[:, None]
        mean = new * frames.sum(1) + old * past.mean
        square = new * (frames * frames).sum(1) + old * past.square
        certain, prior = weight[:, None], standard.prior_epochs
        variance = (square - mean * mean).clamp(min=0.0)
        spread = torch.sqrt((prior * standard.spread_db**2 + certain * variance) / (prior + certain))
        scaled = torch.where(lost, 0.0, (heard - mean[:, None]) / spread[:, None])
        return scaled.clamp(-6.0, 6.0), Past(weight, mean, square)

    def _power(self, spectrum: Tensor) -> Tensor:
        bands = self.bands
        used = spectrum[..., : bands.bins]
        if not bands.pooled:
            return used
        power = torch.exp(used * (math.log(10.0) / 10.0)) @ bands.members
        lost = torch.isnan(power)
        there = (~lost).to(power.dtype).sum(1, keepdim=True)
        whole = torch.where(lost, 0.0, power).sum(1, keepdim=True) / there  # 0 / 0, NaN, where all is lost
        return torch.log(torch.cat([power, whole], dim=1)) * (10.0 / math.log(10.0))
