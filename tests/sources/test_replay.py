"""Recordings of every format as a live source, and every way in which they can be bad."""

import asyncio
import datetime
import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.channels import choose
from streamer.errors import RecordingError, SignalError, UsageError
from streamer.messages import Channel, Chunk, Gap
from streamer.sources.files import make_distinct
from streamer.sources.recordings import open_recording
from streamer.sources.replay import ReplaySource, pick, single
from streamer.sources.settings import ReplaySettings
from tests import recording_files as files
from tests.recording_files import eeg, patched, signal, write_bdf, write_edf, write_edf_d, write_xdf


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self):
        self.now = 50.0
        self.slept = []

    def monotonic(self):
        return self.now

    def wall(self):
        return 1e9 + self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def play(path, channel=None, **settings):
    """All items of a recording and its info."""

    async def main():
        settings.setdefault("speed", "max")
        async with ReplaySource(ReplaySettings(path=path, **settings), channel, Clock()) as source:
            return [item async for item in source], source.info

    return asyncio.run(asyncio.wait_for(main(), 60))


def samples_of(items):
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]
    return np.concatenate([item.samples for item in items if isinstance(item, Chunk)], axis=1)


def gaps_of(items):
    return [(item.start, item.stop) for item in items if isinstance(item, Gap)]


@pytest.fixture
def edf(tmp_path):
    return write_edf(tmp_path / "a.edf", [signal(eeg(100), 100)])


def test_edf_gives_its_physical_values(tmp_path):
    one = signal(eeg(100), 100)
    items, info = play(write_edf(tmp_path / "a.edf", [one], starttime=datetime.time(1, 2, 3)))
    np.testing.assert_array_equal(samples_of(items), one.data[None])
    assert (info.name, info.rate_hz, info.channels) == ("a", 100.0, (Channel("EEG C3-A1", "uV"),))
    assert info.duration_s == 100
    assert info.started == datetime.datetime(1985, 1, 1, 1, 2, 3, tzinfo=datetime.UTC).timestamp()


def test_a_position_goes_on_meaning_the_channel_of_the_file(tmp_path):
    """The stream leaves out what is sampled otherwise; session, report and export find the same channel."""
    signals = [signal(eeg(10, 50), 50, "Resp"), signal(eeg(10), 100, "C3-M2"), signal(eeg(10), 100, "C4-M1")]
    path = write_edf(tmp_path / "a.edf", signals)
    _, info = play(path, "#2")
    assert [channel.position for channel in info.channels] == [1, 2]
    assert choose(info.channels, "#2").label == "C4-M1"
    assert choose(info.channels, "#2-#1").label == "C4-M1-C3-M2"
    with pytest.raises(UsageError, match="no channel '#0'"):
        choose(info.channels, "#0")


LABELS = st.sampled_from(
    ["C4", "c4", "EEG C4", "C4#1", "C4-M1", "M1", "M1-C4", "C4-M1-C4", "#0", "#3", "", "a-"]
)
ADVISED = re.compile(r"such as '(#\d+)'|name one of: (.+?) \(")


@given(
    labels=st.lists(st.tuples(LABELS, st.sampled_from([100.0, 200.0])), min_size=1, max_size=7),
    wanted=st.none() | LABELS.filter(bool) | st.sampled_from(["C4#2", "#1", "C4-M1"]),
)
def test_whoever_follows_the_advice_of_an_error_gets_on(labels, wanted):
    channels = make_distinct((label, "uV") for label, _ in labels)
    recording = Named(channels, tuple(rate for _, rate in labels))
    assert len({channel.label for channel in channels}) == len(channels)
    for index, channel in enumerate(channels):  # each can be named, by its label or at least by its position
        for name in (channel.label, f"#{index}"):
            picked, info = pick(recording, name)
            found = choose(info.channels, name)
            assert picked[found.plus] == index
            assert found.minus is None
    asked = [wanted]
    while asked[-1] not in asked[:-1]:
        said = refused(recording, asked[-1])
        advice = ADVISED.search(said)
        if advice is None:
            assert not said or re.search("no channel|no difference|use positions", said)
            return
        asked.append(advice[1] or advice[2])
    raise AssertionError(f"the advice went round: {asked}")


