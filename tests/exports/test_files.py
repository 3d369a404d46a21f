"""Exports read back with the programs that people use: MNE, pyedflib, edfio, YASA, the BIDS validator."""

import json
import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN

import edfio
import mne
import numpy as np
import pandas as pd
import pyedflib
import pytest
import yasa
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli import main
from streamer.exports import FORMATS
from streamer.exports.edf import choose_samples_per_record
from streamer.exports.signals import format_number
from streamer.exports.tables import PROFUSION
from streamer.messages import STAGES, Channel, Chunk, Gap
from streamer.night.scoring import read_scoring
from streamer.night.session import read_conditioned, read_night
from streamer.sources.recordings import open_recording
from tests.night import STARTED, session, stages

LETTERS = "WW1122?3RRW"
TWO = (Channel("AF7", "uV"), Channel("AF8", "uV"))
EVENTS = [("lights_off", {"epoch": 1}), ("mark", {"epoch": 3}), ("lights_on", {"epoch": 9})]
GAPS = [(0, 40), (5000, 5020), (12_345, 20_000)]


def export(path, to, out):
    assert main(["export", str(path), "--to", to, "--out", str(out)]) == 0
    return out


@pytest.fixture
def whole(tmp_path):
    samples = np.random.default_rng(0).normal(0, 40, (2, 256 * 30 * len(LETTERS)))
    path = session(
        tmp_path / "s.sqlite", stages(LETTERS), rate_hz=256, channels=TWO, samples=samples, events=EVENTS
    )
    return path, samples


@pytest.fixture
def broken(tmp_path):
    samples = np.random.default_rng(0).normal(0, 40, (1, 100 * 30 * len(LETTERS)))
    return session(tmp_path / "g.sqlite", stages(LETTERS), samples=samples, gaps=GAPS), samples


def read_mne(path):
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    notes = [(note["onset"], note["duration"], note["description"]) for note in raw.annotations]
    return raw.get_data() * 1e6, raw.ch_names, raw.info["meas_date"], notes


def read_pyedflib(path):
    with pyedflib.EdfReader(str(path)) as file:
        data = np.stack([file.readSignal(i) for i in range(file.signals_in_file)])
        names, begin = file.getSignalLabels(), file.getStartdatetime().replace(tzinfo=UTC)
        return data, names, begin, list(zip(*file.readAnnotations(), strict=True))


def read_edfio(path):
    file = edfio.read_edf(path)
    begin = datetime.combine(file.startdate, file.starttime, UTC)
    notes = [(note.onset, note.duration or 0.0, note.text) for note in file.annotations]
    return np.stack([one.data for one in file.signals]), [one.label for one in file.signals], begin, notes


READERS = pytest.mark.parametrize("read", [read_mne, read_pyedflib, read_edfio])


@pytest.mark.parametrize("started", [STARTED, STARTED + 0.25])
def test_the_hypnogram_alone_as_annotations(tmp_path, started):
    path = session(tmp_path / "s.sqlite", stages(LETTERS), gaps=GAPS, events=EVENTS, started=started)
    out = export(path, "annotations", tmp_path / "h.edf")
    assert read_scoring(out, started).labels(len(LETTERS)) == tuple(stages(LETTERS))
    read = [(note["onset"], note["duration"], note["description"]) for note in mne.read_annotations(out)]
    assert read == [(one.onset, one.duration or 0.0, one.text) for one in edfio.read_edf(out).annotations]
    assert [text for onset, _, text in read if onset == 30.0] == ["Lights off", "Sleep stage W"]
    assert sum(text == "BAD_gap" for _, _, text in read) == len(GAPS)
    assert edfio.read_edf(out).startdate == datetime.fromtimestamp(started, UTC).date()


@READERS
def test_edf_is_read_back(whole, tmp_path, read):
    path, samples = whole
    data, names, begin, notes = read(export(path, "edf", tmp_path / "n.edf"))
    assert np.abs(data - samples).max() <= 0.051  # half a step of 0.1 µV
    assert list(names) == ["AF7", "AF8"]
    assert begin.timestamp() == STARTED
    found = [(float(onset), float(length), text) for onset, length, text in notes if "Sleep" in text]
    assert found == [
        (30.0 * k, 30.0, f"Sleep stage {'?' if s == 'unscored' else s}")
        for k, s in enumerate(stages(LETTERS))
    ]
    others = [(float(onset), text) for onset, _, text in notes if "Sleep" not in text]
    assert others == [(30.0, "Lights off"), (90.0, "mark: here"), (270.0, "Lights on")]


