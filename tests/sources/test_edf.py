"""EDF and BDF: one parser for what is checked and what is read; damage costs no more than itself."""

import re
import struct
import warnings

import edfio
import mne
import numpy as np
import pyedflib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.errors import SleepstreamError
from streamer.messages import Chunk, Gap
from streamer.sources.edf_header import number_of
from streamer.sources.edf_times import read_annotations
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick
from tests.recording_files import eeg, patched, signal, write_bdf, write_edf, write_edf_d

LABELS = ("C4-M1", "BODY TEMP")
RANGES = {"physical minimum": 104, "physical maximum": 112, "digital minimum": 120, "digital maximum": 128}
properties = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)


def two(path):
    """C4-M1 at 100 Hz, and a temperature at 1 Hz."""
    return write_edf(path, [signal(eeg(10), 100, LABELS[0]), signal(np.arange(10.0), 1, LABELS[1], "C")])


def field_at(name, number, count=2):
    """Where a signal's range stands in the header of a file of `count` signals."""
    return 256 + RANGES[name] * count + number * 8


def played(path, label):
    """A channel's samples, its gaps, and what was said."""
    recording = open_recording(path)
    labels = [channel.label for channel in recording.channels]
    items = list(recording.items([labels.index(label)]))
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]
    chunks = [item.samples[0] for item in items if isinstance(item, Chunk)]
    gaps = [(item.start, item.stop) for item in items if isinstance(item, Gap)]
    return np.concatenate(chunks), gaps, recording.remarks


def by_mne(path, label):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.read_raw_edf(path, verbose="error", encoding="latin1")
    return raw.get_data(picks=[label])[0] * 1e6


# -- one parser ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("digital minimum", b"-32767.0"),
        ("digital minimum", b"-3.277e4"),
        ("digital maximum", b"32767.0"),
        ("digital maximum", b"1e5"),
        ("digital maximum", b"+32767"),
        ("physical minimum", b"-5e2"),
        ("physical minimum", b"-500,25"),
        ("physical maximum", b"500\0\0\0"),
        ("physical maximum", b"  500"),
        ("physical maximum", b".5"),
    ],
)
def test_a_range_in_any_spelling_means_what_it_means_to_mne(tmp_path, name, spelling):
    path = patched(two(tmp_path / "a.edf"), field_at(name, 0), spelling.ljust(8))
    samples, _, remarks = played(path, LABELS[0])
    np.testing.assert_allclose(samples, by_mne(path, LABELS[0]), rtol=1e-9, atol=1e-9)
    assert remarks == []


NONSENSE = [
    *(b"nan", b"NaN", b"inf", b"-inf", b"1e999", b"", b"\0" * 8, b"?", b"--1", b"1 2", b"1_000", b"0x10"),
    *(b"1,2,3", b"1.000,5", "٣٢".encode(), "３２".encode(), b"12\x0034", b"1e", b"e5", b"1e5.5", b"-"),
]


@pytest.mark.parametrize("spelling", NONSENSE)
@pytest.mark.parametrize("name", RANGES)
def test_a_range_that_is_no_number_costs_its_own_signal_and_no_other(tmp_path, name, spelling):
    path = two(tmp_path / "a.edf")
    whole, _, _ = played(path, LABELS[0])
    patched(path, field_at(name, 1), spelling.ljust(8))
    samples, _, remarks = played(path, LABELS[0])
    np.testing.assert_array_equal(samples, whole)
    assert remarks == [one for one in remarks if "signal 2 'BODY TEMP' is left out: its range" in one] != []
    with pytest.raises(SleepstreamError, match=r"no channel 'BODY TEMP'.*signal 2 'BODY TEMP' is left out"):
        pick(open_recording(path), "BODY TEMP")


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [
        (b"1", b"1", b"0", b"9"),
        (b"0", b"9", b"5", b"5"),
        (b"0", b"1e-323", b"-9", b"9"),
        (b"-1e308", b"1e308", b"0", b"1"),
    ],
)
def test_a_range_that_is_no_scale_costs_its_signal(tmp_path, low, high, least, most):
    path = two(tmp_path / "a.edf")
    for name, spelling in zip(RANGES, (low, high, least, most), strict=True):
        patched(path, field_at(name, 1), spelling.ljust(8))
    _, _, remarks = played(path, LABELS[0])
    assert re.search(r"signal 2 'BODY TEMP' is left out: its range .* is not a scale", remarks[0])


