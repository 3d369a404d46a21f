"""The spectrogram the network sees: 2 s Hamming frames, 1 s apart, in dB; one column a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.messages import EPOCH_SAMPLES, RATE_HZ, Floats

FRAME_S = 2
FRAME_SAMPLES = FRAME_S * RATE_HZ
FFT_POINTS = 256
FRAMES = EPOCH_SAMPLES // RATE_HZ - 1  # that lie within an epoch
BINS = FFT_POINTS // 2  # without DC: 0.39 Hz, 0.78 Hz ... 50 Hz
FLOOR_UV = 1.0  # added to |X|: 0 dB is what a band that was filtered away shows, instead of minus infinity
HAMMING: Floats = np.hamming(FRAME_SAMPLES)


def column(frame: Floats) -> NDArray[np.float32]:
    """One column of the spectrogram: (200,) µV -> (128,) dB re 1 µV, `20 log10(|X| + 1)`.

    A frame that touches a lost sample (NaN) is NaN throughout. Columns are always transformed one at a time,
    so that no vectorised path can make them differ with how many are asked for.
    """
    if np.isnan(frame).any():
        return np.full(BINS, np.nan, dtype=np.float32)
    magnitude = np.abs(np.fft.rfft(frame * HAMMING, FFT_POINTS))[1:]
    return (20.0 * np.log10(magnitude + FLOOR_UV)).astype(np.float32)


def spectrogram(samples: Floats) -> NDArray[np.float32]:
    """Every column of a whole signal: (n,) µV -> (n // 100 - 1, 128) dB, the first over seconds 0 to 2."""
    frames = max(samples.shape[0] // RATE_HZ - 1, 0)
    out = np.empty((frames, BINS), dtype=np.float32)
    for index in range(frames):
        out[index] = column(samples[index * RATE_HZ : index * RATE_HZ + FRAME_SAMPLES])
    return out
