"""The conditioner: same bits for any chunking, no future, gaps in their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import sosfilt

from streamer.conditioner import BandPass, Conditioner
from streamer.filters import BUTTERWORTH
from streamer.messages import Chunk, Gap
from tests.chunkings import SIZES, cut, joined, stream

RATES = st.sampled_from([50, 100, 128, 200, 256, 500])


def _run(conditioner, items):
    return [*(out for item in items for out in conditioner.push(item)), *conditioner.flush()]


def _noise(count, seed=4):
    return np.random.default_rng(seed).standard_normal((1, count)) * 30 + 500


@given(rate_hz=RATES, sizes=SIZES, gap=st.tuples(st.integers(0, 900), st.integers(1, 400)))
def test_any_chunking_gives_the_same_bits_also_around_a_gap(rate_hz, sizes, gap):
    items = stream(_noise(2000), [(gap[0], gap[0] + gap[1])])
    conditioner = Conditioner(rate_hz)
    whole = joined(_run(conditioner, items))
    conditioner.reset()
    assert joined(_run(conditioner, list(cut(items, sizes)))) == whole


@given(rate_hz=RATES, at=st.integers(200, 1500))
def test_nothing_depends_on_the_future(rate_hz, at):
    before, after = _noise(2000), _noise(2000)
    after[:, at:] = _noise(2000, seed=5)[:, at:]
    outs = []
    for samples in (before, after):
        conditioner = Conditioner(rate_hz)
        outs.append(joined([*conditioner.push(Chunk(0, samples[:, :at]))]))
    assert outs[0] == outs[1]
    # and what is emitted reaches to within the stated delay of the last sample given
    stop = outs[0][-1][2] / 100
    assert at / rate_hz - stop <= conditioner.delay_s + 2 / rate_hz + 0.01


@given(rate_hz=RATES, start=st.integers(1, 3000), length=st.integers(1, 3000))
def test_output_and_gaps_cover_the_clock_without_holes(rate_hz, start, length):
    out = _run(Conditioner(rate_hz), stream(_noise(7000), [(start, start + length)]))
    at = 0
    for item in out:
        assert item.start == at
        at = item.stop
    assert at == -(-7000 * 100 // rate_hz)


def test_a_long_gap_restarts_the_filter_and_keeps_its_place():
    samples = _noise(6000)
    out = _run(Conditioner(100), stream(samples, [(2000, 2500)]))
    assert [(type(item), item.start, item.stop) for item in out] == [
        (Chunk, 0, 2000),
        (Gap, 2000, 2500),
        (Chunk, 2500, 6000),
    ]
    fresh = sosfilt(BUTTERWORTH, samples[0, 2500:] - samples[0, 2500])
    np.testing.assert_allclose(out[2].samples[0], fresh, rtol=0, atol=1e-9)


def test_a_short_gap_is_crossed_by_a_straight_line():
    ramp = np.arange(1000.0)[None, :]
    bridged = joined(_run(Conditioner(100), stream(ramp, [(500, 520)])))
    assert bridged == joined(_run(Conditioner(100), stream(ramp)))


def test_the_first_sample_seeds_the_filter():
    out = BandPass().push(np.full(500, 12_345.0))
    np.testing.assert_array_equal(out, np.zeros(500))


@pytest.mark.parametrize(("hz", "gain"), [(0.05, 0.05), (1.0, 1.0), (10.0, 1.0), (30.0, 0.85), (48.0, 0.1)])
def test_passes_the_band_and_nothing_else(hz, gain):
    tone = np.sin(2 * np.pi * hz * np.arange(20_000) / 100)
    peak = np.abs(BandPass().push(tone)[10_000:]).max()
    assert peak == pytest.approx(gain, abs=0.12)


def test_a_hole_in_the_input_is_a_programming_error():
    conditioner = Conditioner(100)
    conditioner.push(Chunk(0, _noise(10)))
    with pytest.raises(ValueError, match="expected 10"):
        conditioner.push(Chunk(11, _noise(10)))