@READERS
def test_gaps_are_held_for_readers_that_know_no_edf_d(broken, tmp_path, read):
    path, samples = broken
    data, _, _, notes = read(export(path, "edfc", tmp_path / "n.edf"))
    real = np.ones(samples.shape[1], dtype=bool)
    for start, stop in GAPS:
        real[start:stop] = False
        assert np.ptp(data[0, start:stop]) < 0.1
    assert np.abs(data - samples)[:, real].max() <= 0.051
    found = [
        (round(float(onset), 4), round(float(length), 4)) for onset, length, t in notes if t == "BAD_gap"
    ]
    assert found == [(start / 100, (stop - start) / 100) for start, stop in GAPS]


def test_edf_d_keeps_every_sample_in_its_place(broken, tmp_path, capsys):
    path, samples = broken
    out = export(path, "edf", tmp_path / "n.edf")
    assert out.read_bytes()[192:197] == b"EDF+D"
    twin = tmp_path / "n-continuous.edf"
    assert f"for them there is {twin} (--to edfc)" in capsys.readouterr().out
    assert np.abs(read_mne(twin)[0] - samples)[:, 20_000:].max() <= 0.051  # what is advised is there
    found = np.full(samples.shape[1], np.nan)
    for item in open_recording(out).items([0]):
        if isinstance(item, Chunk):
            found[40 + item.start : 40 + item.stop] = item.samples[0]  # the file begins with the first sample
    real = np.isfinite(found)
    for start, stop in GAPS:
        if stop - start > 200:
            assert not real[start + 100 : stop].any()
    assert np.abs(found[20_000:] - samples[0, 20_000:]).max() <= 0.051
    assert np.abs(found[40:5000] - samples[0, 40:5000]).max() <= 0.051
    assert list(read_scoring(out, STARTED).labels(len(LETTERS)))[1:] == stages(LETTERS)[1:]


@pytest.mark.parametrize("lost", [40, 250, 12_050])
@pytest.mark.parametrize("read", [read_pyedflib, read_edfio, read_mne])
def test_what_is_lost_at_first_is_left_out(tmp_path, lost, read):
    samples = np.random.default_rng(0).normal(0, 40, (1, 100 * 30 * len(LETTERS)))
    path = session(tmp_path / "s.sqlite", stages(LETTERS), samples=samples, gaps=[(0, lost)])
    out = export(path, "edf", tmp_path / "n.edf")
    data, _, begin, _ = read(out)
    assert np.abs(data[0, : samples.shape[1] - lost] - samples[0, lost:]).max() <= 0.051
    assert 0 <= begin.timestamp() - STARTED - lost // 100 < 1
    found = read_scoring(out, STARTED).labels(len(LETTERS))
    first = -(-lost // 3000)
    assert list(found[first:]) == stages(LETTERS)[first:]


def test_replaying_the_export_finds_the_same_gaps(broken, tmp_path):
    out = export(broken[0], "edf", tmp_path / "n.edf")
    gaps = [(item.start, item.stop) for item in open_recording(out).items([0]) if isinstance(item, Gap)]
    assert gaps == [(12_400, 19_960)]  # whole records only; the first sample is the 40th


def test_a_railed_electrode_does_not_set_the_range(tmp_path, capsys):
    samples = np.random.default_rng(0).normal(20_000, 40, (2, 100 * 60))  # a DC-coupled amplifier
    samples[1, 1000:2500] = 187_500
    path = session(tmp_path / "s.sqlite", stages("W2"), channels=TWO, samples=samples)
    data, *_ = read_edfio(export(path, "edf", tmp_path / "n.edf"))
    assert np.abs(data[0] - samples[0]).max() < 0.01
    fine = np.r_[0:1000, 2500:6000]
    assert np.abs(data[1] - samples[1])[fine].max() <= 0.06
    assert data[1, 1500] < 25_000
    assert re.search(r"AF8: 25\.\d+% of the samples lie beyond", capsys.readouterr().out)


def test_a_single_sample_on_the_rail_is_said_wherever_it_lies(tmp_path, capsys):
    samples = np.random.default_rng(0).normal(0, 40, (2, 100 * 60))
    samples[1, 4001] = 187_500
    path = session(tmp_path / "s.sqlite", stages("W2"), channels=TWO, samples=samples)
    export(path, "edf", tmp_path / "n.edf")
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "clipped" in line]
    assert said.startswith("AF8: 0.02% of the samples")


