"""Batches for networks that read no waveform: cut from the nights' spectrograms, a fifth of the work.

Gain, tilt, wobble and a device's edge are factors per frequency, so they may be applied to the columns of a
spectrogram as well as to the signal; noise adds to every bin as a random phasor. What differs from
`model.data.Sequences`: windows begin at whole seconds, and frames that overlap share none of the added noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from model.augment import NONE, Augmentation, begin, lose_epochs, response
from model.data import Batch, Cut, PreparedNight, Sequences, straddle
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, RATE_HZ
from streamer.quality import LEAST_REAL
from streamer.window import BINS, FFT_POINTS, FLOOR_UV, FRAME_SAMPLES, FRAMES, HAMMING

FREQUENCY_HZ = np.arange(1, BINS + 1) * RATE_HZ / FFT_POINTS
NOISE_GAIN = float(np.sqrt(np.square(HAMMING).sum() / 2))  # of a bin's real and imaginary part, each
AT_ONCE = 2000  # columns

Amplitudes = NDArray[np.float16]

_known: WeakKeyDictionary[PreparedNight, Amplitudes] = WeakKeyDictionary()  # for runs one after the other


def amplitudes_of(night: PreparedNight) -> Amplitudes:
    """Return the night's `amplitudes`, which are computed once and kept for as long as the night is."""
    columns = _known.get(night)
    if columns is None:
        columns = _known[night] = amplitudes(night.samples)
    return columns


def amplitudes(samples: NDArray[np.float16]) -> Amplitudes:
    """Magnitude of every column of a night: (n_epochs * 3000,) µV -> (n_epochs * 30, 128); NaN where lost.

    The last second has no frame of its own and shows the one before.
    """
    whole = samples.astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(whole, FRAME_SAMPLES)[::RATE_HZ]
    window = HAMMING.astype(np.float32)
    cuts = [*range(0, len(frames), AT_ONCE), len(frames)]
    parts = [
        torch.fft.rfft(torch.from_numpy(frames[first:last] * window), FFT_POINTS)[:, 1:].abs().half().numpy()
        for first, last in pairwise(cuts)
    ]
    columns: Amplitudes = np.concatenate([*parts, parts[-1][-1:]])
    return columns


class SpectralSequences(Sequences):
    """As `Sequences`, without a waveform; `columns` are the nights' `amplitudes`, in their order."""

    def __init__(
        self,
        nights: Sequence[PreparedNight],
        columns: Sequence[Amplitudes],
        cut: Cut,
        seed: Sequence[int],
        batches: int,
        first: int = 0,
    ) -> None:
        super().__init__(nights, cut, seed, batches, first)
        known = zip(nights, columns, strict=True)
        self.columns = [one for night, one in known if night.stages.size > cut.epochs]

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw one batch, its spectra changed as the cut says."""
        chosen = rng.choice(len(self.nights), self.cut.sequences, p=self.weights)
        parts = [cut_columns(self.columns[which], self.targets[which], self.cut, rng) for which in chosen]
        spectrum, target, present = (np.stack(column) for column in zip(*parts, strict=True))
        nothing = torch.empty(len(parts), self.cut.epochs, 0)
        return Batch(nothing, *map(torch.from_numpy, (spectrum, target, present)))


def cut_columns(
    columns: Amplitudes, target: NDArray[np.float32], cut: Cut, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Cut T epochs (T, 29, 128) dB, targets (T, 5) and presence (T, 2) from a night at a random place."""
    start = begin(len(target) - cut.epochs, cut.augmentation, rng)
    phase = int(rng.integers(1, EPOCH_S)) if rng.random() < cut.augmentation.phase else 0
    first = start * EPOCH_S + phase
    part = changed(columns[first : first + cut.epochs * EPOCH_S].astype(np.float32), cut.augmentation, rng)
    mixed = straddle(target, start, cut.epochs, phase / EPOCH_S)
    frames = part.reshape(cut.epochs, EPOCH_S, BINS)[:, :FRAMES]
    decibel = (20 * np.log10(frames + np.float32(FLOOR_UV))).astype(np.float32)
    there = np.isfinite(frames[:, :, :1]).mean(1) >= LEAST_REAL - 1e-9
    return decibel, mixed, lose_epochs(cut.epochs, cut.augmentation, rng) & there


def changed(columns: NDArray[np.float32], how: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Change the magnitudes (n, 128) of one sequence as a whole; lost stretches come back as NaN."""
    if how == NONE:
        return columns
    columns = columns * response(FREQUENCY_HZ, how, rng)
    if how.noise_uv > 0:
        spread = np.float32(NOISE_GAIN * how.noise_uv * rng.random() ** 2)  # little is likelier than much
        columns = np.hypot(
            columns + spread * rng.standard_normal(columns.shape, np.float32),
            spread * rng.standard_normal(columns.shape, np.float32),
        )
    if rng.random() < how.dropouts:
        lose_columns(columns, rng)
    return columns


def lose_columns(columns: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Punch NaN holes of two to eight frames, about one every two minutes: what short losses touch."""
    for _ in range(rng.poisson(len(columns) / 120) + 1):
        start = int(rng.integers(len(columns)))
        columns[start : start + int(rng.integers(2, 9))] = np.nan


assert EPOCH_SAMPLES == EPOCH_S * RATE_HZ
