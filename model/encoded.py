"""Nights that are embedded once, for the many runs that leave the same backbones as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model.augment import Augmentation, lose_epochs
from model.data import Batch, Cut, Draws, PreparedNight, targets, whole
from model.mc2sleepnet import MC2SleepNet
from streamer.errors import RecordingError

AT_ONCE = 256  # epochs


@dataclass(frozen=True, slots=True, eq=False)
class EncodedNight:
    """One night as the sequence stage sees it."""

    tokens: Tensor  # (n_epochs, 2, D)
    target: Tensor  # (n_epochs, 5) probabilities, all zero where there is no stage to learn


@torch.inference_mode()
def embed(network: MC2SleepNet, raw: Tensor, spectrum: Tensor, present: Tensor) -> Tensor:
    """Embed whole nights in pieces that fit into memory.

    raw (B, n, 3000) µV, spectrum (B, n, 29, 128) dB, present (B, n, 2) bool -> tokens (B, n, 2, D), on the
    network's device.
    """
    device, past = network.mask.device, network.standard.blank(raw.size(0))
    tokens = []
    for begin in range(0, raw.size(1), AT_ONCE):
        some, there, given = (one[:, begin : begin + AT_ONCE].to(device) for one in (raw, spectrum, present))
        embedded, past = network.encode(some, there, given, past)
        tokens.append(embedded)
    return torch.cat(tokens, dim=1)


def encode_night(
    network: MC2SleepNet, night: PreparedNight, soft_share: float, augmentation: Augmentation, seed: int
) -> EncodedNight:
    """Embed one night on its 30 s grid, changed once as a whole by `augmentation`."""
    kept = replace(augmentation, lost_epochs=0.0, lost_views=0.0, lost_sequences=0.0)
    tokens = embed(network, *whole(night, kept, seed))
    return EncodedNight(tokens[0].cpu(), torch.from_numpy(targets(night, soft_share)))


class EncodedSequences(Draws):
    """As `model.data.Sequences`, of embedded nights: what is lost is drawn anew, the signal is not."""

    def __init__(
        self, nights: Sequence[EncodedNight], cut: Cut, seed: Sequence[int], batches: int, first: int = 0
    ) -> None:
        super().__init__(cut, seed, batches, first)
        self.nights = [night for night in nights if len(night.target) >= cut.epochs]
        if not self.nights:
            raise RecordingError(f"no embedded night has {cut.epochs} epochs; draw or prepare some")

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw one batch; every night is as likely as another."""
        epochs, tokens, target, present = self.cut.epochs, [], [], []
        for which in rng.integers(len(self.nights), size=self.cut.sequences):
            night = self.nights[which]
            start = int(rng.integers(len(night.target) - epochs + 1))
            tokens.append(night.tokens[start : start + epochs])
            target.append(night.target[start : start + epochs])
            present.append(torch.from_numpy(lose_epochs(epochs, self.cut.augmentation, rng)))
        nothing = torch.empty(len(tokens), epochs, 0)
        return Batch(nothing, nothing, torch.stack(target), torch.stack(present), torch.stack(tokens))