@pytest.mark.parametrize("unit", ["V", "mV", "nV", ""])
def test_units_become_microvolts(tmp_path, unit):
    factor = {"V": 1e-6, "mV": 1e-3, "nV": 1e3, "": 1.0}[unit]
    samples = np.random.default_rng(0).normal(0, 40, (1, 3000))
    path = session(
        tmp_path / "s.sqlite", stages("W"), channels=[Channel("Cz", unit)], samples=samples * factor
    )
    data, *_ = read_mne(export(path, "edf", tmp_path / "n.edf"))
    assert np.abs(data - samples).max() < 0.06


@pytest.mark.parametrize(
    ("rate", "record"), [(100, 100), (256, 256), (62.5, 125), (1024, 1024), (200 / 3, 200)]
)
def test_records_hold_whole_samples(rate, record):
    assert choose_samples_per_record(rate) == record


@given(rate=st.floats(50, 1024))
def test_a_record_s_length_in_eight_characters_moves_no_sample_of_a_night(rate):
    count = choose_samples_per_record(rate)
    said = format_number(count / rate, ROUND_HALF_EVEN)
    assert len(said) <= 8
    assert abs(count / float(said) - rate) * 12 * 3600 < 1  # samples, after 12 h


@pytest.mark.parametrize("rate", [255.9373, 83.333333, 199.8712345])
@READERS
def test_odd_rates_are_continuous_for_every_reader(tmp_path, rate, read):
    samples = np.random.default_rng(0).normal(0, 40, (1, round(30 * rate) * 4))
    path = session(tmp_path / "s.sqlite", stages("WW22"), rate_hz=rate, samples=samples)
    data, *_ = read(export(path, "edf", tmp_path / "n.edf"))
    assert np.abs(data[:, : samples.shape[1]] - samples).max() <= 0.051


@pytest.mark.parametrize(("started", "clock"), [(10.0, "00.00.10"), (-1e9, "22.13.20"), (5e9, "08.53.20")])
def test_a_date_that_edf_cannot_hold_is_left_out_and_said(tmp_path, capsys, started, clock):
    path = session(tmp_path / "s.sqlite", stages("W2"), started=started)
    for to in ("edf", "annotations"):
        out = export(path, to, tmp_path / f"{to}.edf")
        assert "a date that EDF cannot hold" in capsys.readouterr().out
        head = out.read_bytes()[:256]
        assert head[168:184].decode() == f"01.01.85{clock}"
        assert head[88:99] == b"Startdate X"
    with pyedflib.EdfReader(str(tmp_path / "edf.edf")) as file:
        assert file.getStartdatetime().year == 1985


def test_a_fraction_of_a_second_at_the_start_is_kept(tmp_path):
    path = session(tmp_path / "s.sqlite", stages("W2"), started=STARTED + 0.25)
    out = export(path, "edf", tmp_path / "n.edf")
    file = edfio.read_edf(out)
    assert file.starttime.microsecond == 250_000
    assert [note.onset for note in file.annotations] == [0.0, 30.0]


def test_yasa_reads_the_csv(whole, tmp_path):
    table = pd.read_csv(export(whole[0], "csv", tmp_path / "n.csv"))
    assert list(table.columns) == ["onset", "duration", "label"]
    assert (np.diff(table["onset"]) == 30).all()
    names = {"W": "WAKE", "R": "REM", "unscored": "UNS"}
    hypnogram = yasa.Hypnogram(table["label"].replace(names).to_list(), freq="30s")
    assert list(hypnogram.hypno) == [names.get(stage, stage) for stage in stages(LETTERS)]
    assert read_scoring(tmp_path / "n.csv", STARTED).labels(len(LETTERS)) == tuple(stages(LETTERS))


def test_yasa_reads_profusion_s_numbers(whole, tmp_path):
    numbers = np.loadtxt(export(whole[0], "profusion", tmp_path / "n.txt"), dtype=int)
    assert list(numbers) == [PROFUSION.get(stage, 9) for stage in stages(LETTERS)]
    assert read_scoring(tmp_path / "n.txt", STARTED).labels(len(LETTERS)) == tuple(stages(LETTERS))
    mapped = np.where(numbers == 5, 4, np.where(numbers == 9, -2, numbers))
    names = {"W": "WAKE", "R": "REM", "unscored": "UNS"}
    found = yasa.Hypnogram.from_integers(mapped, freq="30s").hypno
    assert list(found) == [names.get(stage, stage) for stage in stages(LETTERS)]


