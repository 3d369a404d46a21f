"""XDF: pieces of one stream are one recording, streams are told apart, and damage costs only itself."""

import gzip
import re

import numpy as np
import pytest
import pyxdf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.errors import RecordingError, SleepstreamError, UsageError
from streamer.messages import Chunk, Gap
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick
from tests.xdf_files import Outlet, write_outlets

properties = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)


def outlet(start_s, stop_s, rate_hz=100.0, **about):
    """A stream of which each sample says when it was taken, in samples since 1000 s."""
    k = np.arange(round(start_s * rate_hz), round(stop_s * rate_hz))
    labels = about.get("labels", ("AF7",))
    return Outlet(1000 + k / rate_hz, np.repeat(k[None], len(labels), 0), rate_hz, **about)


def played(recording, label):
    """A channel's samples by their index, and the gaps."""
    picked, info = pick(recording, label)
    own = [channel.label for channel in info.channels].index(label)
    items = list(recording.items(picked))
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]
    chunks = [item for item in items if isinstance(item, Chunk)]
    gaps = [(item.start, item.stop) for item in items if isinstance(item, Gap)]
    at = [np.arange(one.start, one.stop) for one in chunks]
    return np.concatenate(at), np.concatenate([one.samples[own] for one in chunks]), gaps


def opened(path, streams):
    write_outlets(path, streams)
    return open_recording(path)


# -- pieces --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "second",
    [
        {},  # the same source_id
        {"source_id": "Muse-2"},  # the same name, type and channels
        {"name": "Muse (1)"},  # the same source_id under another name
    ],
)
def test_a_stream_that_was_begun_again_is_one_recording(tmp_path, second):
    recording = opened(tmp_path / "a.xdf", [outlet(0, 40), outlet(50, 300, **second)])
    assert [channel.label for channel in recording.channels] == ["AF7"]
    at, values, gaps = played(recording, "AF7")
    np.testing.assert_array_equal(at, values)
    assert gaps == [(4000, 5000)]
    assert recording.duration_s == pytest.approx(300, abs=0.02)
    assert re.search("comes in pieces, which are joined; 10.0 s are missing", recording.remarks[0])


def test_pieces_in_any_order_in_the_file(tmp_path):
    recording = opened(tmp_path / "a.xdf", [outlet(80, 120), outlet(0, 30), outlet(40, 70)])
    at, values, gaps = played(recording, "AF7")
    np.testing.assert_array_equal(at, values)
    assert gaps == [(3000, 4000), (7000, 8000)]


def test_a_piece_of_a_sample_beside_the_stream_is_left_out(tmp_path):
    recording = opened(tmp_path / "a.xdf", [outlet(0, 0.01), outlet(0, 60, source_id="Muse-2")])
    _at, values, _ = played(recording, "AF7")
    np.testing.assert_array_equal(values, np.arange(6000))
    assert recording.remarks == ["a piece of 1 samples of stream 'Muse' is left out: it lies beside another"]


def test_streams_side_by_side_are_told_apart_and_each_can_be_staged(tmp_path):
    streams = [outlet(0, 60, labels=("C4", "M1")), outlet(0, 60, labels=("C4", "M1"), source_id="Muse-2")]
    recording = opened(tmp_path / "a.xdf", streams)
    assert [one.label for one in recording.channels] == ["C4#1", "M1#1", "C4#2", "M1#2"]
    assert any("'Muse', of 60 s, they are C4#2, M1#2" in one for one in recording.remarks)
    with pytest.raises(
        UsageError, match="ambiguous: #0 'C4#1', #2 'C4#2'; name it by its position, such as '#0'"
    ):
        pick(recording, "C4")
    for name in ("C4#2", "#2", "C4#2-M1#2", "#2-#3"):
        picked, info = pick(recording, name)
        assert [one.label for one in info.channels] == ["C4#2", "M1#2"]
        assert picked == [2, 3]
    with pytest.raises(
        UsageError, match="'C4#1-M1#2' cannot be computed: its channels are not sampled together"
    ):
        pick(recording, "#0-#3")


def test_another_rate_or_channels_are_another_stream(tmp_path):
    streams = [outlet(0, 60), outlet(70, 130, rate_hz=200.0), outlet(140, 200, labels=("AF8",))]
    recording = opened(tmp_path / "a.xdf", streams)
    assert [one.label for one in recording.channels] == ["AF7#1", "AF7#2", "AF8"]
    assert recording.rates_hz == (100.0, 200.0, 100.0)


def test_a_short_stream_does_not_come_before_the_night(tmp_path):
    """Nobody who names no channel means the 20 s of a test."""
    recording = opened(
        tmp_path / "a.xdf", [outlet(0, 20, name="Test", source_id="x"), outlet(0, 300, rate_hz=50.0)]
    )
    picked, info = pick(recording, None)
    assert info.rate_hz == 50
    assert recording.together(picked[0]) == (0,)


# -- damage --------------------------------------------------------------------------------------------------


def sound(recording, values, at, damaged):
    """Every sample but a few lies where it was; `damaged` bytes were written over."""
    shift = int(np.median(values - at))
    assert np.count_nonzero(np.abs(values - at - shift) > 3) <= 2 + damaged // 4
    return shift


