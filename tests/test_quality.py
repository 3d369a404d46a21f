"""Each finding, its grade, and that an unusable window is never scored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import Quality
from streamer.quality import QualityMeter, is_usable
from tests.chunkings import SIZES, cut, stream

RATE = 250


def _eeg(seconds=60, rate=RATE):
    return np.random.default_rng(7).standard_normal((1, seconds * rate)) * 15


def _grade(samples, gaps=(), rate=RATE, end_s=30, mains_hz=50):
    meter = QualityMeter(rate, mains_hz)
    for item in stream(samples, gaps):
        meter.push(item)
    return meter.grade(end_s)


def _calm(rate=RATE):
    times = np.arange(60 * rate) / rate
    return (20 * np.sin(2 * np.pi * 2 * times) + 10 * np.sin(2 * np.pi * 10 * times))[None, :]


def test_calm_eeg_is_good():
    assert _grade(_calm()) == Quality("good", (), 0.0)


@pytest.mark.parametrize(
    ("spoil", "grade", "reason"),
    [
        (lambda x, t: x * 0.001, "off", "flat"),
        (lambda x, t: x * 0 + 5, "off", "flat"),
        (lambda x, t: np.where(np.sin(t) > 0, 1000.0, -1000.0)[None, :], "off", "railed"),
        (lambda x, t: x * 30, "poor", "movement"),
        (lambda x, t: x + 40 * np.sin(2 * np.pi * 35 * t), "fair", "muscle"),
        (lambda x, t: x + 40 * np.sin(2 * np.pi * 50 * t), "fair", "line noise"),
    ],
)
def test_each_spoiled_signal_is_named(spoil, grade, reason):
    times = np.arange(60 * RATE) / RATE
    found = _grade(spoil(_calm(), times))
    assert found.grade == grade
    assert reason in found.reasons


@pytest.mark.parametrize(
    ("seconds", "grade", "scored"),
    [(0.1, "fair", True), (3, "fair", True), (4, "poor", False), (20, "off", False)],
)
def test_lost_samples_count_and_too_many_forbid_a_score(seconds, grade, scored):
    found = _grade(_calm(), [(RATE, RATE + int(seconds * RATE))])
    assert found.grade == grade
    assert found.lost_fraction == pytest.approx(seconds / 30, abs=1e-3)
    assert is_usable(found) is scored


def test_a_long_gap_is_off_and_entirely_lost():
    assert _grade(_calm(), [(0, 45 * RATE)], end_s=40) == Quality("off", ("lost",), 1.0)


def test_mains_are_not_looked_for_above_half_the_rate():
    assert _grade(_calm(100), rate=100).grade == "good"
    assert _grade(_calm(64), rate=64).grade == "good"


@given(
    sizes=SIZES,
    rate=st.sampled_from([50, 128, 199.5, 256]),
    gap=st.tuples(st.integers(0, 900), st.integers(1, 900)),
)
def test_any_chunking_gives_the_same_quality(sizes, rate, gap):
    items = stream(_eeg(60, 128)[:, : int(40 * rate) if rate < 192 else 7680], [(gap[0], gap[0] + gap[1])])
    grades = []
    for pieces in (items, cut(items, sizes)):
        meter = QualityMeter(rate)
        for item in pieces:
            meter.push(item)
        grades.append([meter.grade(end_s) for end_s in range(5, 30)])
    assert grades[0] == grades[1]