def test_json_holds_all_but_the_samples(whole, tmp_path):
    data = json.loads(export(whole[0], "json", tmp_path / "n.json").read_text())
    night = read_night(whole[0])
    assert data["hypnogram"] == stages(LETTERS)
    assert (data["lights_off_epoch"], data["lights_on_epoch"]) == (1, 9)
    assert data["started"] == "2025-06-15T15:06:40+00:00"
    assert (data["lights_off"], data["lights_on"]) == (
        "2025-06-15T15:07:10+00:00",
        "2025-06-15T15:11:10+00:00",
    )
    assert data["model"] == {"name": "small of 2025-01-01", "weights_sha256": "abc"}
    assert {name: one["value"] for name, one in data["statistics"].items()} == night.statistics().to_json()
    assert len(data["epochs"]) == len(LETTERS)
    assert data["meta"]["info"]["rate_hz"] == 256


@pytest.mark.train
def test_npz_is_a_prepared_night(broken, tmp_path):
    from model.data import load_night

    night = load_night(export(broken[0], "npz", tmp_path / "n.npz"))
    assert list(night.stages) == [STAGES.index(s) if s in STAGES else -1 for s in stages(LETTERS)]
    expected = read_conditioned(read_night(broken[0])).astype(np.float16)
    assert np.array_equal(night.samples, expected, equal_nan=True)
    assert np.isnan(night.samples[12_400:19_900]).all()
    assert night.soft is not None
    assert not night.soft[LETTERS.index("?")].any()


def test_nothing_is_overwritten_and_nothing_half_written_stays(whole, tmp_path, capsys):
    (tmp_path / "n.csv").write_text("mine")
    assert main(["export", str(whole[0]), "--to", "csv", "--out", str(tmp_path / "n.csv")]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert (tmp_path / "n.csv").read_text() == "mine"
    assert not list(tmp_path.glob("*.partial*"))


def test_one_session_goes_into_a_folder_that_is_there_and_into_a_file_that_is_not(whole, tmp_path):
    name = whole[0].stem
    (tmp_path / "there").mkdir()
    assert main(["export", str(whole[0]), "--to", "csv", "--out", str(tmp_path / "there")]) == 0
    assert main(["export", str(whole[0]), "--to", "csv", "--out", str(tmp_path / "mine.csv")]) == 0
    assert [one.name for one in (tmp_path / "there").iterdir()] == [f"{name}.csv"]
    assert (tmp_path / "mine.csv").is_file()


def test_a_session_without_samples_has_no_edf(tmp_path, capsys):
    path = session(tmp_path / "s.sqlite", stages("W2"), samples=np.zeros((1, 0)))
    assert main(["export", str(path), "--to", "edf"]) == 2
    assert "--to annotations" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["s.sqlite"]


def test_an_empty_session_is_refused(tmp_path, capsys):
    path = session(tmp_path / "e.sqlite", [])
    assert main(["export", str(path), "--to", "edf"]) == 2
    assert "nothing to export" in capsys.readouterr().err


@pytest.mark.parametrize("samples", [np.ones((1, 1)), np.full((1, 100), np.nan)], ids=["one", "no number"])
@pytest.mark.parametrize("to", FORMATS)
def test_less_than_an_epoch_is_exported_or_refused_in_a_line(tmp_path, capsys, samples, to):
    path = session(tmp_path / "e.sqlite", [], samples=samples)
    code = main(["export", str(path), "--to", to])
    said = capsys.readouterr()
    assert code == (2 if to == "annotations" else 0)
    assert ("nothing to annotate" in said.err) is (to == "annotations")


def test_no_export_and_no_report_has_the_default_name_of_another(broken):
    assert main(["report", str(broken[0])]) == 0
    for to in FORMATS:
        assert main(["export", str(broken[0]), "--to", to]) == 0 or to == "edfc"  # which edf has written


def test_several_sessions_are_exported_at_once(whole, broken, tmp_path):
    sessions = [str(whole[0]), str(broken[0])]
    assert main(["export", *sessions, "--to", "csv"]) == 0
    assert main(["export", *sessions, "--to", "csv", "--out", str(tmp_path / "out")]) == 0
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["g.csv", "s.csv"]


def test_what_is_said_at_once_is_spread_and_not_lost(tmp_path):
    events = [("trigger", {"end": 30.0 + k / 1000}) for k in range(200)]
    path = session(tmp_path / "s.sqlite", stages("W2" * 20), events=events)
    out = export(path, "edf", tmp_path / "n.edf")
    notes = [(round(onset, 3), text) for onset, _, text in read_mne(out)[3] if text.startswith("trigger")]
    assert notes == [(round(30.0 + k / 1000, 3), "trigger: here") for k in range(200)]
    assert out.stat().st_size < 1_000_000


def test_the_default_name_is_beside_the_session(whole):
    assert main(["export", str(whole[0].parent), "--to", "profusion"]) == 0
    assert whole[0].with_suffix(".txt").exists()
