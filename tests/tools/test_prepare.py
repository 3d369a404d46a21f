"""Prepared nights, from generated recordings in the shape of the published ones."""

import hashlib
import json

import edfio
import numpy as np
import pytest

from model.data import load_night
from streamer import __version__
from streamer.cli import main as sleepstream
from streamer.conditioner import Conditioner
from streamer.messages import Score
from streamer.network.stager import Model
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick
from tests.night import session, stages
from tests.recording_files import eeg, signal, write_edf, write_edf_d
from tests.scored_files import epochs_of, write_hypnogram, write_nsrr, write_profusion, write_psg
from tools.prepare.__main__ import main

pytestmark = pytest.mark.train

W, N1, N2, N3, R = range(5)
NIGHT = [
    ("Sleep stage W", 70),
    ("Sleep stage 1", 2),
    ("Sleep stage 2", 3),
    ("Movement time", 1),
    ("Sleep stage 3", 2),
    ("Sleep stage 4", 2),
    ("Sleep stage ?", 1),
    ("Sleep stage R", 2),
    ("Sleep stage W", 20),
    ("Movement time", 1),
    ("Sleep stage W", 45),
]
AFTER = [W] * 20 + [-1] + [W] * 40  # 30 min of wake that was scored
ASLEEP = [N1, N1, N2, N2, N2, -1, N3, N3, N3, N3, -1, R, R]
SHORT = [("Sleep stage W", 2), ("Sleep stage 2", 2), ("Sleep stage ?", 40)]


def pair(folder, number="SC4001E", runs=SHORT, scorer="C", record_s=30):
    """The second file says more than the first holds, as the real ones do."""
    known = sum(count for text, count in runs if "?" not in text or count < 10)
    psg = write_psg(folder, f"{number}0", known, record_s)
    return psg, write_hypnogram(folder, f"{number}{scorer}", runs)


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def behind_conditioner(path, index, rate_hz):
    conditioner = Conditioner(rate_hz)
    parts = [part for item in open_recording(path).items([index]) for part in conditioner.push(item)]
    return np.concatenate([part.samples[0] for part in [*parts, *conditioner.flush()]])