def refused(recording, wanted):
    """What is said of a channel that is asked for; nothing where it can be staged."""
    try:
        _, info = pick(recording, wanted)
    except UsageError as error:
        return str(error)
    choose(info.channels, wanted)
    return ""


class Named:
    """A recording of which only the labels and rates matter."""

    name, started, duration_s = "a", 0.0, 1.0

    def __init__(self, channels, rates_hz):
        self.channels, self.rates_hz, self.remarks = channels, rates_hz, []

    def together(self, index):
        return tuple(n for n, rate in enumerate(self.rates_hz) if rate == self.rates_hz[index])


def test_equal_labels_of_several_rates_are_told_apart_and_both_can_be_staged(tmp_path):
    signals = [signal(eeg(10), 100, "EEG"), signal(eeg(10, 200, 1), 200, "EEG")]
    path = write_edf(tmp_path / "a.edf", signals)
    with pytest.raises(UsageError, match="ambiguous: #0 'EEG#1', #1 'EEG#2'; name it by its position"):
        play(path, "EEG")
    for name in ("EEG#2", "#1"):
        items, info = play(path, name)
        assert [channel.label for channel in info.channels] == ["EEG#2"]
        np.testing.assert_array_equal(samples_of(items), signals[1].data[None])


def test_only_channels_of_the_same_rate_are_streamed(tmp_path):
    signals = [signal(eeg(20), 100, "ECG"), signal(eeg(20, 200), 200, "C4"), signal(eeg(20, 200), 200, "M1")]
    path = write_edf(tmp_path / "a.edf", signals)
    items, info = play(path)
    assert [channel.label for channel in info.channels] == ["C4", "M1"]
    np.testing.assert_array_equal(samples_of(items), [signals[1].data, signals[2].data])
    assert play(path, "ecg")[1].channels == (Channel("ECG", "uV"),)


def test_bdf(tmp_path):
    samples = eeg(130, 256)
    items, info = play(write_bdf(tmp_path / "a.bdf", samples, 256))
    np.testing.assert_allclose(samples_of(items)[0], samples, atol=1e-4)
    assert info.rate_hz == 256


@pytest.mark.parametrize("onset", [b"+99999999", b"+999999999999999999999", b"+90000"])
def test_an_edf_d_that_leaps_by_days_is_refused(tmp_path, onset):
    """It would be a gap of years, which the pipeline would go through epoch by epoch."""
    path = write_edf_d(tmp_path / "a.edf", [signal(eeg(4), 100)], [0, 1, 7, 8])
    data = bytearray(path.read_bytes())
    new = onset + b"\x14\x14\0"
    at = data.rindex(b"+8\x14\x14\0")
    data[at : at + len(new)] = new
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"record 4 of 4 starts at .* more than a day after"):
        play(path)


def test_edf_d_has_gaps_where_its_records_jump(tmp_path):
    one = signal(eeg(6), 100)
    path = write_edf_d(tmp_path / "a.edf", [one], [0.5, 1.5, 4.5, 5.5, 60.5, 61.51])
    items, info = play(path)
    assert gaps_of(items) == [(200, 400), (600, 6000), (6100, 6101)]
    np.testing.assert_array_equal(samples_of(items), one.data[None])
    assert info.duration_s == pytest.approx(62.01)


def test_what_is_still_being_written_is_read_as_far_as_it_goes(edf):
    patched(edf, 236, b"-1      ")
    edf.write_bytes(edf.read_bytes()[:-50])
    assert samples_of(play(edf)[0]).shape == (1, 9900)


