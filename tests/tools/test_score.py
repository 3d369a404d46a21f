"""An archive staged: what each recording gets, what a second call does, and how it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from pathlib import Path

import edfio
import numpy as np
import pytest
from rich.console import Console

from streamer.cli import main as sleepstream
from streamer.errors import ArtifactError, RecordingError, UsageError
from streamer.network.trust import PACKAGED, recorded
from streamer.night.scoring import read_scoring
from tests.paths import default_model, eeg
from tests.recording_files import signal as edf_signal
from tests.recording_files import write_edf as plain_edf
from tests.test_cli import write_edf
from tools.manifest import Failed
from tools.score import processes
from tools.score.__main__ import main
from tools.score.archive import fill
from tools.score.night import Job, stage_recording
from tools.score.outcome import Done, Options, manifest_of
from tools.score.recordings import ArchivedRecording, find

ASKED = Options(model_sha256=recorded(PACKAGED))
STAGES = ["W", "N1", "N2", "N3", "R", "?", "N2", "N2", "N2", "W"]


def here(asked=ASKED):
    """Do the work in this process."""

    def crew(jobs):
        for job in jobs:
            yield job, stage_recording(job, asked, default_model())

    return crew


def run(folder, pattern="*.edf", asked=ASKED, out=None):
    """Stage `folder` into `folder`/out; how it went, and the entries."""
    out = out or folder / "out"
    recordings, refused = find([str(folder / pattern)], out)
    with manifest_of(out) as manifest:
        tally = fill(manifest, recordings, refused, asked, here(asked), Console(quiet=True))
        return (tally.staged, tally.there, tally.failed), dict(manifest.entries)


def lines(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def results(out):
    """Every file of every result, to the byte."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parent != out
    }


@pytest.fixture
def archive(tmp_path):
    """Two recordings, one of them scored in itself, and a file that is none."""
    write_edf(tmp_path / "a.edf", eeg(300, 200), rate=200, stages=STAGES)
    write_edf(tmp_path / "b.edf", eeg(95, 100, seed=1))
    (tmp_path / "c.edf").write_text("this is not an EDF file\n" * 100)
    return tmp_path


def test_each_recording_has_what_replay_gives_it(archive):
    tally, entries = run(archive)
    assert tally == (2, 0, 1)
    assert sleepstream(["replay", str(archive / "a.edf"), "--out", str(archive / "live")]) == 0
    found, live = (
        [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
        for folder in (archive / "out" / "a", archive / "live")
    )
    assert len(found) == 10
    for one, other in zip(found, live, strict=True):
        given, expected = one.pop("probabilities"), other.pop("probabilities")
        assert given == pytest.approx(expected, abs=2e-5)
        assert one.pop("confidence") == pytest.approx(other.pop("confidence"), abs=2e-5)
        assert {**one, "session": ""} == {**other, "session": ""}
    agreement = (archive / "out" / "a" / "agreement.json").read_bytes()
    assert agreement == (archive / "live" / "agreement.json").read_bytes()
    assert entries["a"].agreement.n == json.loads(agreement)["n"] == 9
    statistics = json.loads((archive / "out" / "a" / "statistics.json").read_text())
    assert statistics["channel"] == "EEG Fpz-Cz"
    assert {key: one["value"] for key, one in statistics["statistics"].items()} == entries["a"].statistics


def test_the_manifest_says_what_came_of_each(archive):
    run(archive)
    a, b, c = lines(archive / "out")
    assert [one["status"] for one in (a, b, c)] == ["done", "done", "failed"]
    assert (a["epochs"], a["rate_hz"], a["duration_s"], b["epochs"]) == (10, 200.0, 300.0, 3)
    assert b["agreement"] is None
    assert a["inputs"][0]["bytes"] == (archive / "a.edf").stat().st_size
    assert a["outputs"] == {one: (archive / "out" / "a" / one).stat().st_size for one in a["outputs"]}
    assert "not an EDF" in c["error"]
    assert not (archive / "out" / "c").exists()


def test_what_is_done_and_unchanged_is_not_done_again(archive):
    run(archive)
    before = results(archive / "out")
    times = [path.stat().st_mtime_ns for path in (archive / "out" / "a").iterdir()]
    assert run(archive)[0] == (0, 2, 1)
    os.utime(archive / "a.edf")  # another time, the same content
    tally, entries = run(archive)
    assert tally == (0, 2, 1)
    assert entries["a"].inputs[0].mtime_ns == (archive / "a.edf").stat().st_mtime_ns
    assert [path.stat().st_mtime_ns for path in (archive / "out" / "a").iterdir()] == times
    assert results(archive / "out") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda archive: write_edf(archive / "a.edf", eeg(300, 200, seed=5), rate=200),
        lambda archive: (archive / "a.csv").write_text("W\nN1\nN2\n"),
        lambda archive: (archive / "out" / "a" / "epochs.jsonl").write_text("half"),
        lambda archive: (archive / "out" / "a" / "statistics.json").unlink(),
    ],
    ids=["recording", "scoring", "result cut short", "result gone"],
)
def test_what_has_changed_is_done_again(archive, change):
    run(archive)
    change(archive)
    assert run(archive)[0] == (1, 1, 1)
    assert run(archive)[0] == (0, 2, 1)


