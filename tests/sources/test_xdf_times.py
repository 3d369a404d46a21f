"""What a recorded stream's times are worth: their scale, their own rate, and what is no time at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import Chunk, Gap
from streamer.sources.excursions import Excursions
from streamer.sources.recordings import open_recording
from streamer.sources.xdf_times import seconds, true_rate
from tests.recording_files import eeg, write_xdf

RATE = 64.0


def read(path, times, rate_hz=RATE):
    """Gaps (s), samples, and remarks of a recording with these times."""
    write_xdf(path, times, eeg(len(times) / rate_hz, rate_hz)[None, : len(times)], rate_hz, ["C4"])
    recording = open_recording(path)
    items = list(recording.items([0]))
    gaps = [((gap.stop - gap.start) / rate_hz) for gap in items if isinstance(gap, Gap)]
    samples = sum(chunk.stop - chunk.start for chunk in items if isinstance(chunk, Chunk))
    return gaps, samples, recording


@pytest.mark.parametrize(
    ("scale", "named"),
    [
        (1e3, "run 1000 times too fast"),
        (1e6, "run 1000000 times too fast"),
        (1e-3, "run 1000 times too slow"),
        (RATE, "run 64 times too fast: they count samples"),
    ],
)
def test_a_scale_is_named_and_undone_and_a_loss_keeps_its_length(tmp_path, scale, named):
    times = np.delete(np.arange(int(RATE * 60)) / RATE, slice(640, 1280))
    gaps, samples, recording = read(tmp_path / "a.xdf", times * scale)
    assert gaps == [10.0]
    assert samples == len(times)
    assert recording.remarks == [f"stream 'Muse': its times {named}; they are divided by that"]
    assert recording.duration_s == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(("scale", "named"), [(0.0, "stand still"), (7.0, "run 7 times too fast")])
def test_times_that_are_none_give_way_to_the_declared_rate(tmp_path, scale, named):
    gaps, samples, recording = read(tmp_path / "a.xdf", np.arange(1280) / RATE * scale)
    assert (gaps, samples) == ([], 1280)
    assert recording.remarks == [
        f"stream 'Muse': its times {named}, and are not believed: samples are placed at 64 Hz"
    ]


@pytest.mark.parametrize("leap_s", [3e5, -40.0])
def test_a_leap_that_no_night_has_is_no_loss_and_is_said(tmp_path, leap_s):
    times = np.arange(int(RATE * 60)) / RATE
    times[2000:] += leap_s
    gaps, samples, recording = read(tmp_path / "a.xdf", times)
    assert gaps == []
    assert samples == len(times)
    assert any("not believed in 1 places" in one for one in recording.remarks)


@pytest.mark.parametrize("off", [0.024, -0.024, 0.1, -0.08])
@pytest.mark.parametrize("jitter_s", [0.0, 0.02])
def test_a_rate_that_is_not_declared_is_that_of_the_times(tmp_path, off, jitter_s):
    times = np.arange(int(RATE * 400)) / (RATE * (1 + off))
    kept = (np.arange(times.size) // 32) % 50 != 7  # one packet in 50 is lost
    jitter = np.random.default_rng(0).normal(0, jitter_s, times.size)
    found_hz, remark = true_rate((times + jitter)[kept], RATE)
    assert found_hz == pytest.approx(RATE * (1 + off), rel=2e-3)
    assert f"({off:+.1%})" in remark


def test_a_recording_is_read_at_the_rate_of_its_times(tmp_path):
    path = tmp_path / "a.xdf"
    write_xdf(path, np.arange(30_000) / 250, np.zeros((1, 30_000)), 256, ["C4"])
    recording = open_recording(path)
    assert recording.rates_hz == (250.0,)
    assert recording.remarks == [
        "stream 'Muse': it states 256 Hz, but its times show 250 Hz (-2.3%): it is read at that rate"
    ]
    assert [type(item) for item in recording.items([0]) if isinstance(item, Gap)] == []


@given(seed=st.integers(0, 999), jitter_s=st.sampled_from([0.0, 0.005, 0.02]), burst=st.sampled_from([1, 12]))
def test_an_honest_rate_is_left_alone(seed, jitter_s, burst):
    rng = np.random.default_rng(seed)
    k = np.arange(int(RATE * 120))
    times = (k // burst * burst + burst - 1) / RATE * (1 + 2e-4 * rng.standard_normal())
    times = times + rng.normal(0, jitter_s, k.size)[k // burst]
    kept = rng.random(k.size // 32 + 1)[k // 32] > 0.02
    assert true_rate(times[kept], RATE) == (RATE, "")
    same, remark = seconds(times[kept], RATE)
    assert remark == ""
    np.testing.assert_array_equal(same, times[kept])


@pytest.mark.parametrize("ahead_s", [0.1, 1.0, 3600.0, 1e7, -1.5, -3600.0])
@pytest.mark.parametrize("length", [30, 640])
def test_a_clock_that_leaps_and_is_soon_back_has_lost_nothing(tmp_path, ahead_s, length):
    times = np.delete(np.arange(int(RATE * 120)) / RATE, slice(320, 640))  # and here 5 s were lost
    times[2000 : 2000 + length] += ahead_s
    gaps, samples, recording = read(tmp_path / "a.xdf", times)
    assert (gaps, samples) == ([5.0], len(times))
    assert f"leap by up to {abs(ahead_s):.2f} s and back again in 1 places" in recording.remarks[0]


@given(st.lists(st.integers(1, 900), min_size=2, max_size=8), st.floats(0, 0.02))
def test_losses_alone_are_no_excursions(lost, jitter_s):
    number = np.cumsum(np.insert(np.ones(400), np.arange(20, 20 + 40 * len(lost), 40), lost))
    times = number / RATE + jitter_s * np.abs(np.sin(number))
    excursions = Excursions(1 / RATE)
    assert excursions.undo(times) is times
    assert excursions.remarks() == []