@pytest.mark.parametrize("mu", [b"\xb5V", "µV".encode()])
def test_labels_and_units_in_any_encoding(edf, mu):
    patched(edf, 256, "Cz Impédan".encode())
    patched(edf, 256 + 96, mu.ljust(8))
    assert play(edf, "CZ IMPÉDAN")[1].channels == (Channel("Cz Impédan", "µV"),)
    patched(edf, 256, "C3 Impédance ééé".encode()[:16])  # cut within a character
    assert play(edf, "#0")[1].channels[0].label.startswith("C3 Impédance")


@pytest.mark.parametrize(
    ("recording", "date", "started"),
    [
        (b"Startdate 06-FEB-2018 X X X", b"06.02.18", datetime.datetime(2018, 2, 6)),
        (b"Startdate X X X X", b"01.01.85", datetime.datetime(1985, 1, 1)),
        (b"anything", b"31.12.84", datetime.datetime(2084, 12, 31)),
        (b"anything", b"99.99.99", datetime.datetime(1985, 1, 1)),
        (b"\xff\xfe", b"        ", datetime.datetime(1985, 1, 1)),
    ],
)
def test_dates_as_they_come(edf, recording, date, started):
    patched(edf, 88, recording.ljust(80))
    patched(edf, 168, date)
    assert play(edf)[1].started == started.replace(tzinfo=datetime.UTC).timestamp()


def test_xdf_with_a_gap_and_clock_offsets(tmp_path):
    k = np.r_[0:3000, 4000:6000]
    rows = np.stack([eeg(20, 250), eeg(20, 250, 1)])
    path = write_xdf(tmp_path / "a.xdf", 1000 + k / 250, rows, 250, ["AF7", "TP9"], offset_s=7.0)
    items, info = play(path, "af7-tp9")
    assert gaps_of(items) == [(3000, 4000)]
    np.testing.assert_array_equal(samples_of(items), rows)
    assert info.channels == (Channel("AF7", "microvolts"), Channel("TP9", "microvolts"))
    packed = tmp_path / "a.xdf.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert gaps_of(play(packed)[0]) == [(3000, 4000)]


