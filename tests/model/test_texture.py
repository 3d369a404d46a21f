"""Texture: bands wax and wane together as much as was measured, and nothing that was measured changes."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.resynthesis import BESIDE
from model.texture import CENTRES_HZ, INPUTS, KEPT, Strengths, Texture, quantities, textured
from streamer.messages import EPOCH_SAMPLES
from streamer.sources.synthesis import BANDS_HZ, Measured

pytestmark = pytest.mark.train

EPOCHS = 6


def measured(kurtosis: float = 0.8, eye: float = 0.1) -> Measured:
    power = np.tile([5.0, 60.0, 10.0, 6.0, 4.0, 6.0, 1.0], (EPOCHS, 1))
    one = np.ones(EPOCHS)
    return Measured(power, 0.93 * one, kurtosis * one, 0 * one, eye * one)


def beside(epochs: int = EPOCHS, restless: float = 0.0) -> np.ndarray:
    """Return what the other channels measured; half of the epochs differ from the others."""
    return np.where(np.arange(epochs)[:, None] < epochs // 2, restless, 0.0) * np.ones(len(BESIDE))


def noise(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (10 * rng.standard_normal(EPOCHS * EPOCH_SAMPLES)).astype(np.float32)


def flat(slow: float, own: float = 0.0) -> Strengths:
    shape = (EPOCHS, len(CENTRES_HZ))
    return Strengths(torch.full(shape, slow), torch.zeros(shape), torch.full(shape, own), torch.zeros(shape))


def envelopes(samples: np.ndarray) -> np.ndarray:
    """Log power (seconds, 2) in 4-8 and in 12-16 Hz."""
    seconds = np.abs(np.fft.rfft(samples.reshape(-1, 100), axis=1)) ** 2
    return np.log(np.stack([seconds[:, 4:8].sum(1), seconds[:, 12:16].sum(1)], axis=1))


def test_nothing_asked_for_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(textured(noise(), flat(0.0), rng), noise(), atol=1e-3)


def test_bands_wax_and_wane_together_where_the_shared_course_is_strong() -> None:
    calm = textured(noise(), flat(0.0), np.random.default_rng(1))
    shared = textured(noise(), flat(0.6), np.random.default_rng(1))
    own = textured(noise(), flat(0.0, own=0.6), np.random.default_rng(1))
    together = [np.corrcoef(envelopes(one).T)[0, 1] for one in (calm, shared, own)]
    assert together[1] > 0.4
    assert abs(together[0]) < 0.2 > abs(together[2])
    assert envelopes(shared).std(0).mean() > 1.2 * envelopes(calm).std(0).mean()


def test_the_power_of_measured_bands_stays_in_every_epoch() -> None:
    strengths = Texture.load().strengths(measured(), beside())
    before = noise()
    after = textured(before, strengths, np.random.default_rng(2))
    hz = np.fft.rfftfreq(EPOCH_SAMPLES, 0.01)
    for low, high in BANDS_HZ[1:6]:
        inner = (hz >= 1.2 * low) & (hz < high / 1.1)  # the bands that vary overlap at their edges
        powers = [
            np.square(np.abs(np.fft.rfft(one.reshape(EPOCHS, -1), axis=1)))[:, inner].sum(1)
            for one in (before, after)
        ]
        np.testing.assert_allclose(np.log(powers[1] / powers[0]), 0, atol=0.6)
    whole = [np.square(one.reshape(EPOCHS, -1)).mean(1) for one in (before, after)]
    np.testing.assert_allclose(np.log(whole[1] / whole[0]), 0, atol=0.15)


def test_the_same_dice_give_the_same_night() -> None:
    strengths = Texture.load().strengths(measured(), beside())
    first, again, other = (textured(noise(), strengths, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_follows_what_was_measured_and_knows_no_stage() -> None:
    texture = Texture.load()
    still, rolling = (texture.strengths(measured(eye=eye), beside()) for eye in (0.0, 0.9))
    assert not np.allclose(still.slow, rolling.slow)
    assert list(inspect.signature(texture.strengths).parameters) == ["measured", "beside"]
    assert quantities(measured(), beside()).shape == (EPOCHS, INPUTS)
    assert len(texture.mean) == INPUTS
    assert len(KEPT) == len(CENTRES_HZ) == texture.maps["own"].out_features


def test_what_an_epoch_is_within_its_night_matters_and_not_the_unit_of_the_other_channels() -> None:
    texture = Texture.load()
    one, same, calm = (
        texture.strengths(measured(), one)
        for one in (beside(restless=1.0), 5 + beside(restless=1.0), beside())
    )
    assert not np.allclose(one.slow[0], one.slow[-1])
    np.testing.assert_allclose(one.slow, same.slow, rtol=1e-4)
    np.testing.assert_allclose(calm.slow, calm.slow[:1].expand(EPOCHS, -1), rtol=1e-4)


def test_wild_measurements_ask_for_no_more_than_the_wildest_of_the_nights_it_was_fitted_on() -> None:
    wild = replace(measured(), kurtosis=np.full(EPOCHS, 1e6), spread=np.zeros(EPOCHS))
    strengths = Texture.load().strengths(wild, beside(restless=1e6))
    assert max(one.max() for one in (strengths.slow, strengths.fast, strengths.own)) < 6


@pytest.mark.parametrize("epochs", [1, 2])
def test_short_nights_have_a_texture_too(epochs: int) -> None:
    few = measured().rows(0, epochs)
    strengths = Texture.load().strengths(few, beside(epochs))
    part = noise()[: epochs * EPOCH_SAMPLES]
    assert textured(part, strengths, np.random.default_rng(0)).shape == part.shape
