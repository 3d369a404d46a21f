"""The resampler against scipy, and against itself cut otherwise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from streamer.errors import SignalError
from streamer.resampler import Resampler, find_ratio, grid_index, needed_index, ready_index
from tests.chunkings import SIZES, cut, stream

RATES = [50, 64, 100, 125, 128, 199.5, 200, 250, 256, 400, 500, 512, 1000, 1024]


def _run(resampler, pieces):
    return np.concatenate([*(resampler.push(piece) for piece in pieces), resampler.flush()])


@pytest.mark.parametrize("rate_hz", RATES)
def test_equals_scipys_resample_poly_away_from_the_edges(rate_hz):
    signal = np.random.default_rng(1).standard_normal(int(rate_hz * 20))
    resampler = Resampler(rate_hz)
    ours = _run(resampler, [signal])
    scipys = resample_poly(signal, resampler.up, resampler.down)
    assert ours.shape == scipys.shape
    np.testing.assert_allclose(ours[50:-50], scipys[50:-50], atol=3e-3)


@pytest.mark.parametrize("rate_hz", RATES)
def test_output_k_lies_at_k_hundredths_of_a_second(rate_hz):
    start = 1237
    times = (start + np.arange(int(rate_hz * 20))) / rate_hz
    resampler = Resampler(rate_hz)
    resampler.reset(start)
    ours = _run(resampler, [np.sin(2 * np.pi * 3 * times)])
    expected = np.sin(2 * np.pi * 3 * (grid_index(start, rate_hz) + np.arange(len(ours))) / 100)
    np.testing.assert_allclose(ours[50:-50], expected[50:-50], atol=3e-3)


@given(rate_hz=st.sampled_from(RATES), ready=st.integers(1, 8_640_000))
def test_the_input_that_an_output_needs_is_the_smallest_that_gives_it(rate_hz, ready):
    ratio = find_ratio(rate_hz)
    needed = needed_index(ready, ratio)
    assert ready_index(needed, ratio) >= ready > ready_index(needed - 1, ratio)


@given(rate_hz=st.sampled_from(RATES), sizes=SIZES, start=st.integers(0, 5000))
def test_any_chunking_gives_the_same_bits(rate_hz, sizes, start):
    signal = np.random.default_rng(2).standard_normal((1, int(rate_hz * 3) + 7))
    resampler = Resampler(rate_hz)
    resampler.reset(start)
    whole = _run(resampler, [signal[0]])
    resampler.reset(start)
    pieces = _run(resampler, [item.samples[0] for item in cut(stream(signal), sizes)])
    assert whole.tobytes() == pieces.tobytes()


@given(rate_hz=st.sampled_from(RATES), seconds=st.integers(1, 20))
def test_whole_seconds_in_are_whole_seconds_out(rate_hz, seconds):
    signal = np.ones(round(rate_hz * seconds * 2))
    assert len(_run(Resampler(rate_hz), [signal])) == 200 * seconds


@pytest.mark.parametrize("rate_hz", RATES)
def test_delay_is_what_is_stated_and_no_more(rate_hz):
    resampler = Resampler(rate_hz)
    count = int(rate_hz * 5)
    out = resampler.push(np.ones(count))
    waits = (count / rate_hz) - len(out) / 100
    assert waits <= resampler.delay_s + 2 / rate_hz + 0.01
    assert resampler.delay_s <= (0.2 if rate_hz < 100 else 0.1)


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_constant_stays_a_constant_even_at_the_edges(rate_hz):
    np.testing.assert_allclose(_run(Resampler(rate_hz), [np.full(500, 187_500.0)]), 187_500.0, rtol=1e-12)


def test_aliases_are_suppressed():
    tone = np.sin(2 * np.pi * 90 * np.arange(2560) / 256)
    assert np.abs(_run(Resampler(256), [tone])[100:-100]).max() < 0.01


@pytest.mark.parametrize("rate_hz", [0.0, 1.0, 49.9, 1024.5, 4096.0])
def test_rates_out_of_range_are_refused(rate_hz):
    with pytest.raises(SignalError, match="outside 50 to 1024 Hz"):
        find_ratio(rate_hz)