def _csv(tmp_path, header, rows, mark=","):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *(mark.join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_with_times_and_a_gap(tmp_path, mark):
    k = np.r_[0:2000, 2500:4000]
    rows = [(1.7e9 + n / 256, 0.5 * n, -n) for n in k.tolist()]
    path = _csv(tmp_path, mark.join(["timestamp", "AF7 (uV)", "note"]), rows, mark)
    items, info = play(path)
    assert (info.rate_hz, info.started, info.channels[0]) == (256.0, 1.7e9, Channel("AF7", "uV"))
    assert gaps_of(items) == [(2000, 2500)]
    np.testing.assert_array_equal(samples_of(items), [0.5 * k, -k])


def test_csv_with_iso_times_and_empty_cells(tmp_path):
    begun = datetime.datetime(2024, 3, 1, 23, 0, tzinfo=datetime.UTC)
    rows = [
        ((begun + datetime.timedelta(seconds=n / 100)).isoformat(), n, "" if n == 7 else n)
        for n in range(300)
    ]
    items, info = play(_csv(tmp_path, "time,Cz,C3", rows), "Cz")
    assert (info.rate_hz, info.started) == (100.0, begun.timestamp())
    assert np.isnan(samples_of(items)[1, 7])
    assert np.isnan(samples_of(items)).sum() == 1


def test_csv_without_times_needs_a_rate(tmp_path):
    path = _csv(tmp_path, "Cz,C3", [(n, 2 * n) for n in range(500)])
    items, info = play(path, rate_hz=128)
    assert info.rate_hz == 128
    np.testing.assert_array_equal(samples_of(items)[1], 2 * np.arange(500))
    with pytest.raises(UsageError, match="rate_hz"):
        play(path)


def test_brainflow_rows_are_named_by_number(tmp_path):
    path = tmp_path / "a.csv"
    k = np.arange(1000)
    rows = np.c_[k % 256, 1.5 * k, 2 * k, 3 * k, 4 * k, 0 * k, 1.7e9 + k / 256, 0 * k]
    np.savetxt(path, rows, fmt="%.6f", delimiter="\t")
    items, info = play(path, "1")
    assert (info.rate_hz, info.channels[1], len(info.channels)) == (256.0, Channel("1", "uV"), 8)
    np.testing.assert_array_equal(samples_of(items)[1], 1.5 * k)
    with pytest.raises(UsageError, match=r"name one of: 1 .256 Hz, uV."):
        play(path)


@pytest.mark.slow
@given(chunk_s=st.sampled_from([0.01, 0.1, 0.37, 1.0, 7.7, 60.0]), speed=st.sampled_from(["max", 1.0, 1e4]))
def test_the_result_does_not_depend_on_chunks_or_speed(tmp_path_factory, chunk_s, speed):
    path = tmp_path_factory.getbasetemp() / "chunks.edf"
    one = signal(eeg(130), 100)
    if not path.exists():
        write_edf_d(path, [one], [n + 5 * (n > 30) + 9 * (n > 99) for n in range(130)])
    items, _ = play(path, chunk_s=chunk_s, speed=speed)
    assert gaps_of(items) == [(3100, 3600), (10500, 11400)]
    np.testing.assert_array_equal(samples_of(items), one.data[None])
    if speed != "max":
        assert max(item.stop - item.start for item in items if isinstance(item, Chunk)) <= max(
            1, chunk_s * 100
        )


def test_pace_is_absolute_and_arrivals_are_stamped(edf):
    async def main():
        clock = Clock()
        async with ReplaySource(ReplaySettings(path=edf, speed=2.0), None, clock) as source:
            async for item in source:
                assert item.arrived == clock.now == pytest.approx(50 + item.stop / 200)
                clock.now += 0.2  # a slow reader is made up for
        return clock

    clock = asyncio.run(main())
    assert max(clock.slept[1:]) == pytest.approx(0.3)
    assert clock.now == pytest.approx(50 + 50 + 0.2)


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:-150])


