"""A teacher that was trained on real nights, run causally on changed spectra.

For RobustSleepNet (Guillot & Thorey, IEEE TNSRE 2021) and networks of its shape, which are not part of the
project (see model/teacher.py). It standardises log-spectra over a whole window of epochs, its future too.
Here each epoch is standardised over its own past, embedded once, and staged from the embedded epochs that end
with it: a twentieth of the work of windows that end at each epoch. How far it looks back is a `Reach`.

The teacher's file holds `RATE_HZ` and a class `Teacher` with `networks`, a dict of torch modules with

    hanning                     the window of its spectrum, (128,)
    encoder_eeg, reducer_eeg    (n, 1, bins, frames), standardised, -> (n, e)
    sequence_encoder, classifier    (n, epochs, e) -> logits (n, epochs, 5)

Letters in the shapes: B streams, T epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from model.teacher import load_networks
from streamer.messages import EPOCH_S, RATE_HZ

PRIOR_EPOCHS = 30.0  # how many epochs the usual spread counts for
USUAL_SPREAD = 0.67  # of the decadic logarithm of a bin's power over some minutes of EEG
LEAST = 1e-6  # µV², added to every power
WHOLE_FRAMES = 28  # of an epoch; the two that reach into the next one are left out

Samples = NDArray[np.float32]


class Reach(NamedTuple):
    """How far back the teacher looks."""

    window: int = 21  # epochs that are staged together
    trailing_epochs: float = 40.0  # time constant of the mean and spread that stand for those of the window


USUAL = Reach()


class Streamed:
    """The teacher's networks, asked causally."""

    def __init__(self, networks: Sequence[Any], rate_hz: int, reach: Reach = USUAL) -> None:
        self.networks, self.rate_hz, self.reach = list(networks), rate_hz, reach
        self.window = self.networks[0].hanning.float()
        self.frequency_hz = np.arange(self.window.numel() // 2 + 1) * rate_hz / self.window.numel()
        # R.m.s. of a bin's real and imaginary part, each, of white noise of 1 µV at the engine's rate.
        self.noise_gain = float((self.window.square().sum() / 2 * rate_hz / RATE_HZ).sqrt())

    @classmethod
    def load(cls, path: Path, reach: Reach = USUAL) -> Streamed:
        """Read the file; UsageError when it is not a teacher."""
        return cls(*load_networks(path), reach)

    def spectrum(self, samples: NDArray[np.floating[Any]]) -> Samples:
        """(n_epochs * 3000,) µV -> (n_epochs * 30, bins) dB, one column a second."""
        slower = torch.from_numpy(resample_poly(samples.astype(np.float32), self.rate_hz, RATE_HZ)).float()
        size = self.window.numel()
        columns = torch.stft(
            torch.cat([slower, slower[-size:]]),
            size,
            self.rate_hz,
            size,
            self.window,
            center=False,
            return_complex=True,
        )
        power = columns.abs().square().T[: samples.size // RATE_HZ]
        decibel: Samples = (10 * torch.log10(power + LEAST)).numpy()
        return decibel

    def __call__(self, decibel: Samples, which: Sequence[int]) -> Samples:
        """Stage streams that begin here: (B, T * 30, bins) dB -> the mean (B, T, 5) of `which`."""
        return self.told(decibel, which)[0]

    @torch.inference_mode()
    def told(self, decibel: Samples, which: Sequence[int]) -> tuple[Samples, Samples]:
        """As `__call__`, and how each of `which` embeds the epochs: (B, T, n, e)."""
        tokens = self._embedded(standardised(in_epochs(decibel), self.reach.trailing_epochs), which)
        said = [self.staged(one, tokens[:, :, place]) for place, one in enumerate(which)]
        return torch.stack(said).mean(0).numpy(), tokens.numpy()

    def staged(self, which: int, tokens: Tensor) -> Tensor:
        """Stage each epoch from those up to it, by one of the networks: (B, T, e) -> (B, T, 5)."""
        return staged(self.networks[which], tokens, self.reach.window)

    def _embedded(self, standard: Tensor, which: Sequence[int]) -> Tensor:
        """Embed standardised epochs (B, T, frames, bins), each by itself, by each of `which`."""
        batch, epochs = standard.shape[:2]
        singly = standard.flatten(0, 1).transpose(1, 2).unsqueeze(1)
        asked = [self.networks[one] for one in which]
        tokens = [one.reducer_eeg(one.encoder_eeg(singly)).view(batch, epochs, -1) for one in asked]
        return torch.stack(tokens, 2)


def in_epochs(decibel: Samples) -> Tensor:
    """(B, T * 30, bins) dB -> the frames of whole epochs in decades (B, T, WHOLE_FRAMES, bins)."""
    batch, seconds, bins = decibel.shape
    epochs = torch.from_numpy(decibel / 10).float().view(batch, seconds // EPOCH_S, EPOCH_S, bins)
    return epochs[:, :, :WHOLE_FRAMES]


def standardised(epochs: Tensor, trailing_epochs: float) -> Tensor:
    """Put log power (B, T, frames, bins) onto the scale of what came before, the epoch itself included."""
    number = torch.arange(epochs.size(1), dtype=torch.float64)
    age = number.unsqueeze(1) - number
    kept = torch.exp(-age.clamp(min=0) / trailing_epochs) * (age >= 0)
    weight = kept.sum(1).view(-1, 1)
    mean = kept @ epochs.mean(2).double() / weight
    square = kept @ epochs.square().mean(2).double() / weight
    variance = (square - mean.square()).clamp(min=0)
    spread = ((PRIOR_EPOCHS * USUAL_SPREAD**2 + weight * variance) / (PRIOR_EPOCHS + weight)).sqrt()
    return (epochs - mean.float().unsqueeze(2)) / spread.float().unsqueeze(2)


def staged(network: Any, tokens: Tensor, window: int) -> Tensor:
    """Stage each epoch as the last of those that end with it: tokens (B, T, e) -> probabilities (B, T, 5)."""

    def last(windows: Tensor) -> Tensor:
        found: Tensor = network.classifier(network.sequence_encoder(windows))[:, -1].softmax(-1)
        return found

    batch, epochs, width = tokens.shape
    first = [last(tokens[:, : one + 1]) for one in range(min(window - 1, epochs))]
    if epochs < window:
        return torch.stack(first, 1)
    windows = tokens.unfold(1, window, 1).transpose(2, 3).reshape(-1, window, width)
    return torch.cat([torch.stack(first, 1), last(windows).view(batch, -1, 5)], 1)