def test_another_question_is_another_answer(archive):
    run(archive)
    formats = ("annotations", "csv", "json", "profusion")
    asked = Options(model_sha256=recorded(PACKAGED), formats=formats)
    assert run(archive, asked=asked)[0] == (2, 0, 1)
    names = {path.name for path in (archive / "out" / "a").iterdir()}
    assert {"hypnogram.edf", "hypnogram.csv", "hypnogram.txt", "night.json"} < names
    given = [json.loads(line)["stage"] for line in (archive / "out/a/epochs.jsonl").read_text().splitlines()]
    started = json.loads((archive / "out/a/night.json").read_text())["meta"]["info"]["started"]
    assert list(read_scoring(archive / "out/a/hypnogram.edf", started).labels(10)) == given
    assert run(archive)[0] == (2, 0, 1)
    assert "hypnogram.edf" not in {path.name for path in (archive / "out" / "a").iterdir()}


def test_the_manifest_says_what_of_a_recording_was_left_out(archive):
    path = archive / "b.edf"
    path.write_text("\n".join(["time,Cz,note", *(f"{n / 100:.2f},{n % 40},x" for n in range(9500))]) + "\n")
    path.rename(archive / "b.csv")
    tally, entries = run(archive, "*.csv")
    assert tally == (1, 0, 0)
    assert entries["b"].remarks == ("columns left out because they do not hold numbers: 'note'",)


def test_a_failed_one_is_tried_again(archive):
    run(archive)
    write_edf(archive / "c.edf", eeg(60, 100))
    assert run(archive)[0] == (1, 2, 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: write_edf(path, eeg(60, 100) * 0), "flat"),
        (lambda path: write_edf(path, eeg(20, 100)), "shorter than one epoch"),
        (lambda path: write_edf(path, eeg(60, 100) * 1e-6, limit=4e-3), "unit V"),
        (lambda path: write_edf(path, eeg(60, 20), rate=20), "x.edf: no channel is clearly EEG"),
        (lambda path: path.write_bytes(b""), "empty"),
    ],
    ids=["flat", "short", "unit", "rate", "empty"],
)
def test_what_is_no_night_is_one_line_and_no_result(tmp_path, make, says):
    make(tmp_path / "x.edf")
    tally, entries = run(tmp_path)
    assert tally == (0, 0, 1)
    assert says in entries["x"].error
    assert "\n" not in entries["x"].error
    assert results(tmp_path / "out") == {}


def test_own_stages_that_cannot_be_compared_cost_the_comparison_alone(tmp_path):
    notes = [edfio.EdfAnnotation(20 * k, 20, "Sleep stage N2") for k in range(4)]
    plain_edf(tmp_path / "a.edf", [edf_signal(eeg(90, 100)[0], 100)], annotations=notes)
    assert run(tmp_path)[0] == (1, 0, 0)
    assert "such as 20 s" in json.loads((tmp_path / "out" / "a" / "agreement.json").read_text())["refused"]


def test_a_fault_of_ours_in_one_file_is_said_and_stops_no_other(archive):
    class Broken:
        network = None
        device = None

    job = Job(find([str(archive / "a.edf")], archive / "out")[0][0])
    result = stage_recording(job, ASKED, Broken())
    assert isinstance(result.entry, Failed)
    assert "internal error" in result.entry.error
    assert "pipeline.py, line" in result.entry.error


