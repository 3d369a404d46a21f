"""Records of an EDF+ file by their own times: their rate, their losses, and what is not believed."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import Chunk, Gap
from streamer.sources.edf_header import _record
from streamer.sources.recordings import open_recording
from tests.recording_files import eeg, patched, signal, write_edf, write_edf_d

RATE = 100


def read(path):
    recording = open_recording(path)
    items = list(recording.items([0]))
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]
    return recording, items


def continuous(path, onsets):
    """An EDF+C of records of 1 s that say when they begin."""
    write_edf_d(path, [signal(eeg(len(onsets)), RATE)], onsets)
    return patched(path, 192, b"EDF+C")


def gaps(items):
    return [(item.start, item.stop) for item in items if isinstance(item, Gap)]


def test_a_continuous_file_whose_records_jump_has_the_jump_in_the_ledger(tmp_path):
    onsets = [float(n if n < 20 else n + 7) for n in range(40)]
    recording, items = read(continuous(tmp_path / "a.edf", onsets))
    assert gaps(items) == [(2000, 2700)]
    assert items[-1].stop == 4700
    assert recording.duration_s == 47.0
    assert recording.remarks == []


@pytest.mark.parametrize("onsets", [[0.0] * 40, [39.0 - n for n in range(40)], [0.0, *[5e5] * 39]])
def test_times_of_a_continuous_file_that_are_none_are_not_believed(tmp_path, onsets):
    recording, items = read(continuous(tmp_path / "a.edf", onsets))
    assert gaps(items) == []
    assert items[-1].stop == 4000
    assert any("not believed" in one for one in recording.remarks)
    assert recording.duration_s == 40.0


@given(st.floats(-0.02, 0.02), st.integers(0, 99))
def test_rounding_in_a_continuous_file_is_no_loss(tmp_path_factory, jitter_s, seed):
    draw = np.random.default_rng(seed).uniform(-1, 1, 40)
    onsets = [max(0.0, n + jitter_s * draw[n]) for n in range(40)]
    _, items = read(continuous(tmp_path_factory.mktemp("c") / "a.edf", onsets))
    assert gaps(items) == []
    assert items[-1].stop == 4000


@pytest.mark.parametrize("kind", [b"EDF+C", b"EDF+D"])
def test_records_that_are_further_apart_than_they_say_are_read_at_their_own_rate(tmp_path, kind):
    onsets = [1.024 * (n if n < 20 else n + 5) for n in range(40)]
    path = write_edf_d(tmp_path / "a.edf", [signal(eeg(40, 256), 256)], onsets)
    recording, items = read(patched(path, 192, kind))
    assert recording.rates_hz == (250.0,)
    assert gaps(items) == [(20 * 256, 25 * 256)]
    (said,) = recording.remarks
    assert said == ("it states 256 Hz, but its times show 250 Hz (-2.3%): it is read at that rate")
    assert recording.duration_s == pytest.approx(45 * 1.024)


@pytest.mark.parametrize("kind", [b"EDF+C", b"EDF+D"])
@pytest.mark.parametrize("leap_s", [0.25, 30.0, 4000.0, 1e5, -0.25, -12.0])
@pytest.mark.parametrize("length", [1, 2, 15])
def test_a_clock_that_leaps_and_is_soon_back_has_lost_nothing(tmp_path, kind, leap_s, length):
    onsets = 20 + 1.0 * np.arange(40)
    onsets[5:] += 7  # and here 7 s were lost
    onsets[20 : 20 + length] += leap_s
    path = write_edf_d(tmp_path / "a.edf", [signal(eeg(40), RATE)], onsets.tolist())
    recording, items = read(patched(path, 192, kind))
    assert gaps(items) == [(500, 1200)]
    assert items[-1].stop == 4700
    assert recording.duration_s == 47.0
    (said,) = recording.remarks
    assert f"leap by up to {abs(leap_s):.2f} s and back again in 1 places" in said


def test_records_with_a_true_pause_between_each_are_no_other_rate(tmp_path):
    path = write_edf_d(tmp_path / "a.edf", [signal(eeg(20), RATE)], [10.0 * n for n in range(20)])
    recording, items = read(path)
    assert recording.rates_hz == (100.0,)
    assert len(gaps(items)) == 19


@pytest.mark.parametrize(
    ("field", "samples", "rate"),
    [
        ("0.007812", 1, 128),
        ("0.003906", 1, 256),
        ("0.001953", 1, 512),
        ("0.333333", 85, 255),
        ("0.0078125", 1, 128),
        ("9.994004", 2000, Fraction(5003, 25)),
        ("0.1", 25, 250),
        ("1", 256, 256),
        ("1.000000", 200, 200),
        ("0,5", 64, 128),
        ("1e-1", 25, 250),
        ("1.024", 256, 250),
        ("0.999", 100, Fraction(100_000, 999)),
    ],
)
def test_the_length_of_a_record_is_exact(field, samples, rate):
    length = _record(field.encode(), float(field.replace(",", ".")), [samples, 1])
    assert samples / length == rate


@given(st.integers(50, 1024), st.integers(1, 60))
def test_every_whole_rate_survives_a_field_of_eight_characters(rate, samples):
    field = f"{samples / rate:.9f}"[:8]
    assert samples / _record(field.encode(), float(field), [samples]) == rate


def test_short_records_are_read_at_the_exact_rate(tmp_path):
    path = write_edf(tmp_path / "a.edf", [signal(eeg(4), RATE)], data_record_duration=0.01)
    recording, items = read(patched(path, 244, b"0.007812"))
    assert recording.rates_hz == (128.0,)
    assert sum(item.stop - item.start for item in items if isinstance(item, Chunk)) == 400