BAD_EDF = {
    "98 *whole ones": lambda path: path.write_bytes(path.read_bytes()[:-350]),
    "cut short within its header": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "is cut short: its header promises 100 records of 1 s, it holds 99": _cut_short,
    "has no samples": lambda path: patched(path, 236, b"-1      ").write_bytes(path.read_bytes()[:512]),
    "counts 90 records, it holds 100": lambda path: patched(path, 236, b"90      "),
    "gives 'abc' as number of records": lambda path: patched(path, 236, b"abc     "),
    "gives '-5' as number of records": lambda path: patched(path, 236, b"-5      "),
    "gives '0' as the length of a record": lambda path: patched(path, 244, b"0       "),
    "gives 'nan' as the length": lambda path: patched(path, 244, b"nan     "),
    "as number of signals": lambda path: patched(path, 252, b"x   "),
    "disagree": lambda path: patched(path, 184, b"1024    "),
    "signal 1 'EEG C3-A1' is left out: its range is not a number: '.'": lambda path: patched(
        path, 256 + 104, b"?       "
    ),
    "samples per record of signal 1": lambda path: patched(path, 256 + 216, b"-1      "),
    "not an EDF or BDF file but a zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(1000)),
    "not an EDF or BDF file but text": lambda path: path.write_text("hello " * 100),
    "not an EDF or BDF file; give": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "is empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("says", BAD_EDF)
def test_a_bad_edf_is_one_line(edf, says):
    BAD_EDF[says](edf)
    with pytest.raises(RecordingError, match=says) as caught:
        play(edf)
    assert "\n" not in str(caught.value)


def test_an_edf_of_annotations_only_is_no_recording(tmp_path):
    path = tmp_path / "a.edf"
    files.edfio.Edf([], annotations=[files.edfio.EdfAnnotation(0, 30, "Sleep stage W")]).write(path)
    with pytest.raises(RecordingError, match="no signals, only annotations"):
        play(path)


def test_records_that_go_back_in_time_and_not_to_where_they_were(tmp_path):
    path = write_edf_d(tmp_path / "a.edf", [signal(eeg(3), 100)], [0, 5, 3])
    with pytest.raises(RecordingError, match="record 3 of 3 starts at 3 s"):
        play(path)


def test_what_a_recording_has_to_say_reaches_the_stream(tmp_path):
    """At once what its head shows, at the end what was left out; each once."""
    rows = [f"{n / 100:.2f},{n},note" for n in range(500)]
    path = _csv(tmp_path, "time,Cz,text", [])
    path.write_text("\n".join(["time,Cz,text", *rows[:200], "mess", *rows[200:]]))

    async def main():
        async with ReplaySource(ReplaySettings(path=path, speed="max"), None, Clock()) as source:
            begun = list(source.remarks)
            items = [item async for item in source]
            return begun, list(source.remarks), items

    begun, told, items = asyncio.run(main())
    assert begun == ["columns left out because they do not hold numbers: 'text'"]
    assert told == [
        *begun,
        "rows left out because they are not whole: 1, the first in line 202",
        "its last line has no end, as if it had been cut: its last cell counts as lost",
    ]
    np.testing.assert_array_equal(samples_of(items)[0], np.arange(500))


def test_missing_and_folder(tmp_path):
    with pytest.raises(RecordingError, match="No such file"):
        play(tmp_path / "none.edf")
    with pytest.raises(RecordingError, match="is a folder"):
        play(tmp_path)


def test_an_unknown_kind(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(500))
    with pytest.raises(RecordingError, match="give an EDF, BDF, XDF or CSV"):
        play(path)


@pytest.mark.parametrize(
    ("channel", "error", "says"),
    [
        ("Cx", UsageError, "no channel 'Cx'; there are: "),
        ("Cz", UsageError, "ambiguous"),
        ("slow", SignalError, "channel 'slow' of a has 10 Hz; .* 50 to 1024"),
        ("fast", SignalError, "2000 Hz"),
        ("slow-fast", UsageError, "equal rate"),
    ],
)
def test_bad_channels(tmp_path, channel, error, says):
    signals = [
        signal(eeg(2), 100, "EEG Cz"),
        signal(eeg(2), 100, "eeg cz"),
        signal(eeg(2, 10), 10, "slow"),
        signal(eeg(2, 2000), 2000, "fast"),
    ]
    with pytest.raises(error, match=says):
        play(write_edf(tmp_path / "a.edf", signals), channel)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("time,Cz\n0,oops\n0.01,oops\n0.02,3\n", RecordingError, "has no column of numbers"),
        ("time,Cz\n0,1\n0.01,2,9\n", RecordingError, "line 3: 3 cells, the first line has 2"),
        (
            "time,Cz\n" + "".join(f"{t},1\n{t}.01,1\n" for t in (9, 8, 7, 6, 5)),
            RecordingError,
            "line 10: its time is before",
        ),
        ("time,Cz\nnan,1\n0.01,1\nx,2\n", RecordingError, "most rows have no time"),
        ("time,Cz\n0,1\n0,1\n", RecordingError, "times do not increase"),
        ("time,Cz\n", RecordingError, "has no samples"),
        ("\n\n", RecordingError, "has no samples"),
        ("time\n1\n2\n", RecordingError, "no channels"),
        ("time,Cz\n0,1\n1,1\n2,1\n", UsageError, "as numbers of samples do; say its rate"),
        ("time (s),Cz\n0,1\n1,1\n2,1\n", SignalError, "has 1 Hz"),
        ("1,2\n3,4\n", RecordingError, "add a header line"),
        ("1,2,3,4,5\n3,4,5,6,7\n", RecordingError, "add a header line"),
    ],
)
def test_a_bad_csv_is_one_line(tmp_path, text, error, says):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(error, match=says) as caught:
        play(path, "Cz" if "Cz" in text else None)
    assert "\n" not in str(caught.value)


