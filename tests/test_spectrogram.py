"""Incremental columns against the batch function, scipy and (where it can be imported) torchaudio."""

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT

from streamer.window import FFT_POINTS, FLOOR_UV, FRAME_SAMPLES, HAMMING, columns, spectrogram
from tests.conftest import torchaudio

SIGNAL = np.random.default_rng(3).standard_normal(3000) * 30


def test_has_29_columns_of_128_bins_per_epoch():
    assert spectrogram(SIGNAL).shape == (29, 128)


def _scipys():
    transform = ShortTimeFFT(HAMMING, hop=100, fs=100, mfft=FFT_POINTS)
    return np.abs(transform.stft(SIGNAL, p0=1, p1=30)).T


def _torchaudios():
    import torch

    transform = torchaudio.transforms.Spectrogram(
        FFT_POINTS, FRAME_SAMPLES, 100, power=1.0, center=False, window_fn=lambda n: torch.from_numpy(HAMMING)
    )
    # torchaudio centres the 200-point window in 256 points; its frames therefore begin 28 samples late
    return transform(torch.from_numpy(np.concatenate([np.zeros(28), SIGNAL, np.zeros(28)]))).T.numpy()


# torchaudio's Linux wheels need torch's CUDA build; pytest's header says whether this machine can import it.
@pytest.mark.parametrize("oracle", [_scipys] if torchaudio is None else [_scipys, _torchaudios])
def test_equals_the_oracle(oracle):
    np.testing.assert_allclose(spectrogram(SIGNAL), 20 * np.log10(oracle()[:, 1:] + FLOOR_UV), atol=1e-3)


def test_a_sine_peaks_in_its_own_bin():
    tone = 50 * np.sin(2 * np.pi * 12.5 * np.arange(200) / 100)
    assert np.argmax(columns(tone[None])[0]) + 1 == round(12.5 / (100 / FFT_POINTS))


def test_what_the_band_pass_removed_shows_zero_and_not_minus_infinity():
    assert np.array_equal(columns(np.zeros((1, FRAME_SAMPLES)))[0], np.zeros(128, dtype=np.float32))


def test_a_frame_that_touches_a_lost_sample_is_lost():
    signal = SIGNAL.copy()
    signal[250] = np.nan
    lost = np.isnan(spectrogram(signal)).all(axis=1)
    assert list(np.flatnonzero(lost)) == [1, 2]
    assert not np.isnan(spectrogram(signal)[~lost]).any()
