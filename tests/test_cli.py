"""The commands as a person runs them: what they write, what they say, how they end."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
from datetime import datetime

import edfio
import numpy as np
import pytest

from streamer.cli import main
from tests.paths import eeg

COMMAND = [sys.executable, "-c", "import sys; from streamer.cli import main; sys.exit(main())"]


def write_edf(path, samples, rate=100, label="EEG Fpz-Cz", unit="uV", stages=(), limit=4000.0):
    signals = [
        edfio.EdfSignal(
            np.asarray(one),
            rate,
            label=f"{label}{i or ''}",
            physical_dimension=unit,
            physical_range=(-limit, limit),
        )
        for i, one in enumerate(samples)
    ]
    annotations = [edfio.EdfAnnotation(30.0 * k, 30.0, f"Sleep stage {s}") for k, s in enumerate(stages)]
    edfio.Edf(
        signals,
        annotations=annotations or None,
        recording=edfio.Recording(startdate=datetime(2020, 1, 2).date()),
        starttime=datetime(2020, 1, 2, 22, 30).time(),
    ).write(path)
    return path


def epochs(folder):
    return [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]


def fails(capsys, code, *arguments):
    """The one line that a failing command says."""
    assert main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr().err
    assert said.startswith("sleepstream: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


def test_replay_writes_epochs_session_and_agreement(tmp_path):
    stages = ["W", "N1", "N2", "N3", "R", "?", "N2", "N2", "N2", "W"]
    file = write_edf(tmp_path / "night.edf", eeg(300, 200), rate=200, stages=stages)
    assert main(["replay", str(file), "--speed", "max", "--out", str(tmp_path / "out")]) == 0
    lines = epochs(tmp_path / "out")
    assert [line["epoch"] for line in lines] == list(range(10))
    assert [line["seq"] for line in lines] == list(range(10))
    assert lines[0]["t_start"] == "2020-01-02T22:30:00Z"
    assert lines[9]["t_end"] == "2020-01-02T22:35:00Z"
    agreement = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert agreement["n"] == 9
    assert {"accuracy", "kappa", "macro_f1", "confusion"} <= set(agreement)
    assert sum(map(sum, agreement["confusion"])) == 9
    with sqlite3.connect(tmp_path / "out" / "session.sqlite") as db:
        assert db.execute("SELECT count(*) FROM epochs").fetchone() == (10,)
        assert db.execute("SELECT sum(n) FROM samples").fetchone() == (60_000,)


def test_replay_gives_the_same_epochs_at_any_speed(tmp_path):
    file = write_edf(tmp_path / "night.edf", eeg(90, 100))
    for speed, out in (("max", "a"), ("400", "b")):
        assert main(["replay", str(file), "--speed", speed, "--out", str(tmp_path / out)]) == 0
    one, other = epochs(tmp_path / "a"), epochs(tmp_path / "b")
    assert [{**e, "session": ""} for e in one] == [{**e, "session": ""} for e in other]


def test_replay_never_overwrites_a_session(tmp_path, capsys):
    file = write_edf(tmp_path / "night.edf", eeg(60, 100))
    assert main(["replay", str(file), "--out", str(tmp_path / "out")]) == 0
    before = (tmp_path / "out" / "epochs.jsonl").read_bytes()
    assert "not overwritten" in fails(capsys, 2, "replay", file, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "epochs.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "expected", "code"),
    [
        (lambda p: p.unlink(), "no such file", 1),
        (lambda p: p.write_bytes(b""), "", 1),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(3000)), "", 1),
        (lambda p: p.write_text("this is not an EDF file\n" * 100), "", 1),
        (lambda p: p.write_bytes(p.read_bytes()[:-5000]), "", 1),
        (lambda p: p.write_bytes(p.read_bytes()[:200]), "", 1),
    ],
    ids=["missing", "empty", "zip", "text", "truncated", "half a header"],
)
def test_a_file_that_is_no_whole_recording(tmp_path, capsys, spoil, expected, code):
    file = write_edf(tmp_path / "night.edf", eeg(90, 100))
    spoil(file)
    said = fails(capsys, code, "replay", file, "--out", tmp_path / "out")
    assert "night.edf" in said
    assert expected in said.lower()


def test_an_unknown_channel_lists_those_there_are(tmp_path, capsys):
    file = write_edf(tmp_path / "night.edf", np.concatenate([eeg(60, 100)] * 3))
    said = fails(capsys, 2, "replay", file, "--channel", "C4-M1", "--out", tmp_path / "out")
    assert "C4-M1" in said
    assert "Fpz-Cz" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rate", [20, 2000])
def test_a_rate_out_of_range_is_refused(tmp_path, capsys, rate):
    file = write_edf(tmp_path / "night.edf", eeg(60, rate), rate=rate)
    said = fails(capsys, 1, "replay", file, "--channel", "Fpz-Cz", "--out", tmp_path / "out")
    assert f"{rate} Hz" in said


@pytest.mark.parametrize(("factor", "limit", "unit"), [(1e-6, 4e-3, "V"), (1e3, 4e6, "nV")])
def test_amplitudes_that_cannot_be_microvolts_name_the_likely_unit(tmp_path, capsys, factor, limit, unit):
    file = write_edf(tmp_path / "night.edf", eeg(60, 100) * factor, limit=limit)
    assert f"unit {unit}" in fails(capsys, 1, "replay", file, "--out", tmp_path / "out")
    assert main(["replay", str(file), "--unit", unit, "--out", str(tmp_path / "again")]) == 0


def test_a_flat_channel_is_no_result(tmp_path, capsys):
    file = write_edf(tmp_path / "night.edf", eeg(90, 100) * 0)
    assert "flat" in fails(capsys, 1, "replay", file, "--out", tmp_path / "out")
    assert {line["stage"] for line in epochs(tmp_path / "out")} == {"unscored"}


def test_a_recording_shorter_than_an_epoch_is_no_result(tmp_path, capsys):
    file = write_edf(tmp_path / "night.edf", eeg(20, 100))
    assert "shorter than one epoch" in fails(capsys, 1, "replay", file, "--out", tmp_path / "out")


def test_not_a_number_is_lost_and_not_guessed(tmp_path):
    samples = eeg(120, 100)[0]
    samples[3100:3700] = np.nan
    lines = ["time,EEG"] + [f"{k / 100:.2f},{value}" for k, value in enumerate(samples)]
    (tmp_path / "night.csv").write_text("\n".join(lines))
    assert (
        main(["replay", str(tmp_path / "night.csv"), "--channel", "EEG", "--out", str(tmp_path / "out")]) == 0
    )
    found = epochs(tmp_path / "out")
    assert [line["stage"] == "unscored" for line in found] == [False, True, False, False]
    assert found[1]["quality"]["lost_fraction"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "arguments",
    [[], ["sleep"], ["replay"], ["replay", "x.edf", "--speed", "fast"], ["replay", "x", "--speed", "-1"]],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_missing_and_a_misspelt_config(tmp_path, capsys):
    assert "cannot read settings" in fails(capsys, 2, "run", tmp_path / "none.toml")
    (tmp_path / "c.toml").write_text('[[stream]]\nhopp_s = 3\n[stream.source]\nkind = "simulated"\n')
    assert "did you mean 'hop_s'" in fails(capsys, 2, "run", tmp_path / "c.toml")


def test_the_demo_ends_with_statistics_and_agreement(tmp_path, capsys):
    arguments = ["demo", "--hours", "0.5", "--speed", "max", "--out", str(tmp_path)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    port = re.search(r"mosquitto_sub -h 127.0.0.1 -p (\d+)", said)
    assert port is not None
    assert "MQTT 3.1.1: connected" in said
    assert "60 epochs, accuracy" in said
    assert "SOL" in said
    (session,) = tmp_path.glob("*.sqlite")
    assert re.search(r"live page: http://127\.0\.0\.1:\d+/", said)
    assert f"report: {session.with_suffix('.html')}" in said


def _running(tmp_path, toml):
    (tmp_path / "config.toml").write_text(toml)
    process = subprocess.Popen(
        [*COMMAND, "run", str(tmp_path / "config.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "sleeper W" in line or re.search(r"sleeper \d\d:", line):
            return process
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_drains_and_exits_soon_after_a_signal(tmp_path, number):
    process = _running(
        tmp_path,
        f"""
        session_dir = "{tmp_path}"
        [mqtt]
        port = 1
        [jsonl]
        path = "{tmp_path}/epochs.jsonl"
        [[stream]]
        hop_s = 1
        [stream.source]
        kind = "simulated"
        speed = 60
        """,
    )
    process.send_signal(number)
    _, err = process.communicate(timeout=60)  # the promise is 3 s; a loaded machine may take longer
    assert process.returncode == 0, err
    assert "Traceback" not in err
    (session,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(session) as db:
        kept = db.execute("SELECT count(*) FROM epochs").fetchone()[0]
        events = [name for (name,) in db.execute("SELECT event FROM events ORDER BY seq")]
        waiting = db.execute("SELECT count(*) FROM outbox WHERE kind = 'epoch'").fetchone()[0]
    assert kept == len(epochs(tmp_path)) == waiting
    assert events[0] == "session_started"
    assert events[-1] == "session_ended"