def test_names_are_places_below_the_wildcard(tmp_path):
    for place in ("s1/night.edf", "s2/night.edf", "s2/night.bdf", "out/old.edf", "s1/night.csv"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    recordings, refused = find([str(tmp_path / "*" / "*")], tmp_path / "out")
    assert [(one.name, one.path.name) for one in recordings] == [("s1/night", "night.edf")]
    assert recordings[0].scoring == tmp_path / "s1/night.csv"  # which is no recording of its own
    assert list(refused) == ["s2/night"]
    assert "night.bdf" in refused["s2/night"]
    assert [one.name for one in find([str(tmp_path / "**/*.edf")], tmp_path / "out")[0]] == [
        "s1/night",
        "s2/night",
    ]
    assert [one.name for one in find([str(tmp_path / "s1/night.edf")], tmp_path / "out")[0]] == ["night"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "n1.edf").symlink_to(tmp_path / "s1" / "night.edf")
    (linked,) = find([str(tmp_path / "links/*.edf")], tmp_path / "out")[0]
    assert (linked.name, linked.path) == ("n1", tmp_path / "links" / "n1.edf")
    with pytest.raises(UsageError, match="no file matches"):
        find([str(tmp_path / "*.xdf")], tmp_path / "out")


def test_a_result_is_never_replaced_by_that_of_another_recording(tmp_path):
    for place, seed in (("one", 0), ("two", 1)):
        (tmp_path / place).mkdir()
        write_edf(tmp_path / place / "night.edf", eeg(60, 100, seed))
    run(tmp_path / "one", out=tmp_path / "out")
    before = results(tmp_path / "out")
    tally, entries = run(tmp_path / "two", out=tmp_path / "out")
    assert tally == (0, 0, 1)
    assert "which is another recording" in entries["night"].error
    assert results(tmp_path / "out") == before


def test_a_torn_line_is_forgotten_and_a_foreign_file_refused(tmp_path):
    (tmp_path / "manifest.jsonl").write_text("")
    with manifest_of(tmp_path) as manifest:
        manifest.add(Failed(recording="b", error="x"))
        manifest.add(Failed(recording="a", error="y"))
        manifest.add(Failed(recording="b", error="z"))
        whole = (tmp_path / "manifest.jsonl").read_bytes()
        assert whole.count(b"\n") == 3  # on the disk before the run ends
    assert [(one["recording"], one["error"]) for one in lines(tmp_path)] == [("a", "y"), ("b", "z")]
    (tmp_path / "manifest.jsonl").write_bytes(whole[:-20])
    with manifest_of(tmp_path) as manifest:
        assert {name: entry.error for name, entry in manifest.entries.items()} == {"b": "x", "a": "y"}
    (tmp_path / "manifest.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(RecordingError, match="line 1, is not of a manifest"), manifest_of(tmp_path):
        pass
    assert (tmp_path / "manifest.jsonl").read_text() == '{"mine": 1}\n'


def test_one_process_at_a_time_fills_a_folder(tmp_path):
    with manifest_of(tmp_path), pytest.raises(UsageError, match="being filled"), manifest_of(tmp_path):
        pass
    with manifest_of(tmp_path):
        pass


@pytest.mark.slow
def test_processes_give_the_same_files_and_outlive_one_that_dies(archive):
    """One recording is a pipe: its worker waits for it, is killed there, and the others are staged."""
    os.mkfifo(archive / "f.edf")
    recordings, _ = find([str(archive / "*.edf")], archive / "out")
    stuck = ArchivedRecording("f", archive / "f.edf", None)

    def kill():
        with (archive / "f.edf").open("wb"):  # returns when the worker has it open
            for process in active_children():
                os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with manifest_of(archive / "out") as manifest:
        fill(
            manifest,
            [stuck, *recordings],
            {},
            ASKED,
            lambda jobs: processes.stage_all(jobs, ASKED, None, 1),
            Console(quiet=True),
        )
        entries = dict(manifest.entries)
    killer.join()
    assert "died; too little memory?" in entries["f"].error
    assert [entries[name].status for name in "abc"] == ["done", "done", "failed"]
    assert active_children() == []
    run(archive, out=archive / "again")
    assert results(archive / "out") == results(archive / "again")


def test_a_process_that_died_before_it_is_given_a_recording_costs_none(archive, monkeypatch):
    class Dead(ThreadPoolExecutor):
        def submit(self, *_):
            raise BrokenProcessPool

    workers = [Dead(1), ThreadPoolExecutor(1)]
    monkeypatch.setattr(processes, "_open_worker", lambda: workers.pop(0))
    recordings, _ = find([str(archive / "[ab].edf")], archive / "out")
    found = processes.stage_all([Job(one) for one in recordings], ASKED, None, 1)
    assert [result.entry.status for _, result in found] == ["done", "done"]


@pytest.mark.slow
def test_a_model_that_cannot_be_used_ends_the_run(archive):
    wrong = ASKED.model_copy(update={"model_sha256": "0" * 64})
    job = Job(find([str(archive / "a.edf")], archive / "out")[0][0])
    with pytest.raises(ArtifactError, match="sha256 is"):
        list(processes.stage_all([job], wrong, PACKAGED, 1))
    assert active_children() == []


COMMAND = [sys.executable, "-m", "tools.score"]


def started(folder, *arguments):
    """The command on its own process group, one line further than its first failure; its workers."""
    process = subprocess.Popen(
        [*COMMAND, str(folder / "*.edf"), "--out", str(folder / "out"), "--processes", "1", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said = process.stderr.readline()
    assert "b.edf is not an EDF" in said, said + process.stderr.read()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, [os.pidfd_open(int(child)) for child in children]


def gone(process):
    """Whether it ends within some seconds, told by the system and not by waiting."""
    return bool(select.select([process], [], [], 30)[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_or_killed_loses_nothing_and_goes_on(tmp_path, number):
    write_edf(tmp_path / "a.edf", eeg(60, 100))
    (tmp_path / "b.edf").write_text("no recording\n" * 100)
    for name in "cd":
        write_edf(tmp_path / f"{name}.edf", np.tile(eeg(600, 100), 12))  # 2 h
    process, workers = started(tmp_path)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert all(gone(worker) for worker in workers)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert said.splitlines()[-1].startswith("interrupted; the same command continues")
    assert "Traceback" not in said
    with manifest_of(tmp_path / "out") as manifest:
        done = [name for name, entry in manifest.entries.items() if isinstance(entry, Done)]
        assert "a" in done
        assert len(done) < 3
    tally, _ = run(tmp_path)
    assert tally == (3 - len(done), len(done), 1)
    assert {path.split("/")[0] for path in results(tmp_path / "out")} == set("acd")


@pytest.mark.slow
@pytest.mark.timeout(300)  # Ray begins several processes before it does anything
def test_a_ray_cluster_gives_the_same_files(archive):
    """A real one, of two processors, on this machine."""
    command = [*COMMAND, str(archive / "*.edf"), "--out", str(archive / "out"), "--ray", "local"]
    ended = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=280)
    assert ended.returncode == 1, ended.stderr
    assert "2 recordings staged, 0 there already, 1 failed" in ended.stdout
    assert ended.stderr.count("\n") == 1, ended.stderr  # the one failure
    _, entries = run(archive, out=archive / "again")
    assert results(archive / "out") == results(archive / "again")
    for one, name in zip(lines(archive / "out"), "abc", strict=True):
        same = entries[name].model_dump(mode="json", by_alias=True)
        for entry in (one, same):
            entry.pop("took_s", None)
            entry.pop("schema", None)
            entry.pop("finished")
        assert one == same


def test_the_command_says_how_it_went(archive, capsys):
    run(archive)
    assert main([str(archive / "[ab].edf"), "--out", str(archive / "out")]) == 0
    assert "0 recordings staged, 2 there already, 0 failed" in capsys.readouterr().out
    assert main([str(archive / "none*.edf"), "--out", str(archive / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([str(archive / "a.edf"), "--out", str(archive / "new"), "--model", "no.pt"]) == 1
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([str(archive / "a.edf"), "--out", str(archive / "out"), "--processes", "0"])
    assert caught.value.code == 2
