"""A night's multitaper spectrogram: one spectrum per 30 s epoch, smooth enough to show the sleep cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.messages import EPOCH_S, EPOCH_SAMPLES, RATE_HZ
from streamer.night.session import Progress, ignore_progress

HALF_BAND_HZ = 0.5  # half the frequency resolution (Prerau et al., Physiology 32:60, 2017)
TOP_HZ = 35.0  # upper edge of the band-pass


@dataclass(frozen=True, slots=True, eq=False)
class Spectrogram:
    """Power density by epoch and frequency."""

    hz: NDArray[np.floating]  # (bins,)
    decibel: NDArray[np.float32]  # (epochs, bins) dB re 1 µV²/Hz; NaN where the epoch lost more than a tenth


def compute_multitaper(samples: NDArray[np.float32], progress: Progress = ignore_progress) -> Spectrogram:
    """Compute the spectrogram of (epochs * 3000,) µV at 100 Hz.

    Lost samples (NaN, up to a tenth) count as 0 µV.
    """
    from scipy.signal.windows import dpss  # costs 70 MB and a second, so only when a picture is drawn

    half_width = HALF_BAND_HZ * EPOCH_S
    tapers = dpss(EPOCH_SAMPLES, half_width, int(2 * half_width) - 1)  # (29, 3000), each of unit energy
    hz = np.fft.rfftfreq(EPOCH_SAMPLES, 1 / RATE_HZ)
    keep = (hz > 0) & (hz <= TOP_HZ)
    epochs = samples.reshape(-1, EPOCH_SAMPLES)
    out = np.full((epochs.shape[0], int(keep.sum())), np.nan, dtype=np.float32)
    for number, epoch in enumerate(epochs):
        lost = np.isnan(epoch)
        if lost.mean() <= 0.1:
            real = np.where(lost, 0.0, epoch - np.nanmean(epoch))
            power = np.abs(np.fft.rfft(real * tapers, axis=1)) ** 2
            density = 2 / RATE_HZ * power.mean(axis=0)[keep]
            out[number] = 10 * np.log10(density + 1e-6)
        progress((number + 1) / epochs.shape[0])
    return Spectrogram(hz[keep], out)