@pytest.mark.parametrize("reversed_", ["physical", "digital"])
def test_a_reversed_range_turns_the_signal_over(tmp_path, reversed_):
    path = two(tmp_path / "a.edf")
    whole, _, _ = played(path, LABELS[0])
    low, high = (b"500", b"-500") if reversed_ == "physical" else (b"32767", b"-32768")
    patched(path, field_at(f"{reversed_} minimum", 0), low.ljust(8))
    patched(path, field_at(f"{reversed_} maximum", 0), high.ljust(8))
    samples, _, _ = played(path, LABELS[0])
    np.testing.assert_allclose(samples, -whole, atol=0.05)
    np.testing.assert_allclose(samples, by_mne(path, LABELS[0]), atol=1e-9)


def test_nuls_are_blanks_wherever_they_pad(tmp_path):
    path = two(tmp_path / "a.edf")
    whole, _, _ = played(path, LABELS[0])
    data = bytearray(path.read_bytes())
    head = bytes(data[: 256 * 3])
    data[: len(head)] = re.sub(rb" +(?= |$)", lambda blanks: b"\0" * len(blanks[0]), head)
    path.write_bytes(data)
    np.testing.assert_array_equal(played(path, LABELS[0])[0], whole)


@given(st.text(alphabet="0123456789+-.,eE \0_xnaif", max_size=8).map(str.encode))
def test_a_number_is_what_a_strict_reader_takes_for_one(field):
    text = field.decode().strip(" \0").replace(",", ".")
    strict = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII)
    value = number_of(field)
    assert (value is not None) == (strict is not None and np.isfinite(float(text)))
    assert value is None or value == float(text)


# -- any damage ----------------------------------------------------------------------------------------------


def reference(data, number):
    """A signal by the format's own words, with none of our code."""
    text = lambda field: field.strip(b" \0").decode("latin-1")  # noqa: E731
    count = int(float(text(data[252:256])))
    column = lambda at, size: [data[256 + at * count + n * size :][:size] for n in range(count)]  # noqa: E731
    sizes = [int(float(text(one))) for one in column(216, 8)]
    low, high, least, most = (
        [text(one).replace(",", ".") for one in column(at, 8)][number] for at in RANGES.values()
    )
    records = np.frombuffer(data[256 * (count + 1) :], "<i2").reshape(-1, sum(sizes))
    begin = sum(sizes[:number])
    digital = records[:, begin : begin + sizes[number]].ravel()
    return float(low) + (digital - float(least)) * (float(high) - float(low)) / (float(most) - float(least))


@properties
@given(at=st.integers(0, 256 * 3 - 1), byte=st.integers(0, 255))
def test_any_byte_of_the_header_may_be_wrong(tmp_path_factory, at, byte):
    """What is read is what the header now says, or nothing is."""
    path = two(tmp_path_factory.getbasetemp() / "byte.edf")
    data = bytearray(path.read_bytes())
    data[at] = byte
    path.write_bytes(data)
    recording, said = opened(path)
    if recording is None:
        assert "\n" not in said
        return
    left_out = [int(one.split()[1]) - 1 for one in recording.remarks]
    signals = [number for number in range(2) if number not in left_out]
    assert len(recording.channels) == len(signals)
    for channel, number in zip(recording.channels, signals, strict=True):
        samples, _, _ = played(path, channel.label)
        np.testing.assert_allclose(samples, reference(bytes(data), number), rtol=1e-6, atol=1e-6)


def opened(path):
    """A recording, or what is said instead."""
    try:
        return open_recording(path), ""
    except SleepstreamError as error:
        return None, str(error)


