"""Batches without a waveform are what the waveform's would have been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import spectra
from model.augment import FIRST, NONE, Augmentation, augment, begin
from model.data import Cut, Sequences, spectrograms
from model.spectra import SpectralSequences, amplitudes, changed
from model.train import Run
from streamer.messages import EPOCH_SAMPLES
from tests.model.nights import night
from tests.model.test_train import settings
from tools.runs import change_settings

pytestmark = pytest.mark.train

CUT = Cut(epochs=5, sequences=3)


def decibel(columns: np.ndarray) -> np.ndarray:
    """Columns of whole epochs as `spectrograms` gives them."""
    return 20 * np.log10(columns.reshape(-1, 30, 128)[:, :29].astype(np.float32) + 1)


def test_unchanged_batches_are_the_waveforms_own() -> None:
    nights = [night(number) for number in (1, 2)]
    columns = [amplitudes(one.samples) for one in nights]
    waves = Sequences(nights, CUT, (0,), 2)
    spectra = SpectralSequences(nights, columns, CUT, (0,), 2)
    for ours, theirs in zip(spectra, waves, strict=True):
        torch.testing.assert_close(ours.spectrum, theirs.spectrum, atol=0.02, rtol=0)  # kept in 16 bits
        torch.testing.assert_close(ours.target, theirs.target)
        assert (ours.present == theirs.present).all()
        assert ours.raw.shape == (3, 5, 0)


@pytest.mark.parametrize("how", [replace(NONE, fixed_gain=2.0), replace(NONE, fixed_tilt=0.3)])
def test_what_is_a_factor_per_frequency_is_the_same_on_columns(how: Augmentation) -> None:
    one = night(3, epochs=4)
    rng = np.random.default_rng(0)
    there = changed(amplitudes(one.samples).astype(np.float32), how, rng)
    wave = augment(one.samples.astype(np.float32), how, np.random.default_rng(0))
    expected = spectrograms(wave.reshape(4, EPOCH_SAMPLES))
    off = np.abs(decibel(there) - expected)[:, :, 5:90]
    assert np.median(off) < 0.3


def test_noise_has_the_power_of_white_noise() -> None:
    silence = np.zeros((30, 128), np.float32)
    made = [changed(silence, replace(NONE, noise_uv=5.0), np.random.default_rng(seed)) for seed in range(60)]
    white = np.random.default_rng(0).standard_normal(120 * 3000).astype(np.float16)
    per_uv2 = np.square(amplitudes(white).astype(np.float32)).mean()
    found = np.mean([np.square(one).mean() for one in made]) / per_uv2
    assert found == pytest.approx(25 / 5, rel=0.35)  # a uniform number to the fourth power is a fifth


def test_lost_samples_are_lost_columns_and_absent_epochs() -> None:
    gone = night(4)
    gone.samples[2 * EPOCH_SAMPLES : 4 * EPOCH_SAMPLES] = np.nan
    columns = amplitudes(gone.samples)
    assert np.isnan(columns[60:119]).all()
    batch = SpectralSequences([gone], [columns], replace(CUT, epochs=11), (0,), 1)[0]
    assert not batch.present.all()
    assert torch.isnan(batch.spectrum[~batch.present.any(-1)]).any()


def test_sequences_begin_where_nights_do_as_often_as_asked_for() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([begin(900, replace(NONE, beginnings=0.5), rng) for _ in range(400)])
    assert 0.45 < (drawn < FIRST).mean() < 0.6
    assert drawn.max() > 800
    assert begin(1, replace(NONE, beginnings=1.0), rng) == 0
    same = np.random.default_rng(3)
    assert begin(900, NONE, np.random.default_rng(3)) == same.integers(900)


def test_runs_that_read_no_waveform_learn_from_columns_that_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(spectra, "amplitudes", lambda samples: asked.append(1) or amplitudes(samples))
    made = settings(
        tmp_path,
        waveform=False,
        level_hz=(0.5, 8.0, 30.0),
        bands_hz=(0.5, 4.0, 30.0),
        spectrum_layers=0,
        trailing_epochs=20,
        phases=[{"objective": "fine_tune", "steps": 3, "learning_rate": 1e-3, "epochs": 5, "sequences": 2}],
    )
    nights = [night(0), night(20), night(21)]
    run = Run(made, nights, torch.device("cpu"))
    run.train()
    assert len(asked) == 2  # night(0) is held out
    assert (tmp_path / "best.pt").exists()
    Run(change_settings(made, held_out_fold=2), nights, torch.device("cpu"))
    assert len(asked) == 3
