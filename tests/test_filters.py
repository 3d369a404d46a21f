"""The engine's filters are scipy's, to the bit, without the import of the package around them."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from streamer import filters
from streamer.conditioner import BAND_HZ, ORDER
from streamer.messages import RATE_HZ

SEEDS = st.integers(0, 2**32 - 1)


def test_the_constants_are_the_band_pass_that_they_say():
    sections = signal.butter(ORDER, BAND_HZ, "bandpass", fs=RATE_HZ, output="sos")
    np.testing.assert_allclose(filters.BUTTERWORTH, sections, rtol=1e-13)


@pytest.mark.parametrize("kind", ["high", "low"])
@given(cutoff_hz=st.floats(0.1, 100), rate_hz=st.floats(250, 1024))
def test_a_section_of_second_order_is_butter_s(kind, cutoff_hz, rate_hz):
    numerator, denominator = filters.design_second_order(kind, cutoff_hz, rate_hz)
    b, a = signal.butter(2, cutoff_hz, kind, fs=rate_hz)
    np.testing.assert_allclose(numerator, b, rtol=1e-9)
    np.testing.assert_allclose(denominator, a, rtol=1e-9)


@given(length=st.integers(1, 300), slower=st.integers(2, 512), beta=st.floats(0, 12))
def test_the_low_pass_is_firwin_s(length, slower, beta):
    mine = filters.design_low_pass(2 * length + 1, 1 / slower, beta)
    theirs = signal.firwin(2 * length + 1, 1 / slower, window=("kaiser", beta))
    np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-15)


@given(seed=SEEDS, n=st.integers(1, 400), up=st.integers(1, 25), down=st.integers(1, 64))
def test_both_loops_are_scipy_s_to_the_bit(seed, n, up, down):
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(n) * 100
    taps = rng.standard_normal(int(rng.integers(1, 200)))
    mine = filters.polyphase(taps, up, down)(samples)
    assert mine.tobytes() == signal.upfirdn(taps, samples, up, down).tobytes()
    for section in filters.BUTTERWORTH:
        state = rng.standard_normal(2)
        out, after = filters.lfilter(section[:3], section[3:], samples, state)
        theirs, theirs_after = signal.lfilter(section[:3], section[3:], samples, zi=state)
        assert (out.tobytes(), after.tobytes()) == (theirs.tobytes(), theirs_after.tobytes())


@pytest.mark.parametrize("broken", ["_extension", "_sound"])
def test_another_scipy_than_we_know_is_asked_in_public(monkeypatch, broken):
    monkeypatch.setattr(filters, broken, lambda *_: None)
    lfilter, polyphase = filters._loops()
    assert "_public" in lfilter.__qualname__
    assert filters._sound(lfilter, polyphase) is (None if broken == "_sound" else True)


def test_the_hot_path_does_not_import_the_package():
    code = "import sys, streamer.pipeline; print('scipy.signal' in sys.modules, 'scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