def same(found, expected):
    """Up to one rounding to float16: the derivation goes through float32."""
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("record_s", [1, 30])
def test_sleep_edf_by_the_published_rules(tmp_path, record_s):
    psg, _ = pair(tmp_path / "in" / "sleep-cassette", "SC4712G", NIGHT, "V", record_s)
    assert main(["sleep-edf", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    night = load_night(tmp_path / "out" / "SC4712G0.npz")
    assert (night.recording, night.subject) == ("SC4712G0", "71")
    assert list(night.stages) == [W] * 60 + ASLEEP + AFTER
    whole = behind_conditioner(psg, 0, 100.0)
    assert same(night.samples, whole[3000 * 10 : 3000 * 144])


def test_unscored_epochs_are_dropped_on_request(tmp_path):
    psg, _ = pair(tmp_path / "in", runs=NIGHT)
    assert main(["sleep-edf", str(tmp_path / "in"), "--drop-unscored", "--out", str(tmp_path / "out")]) == 0
    night = load_night(tmp_path / "out" / "SC4001E0.npz")
    assert list(night.stages) == [W] * 60 + [stage for stage in ASLEEP if stage >= 0] + [W] * 60
    after = behind_conditioner(psg, 0, 100.0)[3000 * 76 : 3000 * 80]  # of the movement: stages 3, 3, 4, 4
    assert same(night.samples[3000 * 65 : 3000 * 69], after)


def test_manifest_says_what_came_from_what(tmp_path):
    inputs = pair(tmp_path / "in")
    out = tmp_path / "out"
    assert main(["sleep-edf", str(tmp_path / "in"), "--out", str(out)]) == 0
    (night,) = manifest(out)
    assert [one["path"] for one in night["inputs"]] == [str(path) for path in inputs]
    assert [one["sha256"] for one in night["inputs"]] == [sha256(path) for path in inputs]
    assert [one["bytes"] for one in night["inputs"]] == [path.stat().st_size for path in inputs]
    assert night["outputs"] == {"SC4001E0.npz": (out / "SC4001E0.npz").stat().st_size}
    assert (night["channel"], night["rate_hz"], night["subject"]) == ("EEG Fpz-Cz", 100.0, "00")
    assert night["stages"] == {"W": 2, "N1": 0, "N2": 2, "N3": 0, "R": 0, "unscored": 0}
    assert night["rules"]["band_hz"] == [0.3, 35.0]
    assert (night["schema"], night["rules"]["sleepstream"]) == ("sleepstream/prepared/1", __version__)


def test_a_bad_recording_stops_no_other(tmp_path, capsys):
    pair(tmp_path / "in", "SC4001E")
    cut, _ = pair(tmp_path / "in", "SC4002E")
    cut.write_bytes(cut.read_bytes()[:-5000])
    write_psg(tmp_path / "in", "SC4011E0", 4)  # nobody scored it
    write_psg(tmp_path / "in", "SC4012E0", 4, lost=True)
    write_hypnogram(tmp_path / "in", "SC4012EC", SHORT)
    pair(tmp_path / "in", "SC4021E", [("Sleep stage W", 4)])
    pair(tmp_path / "in", "SC4022E")
    assert main(["sleep-edf", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    for line, text in zip(
        lines, ["cut short", "found 0 of SC4011E?-Hypnogram.edf", "flat", "scored as sleep"], strict=True
    ):
        assert text in line
    assert "2 nights" in said.out
    assert "4 failed" in said.out
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == ["SC4001E0.npz", "SC4022E0.npz"]
    failed = [one["recording"] for one in manifest(tmp_path / "out") if one["status"] == "failed"]
    assert failed == ["SC4002E0", "SC4011E0", "SC4012E0", "SC4021E0"]


def test_what_is_there_is_kept_until_its_input_or_the_rules_change(tmp_path):
    pair(tmp_path / "in", "SC4001E")
    pair(tmp_path / "in", "SC4002E")
    out = tmp_path / "out"

    def again(*more):
        assert main(["sleep-edf", str(tmp_path / "in"), "--out", str(out), *more]) == 0
        return [(out / f"SC400{n}E0.npz").stat().st_mtime_ns for n in (1, 2)]

    first = again()
    assert again() == first
    write_hypnogram(tmp_path / "in", "SC4001EC", [("Sleep stage R", 4)])
    second = again()
    assert second[0] != first[0]
    assert second[1] == first[1]
    assert manifest(out)[0]["stages"]["R"] == 4
    (out / "SC4002E0.npz").write_bytes(b"damaged")
    third = again()
    assert third[0] == second[0]
    assert load_night(out / "SC4002E0.npz").stages.size == 4
    assert again("--drop-unscored")[0] != third[0]


SHHS = [
    ("Wake|0", 2),
    ("Stage 1 sleep|1", 1),
    ("Stage 2 sleep|2", 1),
    ("Stage 3 sleep|3", 1),
    ("Stage 4 sleep|4", 1),
    ("REM sleep|5", 1),
    ("Movement|6", 1),
    ("Unscored|9", 1),
    ("Wake|0", 1),
]


def shhs_edf(folder, name, labels):
    """125 Hz, records of 1 s, among signals at other rates."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = [signal(eeg(30 * epochs_of(SHHS), 1), 1, "SaO2", "")]
    signals += [signal(eeg(30 * epochs_of(SHHS), 125, n), 125, one) for n, one in enumerate(labels)]
    return write_edf(folder / f"{name}.edf", signals, data_record_duration=1)


def test_shhs_with_both_kinds_of_xml(tmp_path):
    edfs, events = tmp_path / "in" / "edfs" / "shhs1", tmp_path / "in" / "annotations"
    events.mkdir(parents=True)
    path = shhs_edf(edfs, "shhs1-200001", ["EEG(sec)", "ECG", "EEG"])
    write_nsrr(events / "shhs1-200001-nsrr.xml", SHHS)
    shhs_edf(edfs, "shhs1-200002", ["EEG(SEC)", "ECG"])
    write_profusion(events / "shhs1-200002-profusion.xml", [0, 0, 1, 2, 3, 4, 5, 6, 9, 0])
    out = tmp_path / "out"
    assert main(["shhs", str(tmp_path / "in"), "--out", str(out)]) == 0
    first, second = load_night(out / "shhs1-200001.npz"), load_night(out / "shhs1-200002.npz")
    assert list(first.stages) == list(second.stages) == [W, W, N1, N2, N3, N3, R, -1, -1, W]
    assert (first.subject, second.subject) == ("200001", "200002")
    assert [night["channel"] for night in manifest(out)] == ["EEG", "EEG(SEC)"]
    assert same(first.samples, behind_conditioner(path, 3, 125.0))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<PSGAnnotation><ScoredEvents>", "is not XML"),
        ("<PSGAnnotation><ScoredEvents/></PSGAnnotation>", "has no sleep stages"),
        ("<html/>", "its root is html"),
        (
            "<CMPStudyConfig><SleepStages><SleepStage>12</SleepStage></SleepStages></CMPStudyConfig>",
            "'12' is no",
        ),
        ("\0\1\2", "is not XML"),
    ],
)
def test_damaged_xml_is_said_in_one_line(tmp_path, capsys, text, why):
    shhs_edf(tmp_path, "shhs1-200001", ["EEG"])
    (tmp_path / "shhs1-200001-nsrr.xml").write_text(text)
    assert main(["shhs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


def annotated(path, count=3):
    notes = [edfio.EdfAnnotation(30 * n, 30, "Sleep stage N2") for n in range(count)]
    return write_edf(path, [signal(eeg(30 * count), 100)], annotations=notes)


def test_files_by_their_annotations_or_a_hypnogram(tmp_path):
    annotated(tmp_path / "a.edf")
    for name in ("b", "c"):
        write_edf(tmp_path / f"{name}.edf", [signal(eeg(90), 100)])
    (tmp_path / "b.csv").write_text("onset,duration,label\n0,30,W\n30,60,N3\n")
    (tmp_path / "other.txt").write_text("W\nR\nR\n")
    out = ["--out", str(tmp_path / "out")]
    assert main(["files", str(tmp_path / "a.edf"), str(tmp_path / "b.edf"), "--subject", "anna", *out]) == 0
    given = ["--hypnogram", str(tmp_path / "other.txt"), "--channel", "#0"]
    assert main(["files", str(tmp_path / "c.edf"), *given, *out]) == 0
    nights = [load_night(tmp_path / "out" / f"{name}.npz") for name in "abc"]
    assert [list(night.stages) for night in nights] == [[N2] * 3, [W, N3, N3], [W, R, R]]
    assert [night.subject for night in nights] == ["anna", "anna", "c"]
    assert [night["recording"] for night in manifest(tmp_path / "out")] == ["a", "b", "c"]


def test_a_csv_recording_with_its_hypnogram(tmp_path):
    rows = "".join(f"{value:.3f}\n" for value in np.random.default_rng(0).normal(0, 20, 6000))
    (tmp_path / "n.tsv").write_text("unused")
    times = "".join(f"{n / 100:.2f},{value}" for n, value in enumerate(rows.splitlines(keepends=True)))
    (tmp_path / "n.csv").write_text("time,EEG\n" + times)
    (tmp_path / "n.hypnogram.csv").write_text("onset,duration,label\n0,60,N1\n")
    assert main(["files", str(tmp_path / "n.csv"), "--channel", "EEG", "--out", str(tmp_path / "out")]) == 0
    assert list(load_night(tmp_path / "out" / "n.npz").stages) == [N1, N1]


def test_losses_are_nan_and_a_mostly_lost_epoch_is_no_stage(tmp_path):
    onsets = [*range(35), *range(55, 110)]  # 20 s lost in the second epoch
    write_edf_d(tmp_path / "n.edf", [signal(eeg(90), 100)], onsets)
    (tmp_path / "n.hypnogram.csv").write_text("onset,duration,label\n0,120,N2\n")
    assert main(["files", str(tmp_path / "n.edf"), "--out", str(tmp_path / "out")]) == 0
    night = load_night(tmp_path / "out" / "n.npz")
    assert list(night.stages) == [N2, -1, N2]
    assert np.isnan(night.samples[3500:5500]).all()
    assert np.isfinite(night.samples[:3500]).all()
    assert np.isfinite(night.samples[5500:]).all()


def test_the_engines_own_export_comes_back(tmp_path):
    letters = "W" * 70 + "1223?2RR" + "W" * 3
    path = session(tmp_path / "s.sqlite", stages(letters), gaps=[(216_100, 218_000)])
    npz = tmp_path / "in" / "s.npz"
    assert sleepstream(["export", str(path), "--to", "npz", "--out", str(npz)]) == 0
    out = tmp_path / "out"
    assert main(["files", str(npz), "--out", str(out)]) == 0
    before, after = load_night(npz), load_night(out / "s.npz")
    assert (after.recording, after.subject) == ("s", "anna")
    assert (
        list(after.stages) == [W] * 60 + [N1, N2, -1, N3, -1, N2, R, R] + [W] * 3
    )  # the gap is in the third
    assert np.array_equal(after.samples, before.samples[30_000:], equal_nan=True)
    assert np.array_equal(after.soft, before.soft[10:])
    damaged = tmp_path / "in" / "d.npz"
    damaged.write_bytes(npz.read_bytes()[:5000])
    assert main(["files", str(damaged), "--out", str(out)]) == 1
    np.savez(damaged, samples=np.zeros(3000))
    assert main(["files", str(damaged), "--out", str(out)]) == 1
    assert main(["files", str(out / "s.npz"), "--out", str(tmp_path / "again")]) == 0
    assert np.array_equal(load_night(tmp_path / "again" / "s.npz").stages, after.stages)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["sleep-edf", "{}"], 2, "has no SC4...-PSG.edf"),
        (["shhs", "{}/none"], 2, "has no .edf file"),
        (["files", "{}/a.edf", "{}/sub/a.edf"], 2, "2 recordings are called a"),
        (["files", "{}/a.edf", "{}/b.edf", "--hypnogram", "{}/h.csv"], 2, "--hypnogram is for one"),
        (["files", "{}/out/a.npz"], 2, "would be overwritten"),
        (["files", "{}/none.edf"], 1, "No such file"),
        (["files", "{}/a.edf", "--channel", "Cz"], 1, "no channel 'Cz'; there are: EEG C3-A1"),
        (["files", "{}/a.edf", "--hypnogram", "{}/none.csv"], 1, "No such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path, capsys, arguments, code, why):
    annotated(tmp_path / "a.edf")
    given = [argument.format(tmp_path) for argument in arguments]
    assert main([*given, "--out", str(tmp_path / "out")]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


def test_a_foreign_manifest_is_left_alone(tmp_path, capsys):
    (tmp_path / "manifest.jsonl").write_text('{"mine": 1}\n')
    assert main(["files", str(annotated(tmp_path / "a.edf")), "--out", str(tmp_path)]) == 1
    assert "move the file away" in capsys.readouterr().err
    assert (tmp_path / "manifest.jsonl").read_text() == '{"mine": 1}\n'


def test_a_folder_that_refuses_ends_the_run_and_keeps_what_was_made(tmp_path, capsys):
    pair(tmp_path / "in", "SC4001E")
    pair(tmp_path / "in", "SC4002E")
    out = tmp_path / "out"
    (out / "SC4002E0.npz").mkdir(parents=True)
    assert main(["sleep-edf", str(tmp_path / "in"), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write" in line
    assert [night["recording"] for night in manifest(out)] == ["SC4001E0"]
    assert main(["sleep-edf", str(tmp_path / "in"), "--out", str(out / "manifest.jsonl")]) == 2
    assert "cannot use" in capsys.readouterr().err


@pytest.mark.parametrize("rate_hz", [100, 256])
def test_what_is_learnt_from_is_what_is_served(tmp_path, rate_hz):
    """The prepared epochs are the live engine's windows, to the bit."""
    signals = [signal(eeg(90, rate_hz, n), rate_hz, name) for n, name in enumerate(["ECG", "M1", "C4"])]
    path = write_edf(tmp_path / "n.edf", signals)
    (tmp_path / "n.csv").write_text("onset,duration,label\n0,90,N2\n")
    assert main(["files", str(path), "--channel", "C4-M1", "--out", str(tmp_path / "out")]) == 0
    recording = open_recording(path)
    chosen, info = pick(recording, "C4-M1")
    pipeline = Pipeline(info, SignalSettings(channel="C4-M1"), 30, Model.load())
    outputs = [*(one for item in recording.items(chosen) for one in pipeline.push(item)), *pipeline.flush()]
    served = [one.window.samples for one in outputs if isinstance(one, Score)]
    found = load_night(tmp_path / "out" / "n.npz").samples
    assert np.array_equal(found, np.concatenate(served).astype(np.float16))
