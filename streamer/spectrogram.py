"""The spectrogram that the network sees: frames of 2 s with a Hamming taper, 1 s apart, in dB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.messages import EPOCH_SAMPLES, RATE_HZ, Floats

FRAME_S = 2
FRAME_SAMPLES = FRAME_S * RATE_HZ
FFT_POINTS = 256
FRAMES = EPOCH_SAMPLES // RATE_HZ - 1  # frames in an epoch
BINS = FFT_POINTS // 2  # without DC: 0.39 Hz, 0.78 Hz ... 50 Hz
FLOOR_UV = 1.0  # added to |X|, so that a band without power has 0 dB instead of minus infinity
HAMMING: Floats = np.hamming(FRAME_SAMPLES)


def columns(frames: Floats) -> NDArray[np.float32]:
    """Compute columns of the spectrogram: (n, 200) µV -> (n, 128) dB re 1 µV, `20 log10(|X| + 1)`.

    A frame with a lost sample (NaN) becomes a column of NaN. A column is the same to the bit however many
    frames are given, because each row is transformed and summed separately.
    """
    magnitude = np.abs(np.fft.rfft(frames * HAMMING, FFT_POINTS))[:, 1:]
    out: NDArray[np.float32] = (20.0 * np.log10(magnitude + FLOOR_UV)).astype(np.float32)
    return out


def spectrogram(samples: Floats) -> NDArray[np.float32]:
    """Compute every column of a signal: (n,) µV -> (n // 100 - 1, 128) dB; the first is of seconds 0 to 2."""
    return columns(frames(samples))


def frames(samples: Floats) -> Floats:
    """Cut a signal into frames of 2 s that begin at whole seconds: (n,) -> (n // 100 - 1, 200)."""
    seconds = samples[: samples.shape[0] // RATE_HZ * RATE_HZ].reshape(-1, RATE_HZ)
    return np.concatenate([seconds[:-1], seconds[1:]], axis=1)