@properties
@given(cut=st.integers(1, 2000), open_ended=st.booleans())
def test_a_file_that_was_cut_is_refused_or_read_up_to_there(tmp_path_factory, cut, open_ended):
    path = two(tmp_path_factory.getbasetemp() / "cut.edf")
    whole, _, _ = played(path, LABELS[0])
    if open_ended:
        patched(path, 236, b"-1      ")
    path.write_bytes(path.read_bytes()[:-cut])
    recording, said = opened(path)
    if recording is None:
        assert re.search("cut short|no samples", said)
        return
    samples, _, _ = played(path, LABELS[0])
    assert open_ended
    assert samples.size == (10 - -(-cut // 202)) * 100
    np.testing.assert_array_equal(samples, whole[: samples.size])


# -- annotations and times -----------------------------------------------------------------------------------


def annotated(path, fill):
    """An EDF+C whose annotation signal is filled with something else in every record."""
    write_edf_d(path, [signal(eeg(10), 100, LABELS[0])], range(10))
    data = bytearray(patched(path, 192, b"EDF+C").read_bytes())
    size = int(data[256 + 216 * 2 + 8 :][:8]) * 2
    for record in range(10):
        stop = 768 + (record + 1) * (200 + size)
        data[stop - size : stop] = fill(record).ljust(size, b"\0")[:size]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "fill", [b"", b" " * 99, b"\xff" * 99, b"+", b"+1e9\x14", b"\x14\x14\0", b"+0\x1430 s"]
)
def test_an_annotation_signal_that_says_nothing_stops_no_night(tmp_path, fill):
    path = annotated(tmp_path / "a.edf", lambda _: fill)
    samples, gaps, _ = played(path, LABELS[0])
    np.testing.assert_array_equal(samples, signal(eeg(10), 100).data)
    assert gaps == []
    assert read_annotations(path) == []


def test_annotations_of_records_without_a_time_are_read_all_the_same(tmp_path):
    told = {3: b"+3\x14\x14\0+3.5\x1530\x14Sleep stage W\x14\0", 5: b"+6\x14lights\x14\0"}
    path = annotated(tmp_path / "a.edf", lambda record: told.get(record, b""))
    assert read_annotations(path) == [(3.5, 30.0, "Sleep stage W"), (6.0, None, "lights")]


@properties
@given(
    steps=st.lists(st.sampled_from([1.0, 1.0, 1.0, 4.0, 30.0]), min_size=5, max_size=12),
    lost=st.sets(st.integers(0, 12), max_size=5),
    fill=st.sampled_from([b"", b"\xff", b"+3\x1530\x14Sleep stage W\x14\0", b"+x\x14\x14\0"]),
)
def test_records_of_an_edf_d_that_do_not_say_when(tmp_path_factory, steps, lost, fill):
    """They are where their neighbours leave room for them and nothing else, or they are left out."""
    onsets = np.cumsum(steps) - steps[0]
    values = np.repeat(onsets, 100) + np.tile(np.arange(100) / 100, len(steps))  # each says when it was taken
    path = write_edf_d(
        tmp_path_factory.getbasetemp() / "when.edf", [signal(values, 100, LABELS[0])], onsets.tolist()
    )
    data = bytearray(path.read_bytes())
    size = int(data[256 + 216 * 2 + 8 :][:8]) * 2
    lost = {record for record in lost if record < len(steps)}
    for record in lost:
        stop = 768 + (record + 1) * (200 + size)
        data[stop - size : stop] = fill.ljust(size, b"\0")
    path.write_bytes(data)
    samples, gaps, remarks = played(path, LABELS[0])
    known = [record for record in range(len(steps)) if record not in lost]
    if not known:
        assert remarks == [
            "the file says that it was interrupted, but not when; it is read without interruptions"
        ]
        return
    at = np.concatenate([[], *(np.arange(a, b) for a, b in between(gaps, samples.size))])
    np.testing.assert_allclose(samples, onsets[known[0]] + at / 100, atol=0.02)
    assert samples.size % 100 == 0
    assert (samples.size < values.size) == any("do not say when they begin" in one for one in remarks)
    assert samples.size >= 100 * len(known)


def between(gaps, count):
    """The stretches of indices that hold samples."""
    at = 0
    for start, stop in gaps:
        yield at, start
        count -= start - at
        at = stop
    yield at, at + count


# -- oracles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_samples_are_those_of_other_readers(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "edf":
        write_edf(path, [signal(eeg(130, 256), 256, "Cz"), signal(eeg(130, 50, 1), 50, "EMG")])
        library = edfio.read_edf(path).signals[0].data
    else:
        library = edfio.read_bdf(write_bdf(path, eeg(130, 256), 256)).signals[0].data
    samples, _, _ = played(path, "Cz")
    np.testing.assert_array_equal(samples, library)
    with pyedflib.EdfReader(str(path)) as reader:
        np.testing.assert_allclose(samples, reader.readSignal(0), atol=1e-9)
    raw = mne.io.read_raw_bdf if kind == "bdf" else mne.io.read_raw_edf
    np.testing.assert_allclose(
        samples, raw(path, include=["Cz"], verbose="error").get_data()[0] * 1e6, atol=1e-9
    )


def test_the_largest_and_smallest_values_of_24_bits(tmp_path):
    path = write_bdf(tmp_path / "a.bdf", eeg(1, 100), 100)
    data = bytearray(path.read_bytes())
    values = [0, 1, -1, 8388607, -8388608, 255, 256, -256, 65536]
    for place, value in enumerate(values):
        data[512 + 3 * place : 515 + 3 * place] = struct.pack("<i", value)[:3]
    path.write_bytes(data)
    samples, _, _ = played(path, "Cz")
    np.testing.assert_array_equal(samples, edfio.read_bdf(path).signals[0].data)