def test_rate_has_no_place_where_the_file_states_it(edf):
    with pytest.raises(UsageError, match="states its own rate"):
        play(edf, rate_hz=100)


def test_a_bad_xdf(tmp_path):
    path = tmp_path / "a.xdf"
    path.write_bytes(b"not an xdf")
    with pytest.raises(RecordingError, match="not an XDF"):
        play(path)
    path.write_bytes(b"XDF:" + bytes(range(200)))
    with pytest.raises(RecordingError):
        play(path)


@pytest.mark.parametrize(
    ("channels", "labels", "wanted"),
    [
        ([], ["EEG Fpz-Cz"], "#0"),
        (["C9", "eog"], ["EOG"], "#0"),  # the first that there is
        (["C4-M1"], ["M1", "C4"], "#1-#0"),  # in file order, and called accordingly
        (["#3"], ["EOG"], "#0"),  # a position in the file, of which only this channel is streamed
    ],
)
def test_one_derivation_streams_only_its_own_channels(tmp_path, channels, labels, wanted):
    names = ["M1", "EEG Fpz-Cz", "C4", "EOG"]
    slow = signal(eeg(60, 1), 1, "Temp rectal", "DegC")
    made = [signal(eeg(60, 100, number), 100, name) for number, name in enumerate(names)]
    recording = open_recording(write_edf(tmp_path / "a.edf", [*made, slow]))
    picked, info, found = single(recording, channels)
    assert [channel.label for channel in info.channels] == labels
    assert [recording.channels[index].label for index in picked] == labels
    assert found == wanted


def test_a_difference_of_channels_that_are_not_sampled_together_is_refused(tmp_path):
    made = [signal(eeg(60, 100), 100, "C4"), signal(eeg(60, 200), 200, "M1")]
    with pytest.raises(UsageError, match="100 and 200 Hz"):
        single(open_recording(write_edf(tmp_path / "a.edf", made)), ["C4-M1"])


ENTRY = b"<channel><label>Fpz1</label><unit>microvolts</unit></channel>"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<version>1.0</version>", b"1.0"),
        (b"<label>Fpz1</label>", b"<label><a/></label>"),
        (ENTRY, b"Fpz1"),
        (b"<channels>" + ENTRY + b"</channels>", b"Fpz1"),
    ],
)
def test_an_xdf_whose_xml_has_another_shape_is_read(tmp_path, old, new):
    """What the fuzzer found; the file counts its bytes, so every length is kept."""
    path = write_xdf(tmp_path / "a.xdf", np.arange(500) / 100, np.zeros((1, 500)), 100, ["Fpz1"])
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new.ljust(len(old)), 1))
    items, info = play(path)
    assert samples_of(items).shape == (1, 500)
    assert len(info.channels) == 1


@pytest.mark.parametrize("rate", [b"inf", b"nan", b"-10"])
def test_an_xdf_without_a_rate_is_refused(tmp_path, rate):
    path = write_xdf(tmp_path / "a.xdf", np.arange(500) / 100, np.zeros((1, 500)), 100, ["Cz"])
    path.write_bytes(path.read_bytes().replace(b"<nominal_srate>100", b"<nominal_srate>" + rate))
    with pytest.raises(RecordingError, match="regular rate"):
        play(path)


def test_an_xdf_whose_names_or_compressed_bytes_are_damaged(tmp_path):
    path = write_xdf(tmp_path / "a.xdf", np.arange(500) / 100, np.zeros((1, 500)), 100, ["Cz"])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"<name>Muse</name>", b"<name><a/></name>"))
    with pytest.raises(RecordingError, match="not a complete XDF"):
        play(path)
    packed = bytearray(gzip.compress(data))
    packed[30] ^= 0xFF
    path = tmp_path / "a.xdf.gz"
    path.write_bytes(packed)
    with pytest.raises(RecordingError, match="not a complete XDF"):
        play(path)
