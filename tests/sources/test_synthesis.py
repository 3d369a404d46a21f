"""Drawn EEG has the power that was measured, no seams, and nothing that depends on how it is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.messages import EPOCH_SAMPLES, RATE_HZ
from streamer.sources.synthesis import BANDS_HZ, BLOCK, DEFAULT, Measured, Style, synthesise, varied

PINK = np.array([20.0, 60.0, 12.0, 6.0, 4.0, 5.0, 3.0])  # µV² by band


def measured(n, power=PINK, spread=0.9, kurtosis=1.0, skewness=0.0, eye=0.2):
    return Measured(
        np.tile(power, (n, 1)), *(np.full(n, value) for value in (spread, kurtosis, skewness, eye))
    )


def draw(rows, seed=0, style=DEFAULT):
    return np.concatenate(list(synthesise(rows, seed, style)))


def band_power(samples):
    epochs = samples.reshape(-1, EPOCH_SAMPLES).astype(float)
    spectrum = np.abs(np.fft.rfft(epochs, axis=1)) ** 2 * 2 / EPOCH_SAMPLES**2
    frequency = np.fft.rfftfreq(EPOCH_SAMPLES, 1 / RATE_HZ)
    return np.stack(
        [spectrum[:, (frequency >= low) & (frequency < high)].sum(1) for low, high in BANDS_HZ], 1
    )


def kurtosis(epochs):
    rest = epochs - epochs.mean(1, keepdims=True)
    return (rest**4).mean(1) / (rest**2).mean(1) ** 2 - 3


@pytest.mark.parametrize("n", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_every_epoch_gives_3000_finite_samples(n):
    samples = draw(measured(n))
    assert samples.shape == (n * EPOCH_SAMPLES,)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()


def test_no_epochs_give_no_samples():
    assert list(synthesise(measured(0), 0)) == []


def test_same_seed_same_night_other_seed_another():
    assert np.array_equal(draw(measured(20), 3), draw(measured(20), 3))
    assert not np.array_equal(draw(measured(20), 3), draw(measured(20), 4))


def test_an_epoch_does_not_depend_on_epochs_that_it_does_not_touch():
    long, short = draw(measured(40), 3), draw(measured(22), 3)
    assert np.allclose(long[: 21 * EPOCH_SAMPLES], short[: 21 * EPOCH_SAMPLES], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    log_power=st.lists(st.floats(-1, 5), min_size=7, max_size=7),
    spread=st.floats(0.4, 1.1),
    excess=st.floats(-0.5, 8),
    eye=st.floats(0, 1),
)
def test_measured_powers_come_back(log_power, spread, excess, eye):
    power = np.exp(np.array(log_power))
    found = band_power(draw(measured(24, power, spread, excess, 0.0, eye)))
    total = found.sum(1).mean() / power.sum()
    assert 0.85 < total < 1.2  # events and fades leak a little beyond their band
    if spread >= 1:  # no transients: every band holds what was asked, but for the leak of the slow ones
        assert np.all(found.mean(0) > 0.75 * power)


def test_bands_of_an_ordinary_epoch_are_within_a_few_percent():
    found = band_power(draw(measured(64))).mean(0)
    assert found[1:] == pytest.approx(PINK[1:], rel=0.1)


def test_no_seam_at_the_edges_of_epochs():
    samples = draw(measured(200)).astype(float)
    jumps = np.abs(np.diff(samples))
    edges = jumps[EPOCH_SAMPLES - 1 :: EPOCH_SAMPLES]
    assert edges.mean() < 1.25 * jumps.mean()
    around = np.stack([samples[k * EPOCH_SAMPLES - 150 : k * EPOCH_SAMPLES + 150] for k in range(1, 200)])
    assert (around**2).mean() == pytest.approx((samples**2).mean(), rel=0.12)


def test_a_step_in_power_is_faded_over_three_seconds():
    power = np.repeat([PINK, 25 * PINK], 2, axis=0)
    rows = Measured(power, np.ones(4), np.zeros(4), np.zeros(4), np.zeros(4))
    rms = np.sqrt(np.mean([draw(rows, seed) ** 2 for seed in range(20)], axis=0))
    before, middle, after = (rms[2 * EPOCH_SAMPLES + k :][:50].mean() for k in (-250, -25, 200))
    assert 4 < after / before < 6
    assert before < middle < after


def test_kurtosis_follows_what_was_measured():
    found = [
        np.median(kurtosis(draw(measured(64, spread=spread, kurtosis=excess)).reshape(-1, EPOCH_SAMPLES)))
        for spread, excess in ((1.0, 0.0), (0.88, 1.0), (0.7, 4.0))
    ]
    assert abs(found[0]) < 0.4
    assert 0.4 < found[1] < 2
    assert found[2] > 2


def test_skewness_has_the_sign_that_was_measured():
    for asked in (-0.5, 0.5):
        epochs = draw(measured(64, spread=0.8, kurtosis=2.0, skewness=asked, eye=1.0)).reshape(-1, 3000)
        rest = epochs - epochs.mean(1, keepdims=True)
        assert np.sign(np.mean(rest**3)) == np.sign(asked)


def test_style_changes_events_and_not_power():
    other = Style(transients=2.0, width=0.7, bursts=6.0, depth=0.7)
    a, b = draw(measured(64)), draw(measured(64), style=other)
    assert not np.allclose(a, b)
    assert np.var(a) == pytest.approx(np.var(b), rel=0.08)


def test_a_varied_style_is_seeded():
    assert varied(DEFAULT, 5) == varied(DEFAULT, 5) != varied(DEFAULT, 6)
    assert 0 < varied(DEFAULT, 5).clump <= 1


def test_silent_epochs_stay_silent():
    assert np.abs(draw(measured(3, power=np.zeros(7)))).max() < 0.1