@properties
@given(data=st.data(), stamped=st.booleans())
def test_any_damage_to_samples_costs_those_samples(tmp_path_factory, data, stamped):
    """Overwritten, cut out or put in: the rest lies where it was, and what is missing is said."""
    path = tmp_path_factory.getbasetemp() / "damaged.xdf"
    places = write_outlets(path, [outlet(0, 20, stamped=stamped)])
    whole = path.read_bytes()
    start, stop = data.draw(st.sampled_from(places[2:-2]))  # samples and boundaries
    at = data.draw(st.integers(start, stop - 1))
    piece, cut = data.draw(st.binary(max_size=12)), data.draw(st.integers(0, 60))
    overwritten = whole[:at] + piece + whole[at + (len(piece) if data.draw(st.booleans()) else cut) :]
    path.write_bytes(overwritten)
    recording, said = attempt(path)
    if recording is None:
        assert "\n" not in said
        return
    try:
        index, values, gaps = played(recording, "AF7")
    except RecordingError as error:
        said = str(error)
    if said:
        assert "\n" not in said
        return
    sound(recording, values, index, len(piece))
    missing = 2000 - values.size
    assert missing <= 250  # at most what lies between two boundaries
    assert missing <= 2 or recording.remarks
    assert sum(b - a for a, b in gaps) <= missing + 30


@properties
@given(cut=st.integers(1, 30_000), packed=st.booleans())
@example(cut=4096, packed=False)  # between two chunks
def test_a_file_that_was_cut_is_read_up_to_there(tmp_path_factory, cut, packed):
    path = tmp_path_factory.getbasetemp() / ("cut.xdf.gz" if packed else "cut.xdf")
    chunks = write_outlets(path, [outlet(0, 20)])
    data = gzip.compress(path.read_bytes()) if packed else path.read_bytes()
    between = not packed and len(data) - cut in {stop for _, stop in chunks}  # as if no more had been written
    path.write_bytes(data[:-cut])
    recording, said = attempt(path)
    if recording is None:
        assert "\n" not in said
        assert re.search("no stream|no whole XDF|empty", said)
        return
    index, values, gaps = played(recording, "AF7")
    np.testing.assert_array_equal(values, index)
    assert gaps == []
    assert values.size == 2000 or between or recording.remarks


@properties
@given(data=st.data(), piece=st.binary(min_size=1, max_size=8))
def test_any_damage_to_headers_is_said_or_costs_nothing(tmp_path_factory, data, piece):
    path = tmp_path_factory.getbasetemp() / "header.xdf"
    other = outlet(0, 8, labels=("C4",), name="Other", source_id="o")
    places = write_outlets(path, [outlet(0, 8), other])
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, places[2][1] - 1))
    rate = raw.index(b"<nominal_srate>")
    raw[at : at + len(piece)] = piece
    path.write_bytes(raw)
    if rate <= at + 8 and at < rate + 40:  # another rate is what its times tell
        return
    recording, said = attempt(path)
    assert "\n" not in said
    if recording is not None:
        assert len(recording.channels) == 2 or recording.remarks
        for channel in recording.channels:
            index, values, _ = played(recording, channel.label)
            shift = int(values[0])
            np.testing.assert_array_equal(values, index + shift)
            assert shift == 0 or (shift == 50 and recording.remarks)


def attempt(path):
    """A recording, or what is said instead."""
    try:
        return open_recording(path), ""
    except SleepstreamError as error:
        return None, str(error)


def test_samples_whose_times_are_damaged_are_left_out(tmp_path):
    one = outlet(0, 60)
    times = one.times.copy()
    times[[700, 2000]] = [np.nan, 1e12]
    times[4000] = -5.0
    recording = opened(tmp_path / "a.xdf", [Outlet(times, one.samples)])
    at, values, gaps = played(recording, "AF7")
    np.testing.assert_array_equal(at, values)
    assert gaps == [(700, 701), (2000, 2001), (4000, 4001)]
    assert recording.remarks == ["3 samples of stream 'Muse' are left out: their times are damaged"]


def test_what_lies_behind_a_lost_chunk_and_has_no_time_is_lost_too(tmp_path):
    """Pyxdf alone gives it the times of what was lost."""
    path = tmp_path / "a.xdf"
    one = outlet(0, 20, stamped=False)
    places = write_outlets(path, [one])
    raw = bytearray(path.read_bytes())
    start, _ = places[4]
    raw[start + 16 + 9 + 4] = 0xFF  # a flag that is neither 0 nor 8
    path.write_bytes(raw)
    recording = open_recording(path)
    index, values, gaps = played(recording, "AF7")
    np.testing.assert_array_equal(values, index)
    assert gaps == [(100, 150)] or sum(b - a for a, b in gaps) == 50
    assert recording.remarks == ["1 damaged chunks left out: samples"]


def test_samples_are_pyxdf_s(tmp_path):
    path = tmp_path / "a.xdf"
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 20, (2, 3000)).astype(np.float32)
    write_outlets(path, [Outlet(1000 + np.arange(3000) / 100, samples, labels=("AF7", "AF8"))])
    streams, _ = pyxdf.load_xdf(str(path), dejitter_timestamps=False)
    recording = open_recording(path)
    _, values, _ = played(recording, "AF8")
    np.testing.assert_array_equal(values, streams[0]["time_series"][:, 1])


@pytest.mark.parametrize("declared", [b"50 ", b"102", b"110", b"200", b"900"])
def test_a_declared_rate_that_the_times_contradict_is_said(tmp_path, declared):
    path = tmp_path / "a.xdf"
    write_outlets(path, [outlet(0, 90)])
    path.write_bytes(path.read_bytes().replace(b"<nominal_srate>100", b"<nominal_srate>" + declared))
    recording = open_recording(path)
    index, values, _ = played(recording, "AF7")
    np.testing.assert_array_equal(values, index)
    assert re.search("its times show 100 Hz|times run . times too fast", recording.remarks[0])
