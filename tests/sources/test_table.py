"""CSV as people have it: every recorder's columns, every kind of time, and rows that were damaged."""

import datetime
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.errors import RecordingError, SignalError, SleepstreamError, UsageError
from streamer.messages import Channel, Chunk, Gap
from streamer.sources.cells import Times, number
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick

BEGUN = 1_704_146_400.0  # 1 January 2024, 22:00
properties = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)


def table(path, text, **asked):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_recording(path, asked.get("rate_hz"))


def written(header, rows, mark=","):
    return "\n".join([*header, *(mark.join(map(str, row)) for row in rows)]) + "\n"


def played(recording, label):
    """A channel's samples by their index, and the gaps."""
    labels = [channel.label for channel in recording.channels]
    items = list(recording.items([labels.index(label)]))
    assert [item.start for item in items] == [0, *(item.stop for item in items[:-1])]
    chunks = [item for item in items if isinstance(item, Chunk)]
    at = np.concatenate([np.arange(one.start, one.stop) for one in chunks])
    gaps = [(item.start, item.stop) for item in items if isinstance(item, Gap)]
    return at, np.concatenate([one.samples[0] for one in chunks]), gaps


# -- recorders -----------------------------------------------------------------------------------------------


def openbci(rows, lost=(), wrap=256, rate_hz=250):
    """OpenBCI's GUI, version 5: two channels of the row's number and its negative."""
    clock = datetime.datetime.fromtimestamp(BEGUN, datetime.UTC)
    for n in range(rows):
        if n not in lost:
            burst = BEGUN + n // 10 * 10 / rate_hz  # as packets come to the host
            shown = (clock + datetime.timedelta(seconds=n / rate_hz)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
            yield f"{n % wrap}.0", f"{n}.5", f"{-n}.5", "192.0", f"{burst:.4f}", "0.0", shown


OPENBCI = [
    *("%OpenBCI Raw EXG Data", "%Number of channels = 2", "%Sample Rate = 250 Hz", "%Board = Cyton"),
    "Sample Index, EXG Channel 0, EXG Channel 1, Other, Timestamp, Other, Timestamp (Formatted)",
]


def test_openbci_s_gui(tmp_path):
    recording = table(tmp_path / "OpenBCI-RAW.txt", written(OPENBCI, openbci(3000), ", "))
    assert recording.channels == (Channel("EXG Channel 0", "uV"), Channel("EXG Channel 1", "uV"))
    assert (recording.rates_hz[0], recording.started) == (250.0, BEGUN)
    _at, values, gaps = played(recording, "EXG Channel 1")
    np.testing.assert_array_equal(values, np.r_[0.5, -np.arange(1, 3000) - 0.5])
    assert gaps == []
    assert recording.remarks == ["columns left out because they do not hold numbers: 'Timestamp (Formatted)'"]


def test_openbci_s_index_tells_what_was_lost(tmp_path):
    """Though times come in bursts, and the index begins anew every second."""
    lost = {*range(700, 703), 1500, *range(2000, 2600)}  # the last is more than the index can count
    recording = table(tmp_path / "a.txt", written(OPENBCI, openbci(5000, lost), ", "))
    at, values, gaps = played(recording, "EXG Channel 0")
    np.testing.assert_array_equal(values, at + 0.5)
    assert gaps == [(700, 703), (1500, 1501), (2000, 2600)]


def test_openbci_s_gui_before_version_5(tmp_path):
    """No names at all; the last columns are a clock and Unix time in ms."""
    head = [
        "%OpenBCI Raw EEG Data",
        "%Number of channels = 2",
        "%Sample Rate = 250.0 Hz",
        "%First Column = SampleIndex",
    ]
    rows = [
        (n % 256, f"{n}.25", f"{-n}.25", "0.0", "0.0", "0.0", "22:00:00.000", round((BEGUN + n / 250) * 1000))
        for n in range(2000)
    ]
    recording = table(tmp_path / "a.txt", written(head, rows, ", "))
    at, values, _ = played(recording, "EXG Channel 0")
    np.testing.assert_array_equal(values, at + 0.25)
    assert (recording.rates_hz[0], recording.started) == (250.0, BEGUN)


def test_mind_monitor(tmp_path):
    """Rows that only note an event are no samples, and no loss."""
    head = ["TimeStamp,Delta_TP9,RAW_TP9,RAW_AF7,RAW_AF8,RAW_TP10,AUX_RIGHT,HSI_TP9,Battery,Elements"]
    clock, rows = datetime.datetime.fromtimestamp(BEGUN, datetime.UTC).replace(tzinfo=None), []
    for n in range(2560):
        when = (clock + datetime.timedelta(seconds=n / 256)).isoformat(" ", "milliseconds")
        rows.append((when, 0.5, 800 + n, n, n, n, 0, 1, 90, ""))
        if n % 500 == 7:
            rows.append((when, *[""] * 8, "/muse/elements/blink"))
    recording = table(tmp_path / "a.csv", written(head, rows))
    picked, info = pick(recording, None)
    assert recording.channels[picked[0] + 2] == Channel("RAW_AF7", "uV")
    assert (info.rate_hz, info.started) == (256.0, BEGUN)
    _at, values, gaps = played(recording, "RAW_AF7")
    np.testing.assert_array_equal(values, np.arange(2560))
    assert gaps == []
    assert [one for one in recording.remarks if "not whole" in one] == []


def test_muse_lsl_and_openvibe(tmp_path):
    rows = [(f"{BEGUN + n / 256:.3f}", n, n, n, n, 0) for n in range(3000)]
    recording = table(tmp_path / "a.csv", written(["timestamps,TP9,AF7,AF8,TP10,Right AUX"], rows))
    assert (recording.rates_hz[0], recording.started) == (256.0, BEGUN)
    head = ["Time:512Hz,Epoch,C3,C4,Event Id,Event Date,Event Duration"]
    rows = [(f"{n / 512:.10f}", n // 32, n, -n, "", "", "") for n in range(3000)]
    recording = table(tmp_path / "a.csv", written(head, rows))
    assert (recording.rates_hz[0], [one.label for one in recording.channels]) == (
        512.0,
        ["Epoch", "C3", "C4"],
    )


def test_a_header_that_numpy_commented_out(tmp_path):
    rows = np.c_[np.arange(500) / 100, np.arange(500)]
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", header="time,Cz")
    recording = open_recording(tmp_path / "a.csv")
    assert (recording.channels, recording.rates_hz) == ((Channel("Cz", ""),), (100.0,))


def test_two_columns_of_one_name_are_told_apart(tmp_path):
    recording = table(tmp_path / "a.csv", written(["time,C4,C4"], [(n / 100, n, -n) for n in range(500)]))
    assert [one.label for one in recording.channels] == ["C4#1", "C4#2"]
    np.testing.assert_array_equal(played(recording, "C4#2")[1], -np.arange(500))


# -- times ---------------------------------------------------------------------------------------------------


def iso(second, form="%Y-%m-%d %H:%M:%S.%f"):
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime(form)


SPELLINGS = {
    "time": lambda s: f"{s:.6f}",
    "Time (s)": lambda s: f"{s - BEGUN:.6f}",
    "time_ms": lambda s: f"{s * 1e3:.3f}",
    "Time [ms]": lambda s: f"{(s - BEGUN) * 1e3:.3f}",
    "t (us)": lambda s: f"{(s - BEGUN) * 1e6:.0f}",
    "timestamp (µs)": lambda s: f"{s * 1e6:.0f}",
    "Timestamp_ns": lambda s: f"{s * 1e9:.0f}",
    "unix_time": lambda s: f"{s * 1e3:.0f}",  # nothing says ms but the numbers
    "timestamps": lambda s: f"{s * 1e6:.0f}",
    "datetime": lambda s: iso(s),
    "Date Time": lambda s: iso(s, "%d.%m.%Y %H:%M:%S.%f"),
    "local time": lambda s: iso(s, "%Y/%m/%d %H:%M:%S.%f"),
    "time stamp": lambda s: iso(s, "%Y-%m-%dT%H:%M:%S.%fZ"),
    "date": lambda s: iso(s, "%m/%d/%Y %I:%M:%S.%f PM"),
    "Datum": lambda s: iso(s, "%d.%m.%Y %H:%M:%S.%f"),
    "timestamp": lambda s: f"{s / 86_400 + 25_569:.9f}",  # a spreadsheet's days
    "Date,Time": lambda s: iso(s, "%Y-%m-%d,%H:%M:%S.%f"),
    "Uhrzeit,Datum": lambda s: iso(s, "%H:%M:%S.%f,%d.%m.%Y"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_times_of_every_kind(tmp_path, name):
    k = np.r_[0:1500, 2000:3000]
    rows = [(SPELLINGS[name](BEGUN + n / 125), n) for n in k.tolist()]
    recording = table(tmp_path / "a.csv", written([f"{name},Cz"], rows))
    _at, values, gaps = played(recording, "Cz")
    np.testing.assert_array_equal(values, k)
    assert (recording.rates_hz[0], gaps) == (125.0, [(1500, 2000)])
    assert recording.started in (pytest.approx(BEGUN, abs=0.001), 473_385_600.0)


def test_a_date_beside_the_time_of_day_is_the_night_s(tmp_path):
    for header, form in (("Date,Time", "%Y-%m-%d,%H:%M:%S.%f"), ("Uhrzeit,Datum", "%H:%M:%S.%f,%d.%m.%Y")):
        rows = [(iso(BEGUN + 7195 + n / 100, form), n) for n in range(1000)]  # over midnight
        recording = table(tmp_path / "a.csv", written([f"{header},Cz"], rows))
        at, values, gaps = played(recording, "Cz")
        np.testing.assert_array_equal(values, at)
        assert (recording.started, gaps, recording.remarks) == (pytest.approx(BEGUN + 7195), [], [])
    rows = [(f"day {n // 500}", iso(BEGUN + n / 100, "%H:%M:%S.%f"), n) for n in range(1000)]
    recording = table(tmp_path / "a.csv", written(["Date,Time,Cz"], rows))  # no date that anyone can read
    assert played(recording, "Cz")[2] == []


def test_a_comma_before_the_fraction_of_a_second(tmp_path):
    rows = [(iso(BEGUN + n / 125, "%d.%m.%Y %H:%M:%S,%f"), f"{n},5") for n in range(3000)]
    recording = table(tmp_path / "a.csv", written(["Zeit;Cz"], rows, ";"))
    assert (recording.rates_hz[0], recording.started) == (125.0, pytest.approx(BEGUN))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_spreadsheet_s_utf_16(tmp_path, encoding):
    rows = [(f"{n / 100:.2f}", n) for n in range(1000)]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + written(["Zeit\tCz (µV)"], rows, "\t")
    recording = table(tmp_path / "a.csv", text.encode(encoding))
    assert recording.channels == (Channel("Cz", "µV"),)
    np.testing.assert_array_equal(played(recording, "Cz")[1], np.arange(1000))


def test_rows_from_the_last_to_the_first_are_to_be_sorted(tmp_path):
    rows = [(f"{n / 100:.2f}", n) for n in range(1000)][::-1]
    with pytest.raises(RecordingError, match="its time is before the line above; sort the rows"):
        table(tmp_path / "a.csv", written(["time,Cz"], rows))


@pytest.mark.parametrize(("scale", "says"), [(1e3, "ms"), (1e6, "µs"), (1e9, "ns")])
def test_relative_times_on_another_scale_are_named(tmp_path, scale, says):
    rows = [(round(n / 64 * scale), n) for n in range(3000)]
    recording = table(tmp_path / "a.csv", written(["time,C4"], rows))
    assert recording.rates_hz == (64.0,)
    assert recording.remarks == [f"its times look like {says} and are read so"]


def test_a_clock_without_a_date_goes_over_midnight(tmp_path):
    k = np.arange(0, 4000)
    rows = [(iso(BEGUN + 7190 + n / 100, "%H:%M:%S.%f"), n) for n in k.tolist()]  # from 23:59:50
    recording = table(tmp_path / "a.csv", written(["time,Cz"], rows))
    at, values, gaps = played(recording, "Cz")
    np.testing.assert_array_equal(values, at)
    assert gaps == []


@pytest.mark.parametrize(("by_h", "says"), [(-1, "repeat an hour"), (1, "leave out an hour")])
def test_local_times_go_on_over_the_change_of_the_clocks(tmp_path, by_h, says):
    change = BEGUN + 3600 * 5  # 03:00
    rows = [(iso(change - 20 + n / 100 + (by_h * 3600 if n >= 2000 else 0)), n) for n in range(4000)]
    recording = table(tmp_path / "a.csv", written(["time,Cz"], rows))
    at, values, gaps = played(recording, "Cz")
    np.testing.assert_array_equal(values, at)
    assert gaps == []
    assert any(says in one for one in recording.remarks)


def test_sample_numbers_as_times_need_a_rate_and_show_losses(tmp_path):
    k = np.r_[0:1000, 1300:2000]
    text = written(["time,Cz"], [(n, n) for n in k.tolist()])
    with pytest.raises(
        UsageError, match="as numbers of samples do; say its rate: rate_hz = 256, or --rate 256"
    ):
        table(tmp_path / "a.csv", text)
    recording = table(tmp_path / "a.csv", text, rate_hz=256)
    at, values, gaps = played(recording, "Cz")
    np.testing.assert_array_equal(values, at)
    assert gaps == [(1000, 1300)]


def test_a_stated_rate_that_the_times_contradict_is_said(tmp_path):
    text = written(OPENBCI, openbci(3000, rate_hz=200), ", ")
    recording = table(tmp_path / "a.txt", text)
    assert recording.rates_hz[0] == 200.0
    said = "it states 250 Hz, but its times show 200 Hz (-20.0%): it is read at that rate"
    assert said in recording.remarks


def test_times_in_days_or_so_are_refused_by_their_rate(tmp_path):
    recording = table(tmp_path / "a.csv", written(["time (s),Cz"], [(n * 10, n) for n in range(500)]))
    with pytest.raises(SignalError, match=r"0\.1 Hz"):
        pick(recording, "Cz")


@pytest.mark.parametrize("at", [1500, 8191, 8192, 8193, 9000])
def test_a_clock_that_is_set_back_is_said_and_the_rows_go_on(tmp_path, at):
    rows = [(f"{BEGUN + n / 100 - (30 if n >= at else 0):.2f}", n) for n in range(10_000)]
    recording = table(tmp_path / "a.csv", written(["time,Cz"], rows))
    index, values, gaps = played(recording, "Cz")
    np.testing.assert_array_equal(values, index)
    assert gaps == []
    said = f"its clock was set back by 29.990 s in line {at + 2}; its times are read on from there"
    assert recording.remarks == [said]


def excursion(at, length, leap_s):
    """Times of a clock that leaps for a while; 5 s were lost before."""
    times = np.arange(3000) / 100
    times[500:] += 5
    times[at : at + length] += leap_s
    return BEGUN + times


@pytest.mark.parametrize("at", [700, 990, 1000, 1001])
@pytest.mark.parametrize("length", [2, 1200])
@pytest.mark.parametrize("leap_s", [0.5, 3600.0, 1e5, -0.5, -40.0])
def test_a_clock_that_leaps_and_is_soon_back_has_lost_nothing(tmp_path, monkeypatch, at, length, leap_s):
    monkeypatch.setattr("streamer.sources.table.LINES", 1000)
    rows = [(f"{when:.3f}", n) for n, when in enumerate(excursion(at, length, leap_s))]
    recording = table(tmp_path / "a.csv", written(["time,Cz"], rows))
    index, values, gaps = played(recording, "Cz")
    assert gaps == [(500, 1000)]
    np.testing.assert_array_equal(values, np.where(index < 500, index, index - 500))
    (said,) = recording.remarks
    assert f"leap by up to {abs(leap_s):.2f} s and back again in 1 places" in said


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S.%f", "%H:%M:%S.%f"])
@pytest.mark.parametrize("leap_s", [40.0, 3600.0])
def test_an_excursion_of_dates_and_times_of_day_has_lost_nothing(tmp_path, form, leap_s):
    rows = [(iso(when, form), n) for n, when in enumerate(excursion(1500, 700, leap_s))]
    recording = table(tmp_path / "a.csv", written(["time,Cz"], rows))
    index, _, gaps = played(recording, "Cz")
    assert index.size == 3000
    assert sum(stop - start for start, stop in gaps) == pytest.approx(500, abs=100)


def test_a_clock_that_stays_ahead_has_lost_that_time(tmp_path):
    rows = [(f"{when:.3f}", n) for n, when in enumerate(excursion(1500, 1500, 40.0))]
    _, _, gaps = played(table(tmp_path / "a.csv", written(["time,Cz"], rows)), "Cz")
    assert gaps == [(500, 1000), (2000, 6000)]


# -- numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [";", "\t", " ", "|"])
def test_decimal_commas(tmp_path, mark):
    rows = [(f"{n / 100:.2f}".replace(".", ","), f"{n}".replace(".", ",") + ",25") for n in range(500)]
    recording = table(tmp_path / "a.csv", written([f"time{mark}Cz"], rows, mark))
    at, values, _ = played(recording, "Cz")
    np.testing.assert_array_equal(values, at + 0.25)
    assert recording.rates_hz == (100.0,)


@pytest.mark.parametrize("cell", ["1_000", "٣", "1,000", "0x10", "1e", "--1", "1 2", "x"])
def test_what_python_takes_for_a_number_and_people_do_not_is_none(cell):
    assert number(cell) is None


@pytest.mark.parametrize("bad", ["oops", "1_000", "٣", "12.5.3", "#REF!"])
def test_a_cell_that_is_no_number_is_lost_alone(tmp_path, bad):
    rows = [(n / 100, bad if n == 77 else n, n) for n in range(500)]
    recording = table(tmp_path / "a.csv", written(["time,Cz,Pz"], rows))
    at, values, _ = played(recording, "Cz")
    np.testing.assert_array_equal(values, np.where(at == 77, np.nan, at))
    assert recording.remarks == [
        "rows with a cell that is not a number, which counts as lost: 1, the first in line 79"
    ]


def test_text_that_nobody_asked_for_stops_nothing(tmp_path):
    rows = [(n / 100, n, f"note {n}", "N2", "") for n in range(500)]
    recording = table(tmp_path / "a.csv", written(["time,Cz,Note,Stage,Empty"], rows))
    np.testing.assert_array_equal(played(recording, "Cz")[1], np.arange(500))
    assert recording.remarks == [
        "columns left out because they do not hold numbers: 'Note', 'Stage', 'Empty'"
    ]


def test_units_in_a_line_of_their_own(tmp_path):
    rows = [("ms", "mV", "Ohm"), *((10 * n, n, n) for n in range(500))]
    recording = table(tmp_path / "a.csv", written(["time,Cz,Imp"], rows))
    assert recording.channels == (Channel("Cz", "mV"), Channel("Imp", "Ohm"))
    assert (recording.rates_hz[0], recording.remarks) == (100.0, [])
    np.testing.assert_array_equal(played(recording, "Cz")[1], np.arange(500))


@pytest.mark.parametrize("missing", ["nan", "-", "none", "n/a"])
def test_a_first_row_without_values_is_no_line_of_units(tmp_path, missing):
    rows = [("0.00", missing), *((f"{n / 100:.2f}", n) for n in range(1, 500))]
    recording = table(tmp_path / "a.csv", written(["time,Cz"], rows))
    assert recording.channels == (Channel("Cz", ""),)
    _, values, _ = played(recording, "Cz")
    np.testing.assert_array_equal(values, np.r_[np.nan, 1:500])


def test_latin_1_and_quotes(tmp_path):
    text = 'time;"Impédance (µV)";Cz\n' + "".join(f'"{n / 100}";"{n}";{n}\n' for n in range(500))
    recording = table(tmp_path / "a.csv", text.encode("latin-1"))
    assert recording.channels[0] == Channel("Impédance", "µV")
    np.testing.assert_array_equal(played(recording, "Impédance")[1], np.arange(500))


# -- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 2, 4, 7, 8, 12, 21])
def test_a_last_line_that_was_cut_costs_itself_alone(tmp_path, cut):
    """Without its end alone it is as long as the others, and whole; else its last cell may be half of one."""
    whole = written(["timestamps,TP9"], [(f"{BEGUN + n / 256:.3f}", f"{n}.50") for n in range(9000)])
    recording = table(tmp_path / "a.csv", whole[: len(whole) - cut])
    _, values, gaps = played(recording, "TP9")
    np.testing.assert_array_equal(values[:8999], np.arange(8999) + 0.5)
    assert gaps == []
    if cut < 2:
        assert (values[8999:].tolist(), recording.remarks) == ([8999.5], [])
    elif cut < 9:
        assert np.isnan(values[8999:]).tolist() == [True]
        assert recording.remarks == [
            "its last line has no end, as if it had been cut: its last cell counts as lost"
        ]
    else:
        assert values.size == 8999
        assert recording.remarks == ["its last line has no end, as if it had been cut, and is left out"]


def test_a_tail_of_nuls_as_a_power_failure_leaves_it(tmp_path):
    rows = [(f"{n / 256:.3f}", f"{n}.5") for n in range(3000)]
    recording = table(tmp_path / "a.csv", written(["time,C4"], rows) + "\0" * 5000)
    np.testing.assert_array_equal(played(recording, "C4")[1], np.arange(3000) + 0.5)
    assert len(recording.remarks) == 1


def test_rows_left_out_of_a_table_without_times_keep_their_place(tmp_path):
    rows = [(n, -n) if n not in (5, 300) else ("x",) for n in range(600)]
    recording = table(tmp_path / "a.csv", written(["C3,C4"], rows), rate_hz=100)
    at, values, _ = played(recording, "C3")
    np.testing.assert_array_equal(values, np.where(np.isin(at, (5, 300)), np.nan, at))
    assert recording.remarks[0].endswith("2, the first in line 7")


CSV = written(["time,C4,note"], [(f"{n / 100:.2f}", f"{n}.5", "x") for n in range(700)]).encode()
NASTY = [
    b"",
    b"\0",
    b"\xff",
    b"-",
    b"nan",
    b"\n",
    b'"',
    b",",
    b";",
    b"e",
    b"9",
    b"%",
    b"\r",
    b"_",
    b"\n\n",
    b"1e300",
]


@properties
@given(
    at=st.integers(13, len(CSV) - 1),
    cut=st.integers(0, 30),
    piece=st.sampled_from(NASTY) | st.binary(max_size=10),
    tail=st.integers(0, 40),
)
@example(at=400, cut=0, piece=b'"', tail=0)
def test_any_damage_to_rows_costs_those_rows(tmp_path_factory, at, cut, piece, tail):
    data = CSV[:at] + piece + CSV[at + cut :]
    recording = table(tmp_path_factory.getbasetemp() / "damaged.csv", data[: len(data) - tail])
    index, values, gaps = played(recording, "C4")
    touched = 3 + CSV[at : at + cut].count(b"\n") + piece.count(b"\n") + piece.count(b"\r")
    zero = int(np.nanmedian(values - index - 0.5))  # the first rows may be lost
    # Until the jitter is known, rows that are gone without a trace are not told from late ones.
    wrong = ~(np.abs(values - (index + zero + 0.5)) <= touched)  # one that is no number, too
    assert np.count_nonzero(wrong) <= touched
    assert index.size >= 700 - touched - CSV[len(CSV) - tail :].count(b"\n") - 1
    lost = sum(stop - start for start, stop in gaps if start > 1)  # before the second row nothing tells when
    assert lost <= touched + 700 - index.size


@properties
@given(at=st.integers(0, 12), piece=st.binary(max_size=6))
def test_any_damage_to_the_header_is_one_line_or_costs_nothing(tmp_path_factory, at, piece):
    path = tmp_path_factory.getbasetemp() / "header.csv"
    said = ""
    try:
        recording = table(path, CSV[:at] + piece + CSV[at + len(piece) :])
        label = next(one.label for one in recording.channels)
        index, values, _ = played(recording, label)
    except SleepstreamError as error:
        said = str(error)
    assert "\n" not in said
    if not said and recording.rates_hz == (100.0,):
        assert np.count_nonzero(values[: index.size] != index + (0.5 + values[0] - 0.5 - index[0])) <= 3


def test_times_that_change_their_kind_are_none():
    times = Times()
    assert times.seconds(["0.0", "0.1", "2024-01-01"]).tolist()[:2] == [0.0, 0.1]
    assert re.fullmatch("nan", str(times.seconds(["1", "2", "x"])[2]))
