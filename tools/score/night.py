"""Stages one recording and makes the files of its result: the work of every worker."""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from pydantic import JsonValue

from streamer import __version__
from streamer.errors import ScoringError, SignalError, SleepstreamError, UsageError
from streamer.exports import FORMATS
from streamer.journal import Meta
from streamer.messages import EPOCH_S, STAGES, Doubt, Gap, Score, StreamInfo
from streamer.network.stager import Model
from streamer.night.hypnogram import Scoring, refuse_empty
from streamer.night.scoring.comparison import compare, format_comparison
from streamer.night.session import Night, ignore_progress
from streamer.payloads import EpochPayload, PublishedStage, make_epoch_payload, to_json, utc
from streamer.pipeline import BLOCK, Output, Pipeline
from streamer.settings import SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import single
from tools.manifest import Failed, Input, describe_input
from tools.prepare.datasets import read_expert_stages
from tools.score.outcome import Compared, Done, Options
from tools.score.recordings import ArchivedRecording

HYPNOGRAMS = {  # format -> file name in a result
    "annotations": "hypnogram.edf",
    "csv": "hypnogram.csv",
    "profusion": "hypnogram.txt",
    "json": "night.json",
}
FILES = ("epochs.jsonl", "statistics.json", "agreement.json", *HYPNOGRAMS.values())


@dataclass(frozen=True, slots=True)
class Job:
    """One recording to stage, and what is known of an earlier result."""

    recording: ArchivedRecording
    before: tuple[Input, ...] = ()  # the files of the earlier result
    keep: bool = False  # the earlier result is complete, with the same options


@dataclass(frozen=True, slots=True)
class Result:
    """The result of staging one recording."""

    entry: Done | Failed
    files: dict[str, bytes]  # empty: keep the existing files


@dataclass(frozen=True, slots=True)
class Touched:
    """The recording's files have another time or path than before, but the same content."""

    inputs: tuple[Input, ...]


Said = Result | Touched | SleepstreamError  # of a worker; an error if it cannot load the model
Outcomes = Generator[tuple[Job, Result | Touched], None, None]


def run_all(
    jobs: Sequence[Job],
    submit: Callable[[Job], Future[Said]],
    result: Callable[[Job, Future[Said]], Said],
    room: int,
) -> Outcomes:
    """Give jobs to workers, `room` at a time; yield results in the order in which they are done.

    Raises:
        ArtifactError: the model cannot be loaded.

    """
    waiting = list(reversed(jobs))
    running: dict[Future[Said], Job] = {}
    while waiting or running:
        while waiting and len(running) < room:
            job = waiting.pop()
            running[submit(job)] = job
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(done)
            said = result(job, done)
            if isinstance(said, SleepstreamError):
                raise said
            yield job, said


def stage(job: Job, asked: Options, model: Path | None) -> Said:
    """The work of a worker, with one thread: stage a recording, or return why the model cannot be loaded."""
    try:
        ready = load(model, asked.model_sha256)
    except SleepstreamError as error:
        return error
    return stage_recording(job, asked, ready)


@cache
def load(path: Path | None, sha256: str) -> Model:
    """Load the model, once per process."""
    return Model.load(path, sha256=sha256)


def stage_recording(job: Job, asked: Options, model: Model) -> Result | Touched:
    """Stage one recording; an error becomes its result, as one line."""
    recording = job.recording
    try:
        inputs = tuple(describe_input(path) for path in recording.inputs)
        if job.keep and [one.sha256 for one in inputs] == [one.sha256 for one in job.before]:
            return Touched(inputs)
        if job.before and _another(job.before[0], inputs[0]):
            raise UsageError(
                f"{recording.name} has the result of {job.before[0].path}, which is another recording; "
                "choose another --out"
            )
        return _staged(recording, inputs, asked, model)
    except SleepstreamError as error:
        said = " ".join(str(error).split())
    except Exception as error:  # one file must not stop the others
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = f"internal error {error!r} in {Path(last.filename).name}, line {last.lineno}"
    return make_failure(recording, said)


def _another(one: Input, other: Input) -> bool:
    return one.path != other.path and one.sha256 != other.sha256


def make_failure(recording: ArchivedRecording, error: str) -> Result:
    """Make the result of a recording that could not be staged; its error names the file."""
    path = str(recording.path)
    named = error if path in error else f"{path}: {error}"
    return Result(Failed(recording=recording.name, error=named, inputs=tuple(map(str, recording.inputs))), {})


def _staged(recording: ArchivedRecording, inputs: tuple[Input, ...], asked: Options, model: Model) -> Result:
    began = time.perf_counter()
    key = sha256("".join((*(one.sha256 for one in inputs), asked.model_dump_json())).encode())
    session = f"{recording.path.stem}-{key.hexdigest()[:12]}"
    night, smoothed, remarks = _night(recording, session, asked, model)
    refuse_empty(night.labels, recording.path)
    files = {
        "epochs.jsonl": "".join(f"{to_json(one)}\n" for one in night.epochs).encode(),
        "statistics.json": _statistics(night, asked).encode(),
        **_hypnograms(night, asked.formats),
    }
    compared = None
    try:
        scoring = read_expert_stages(recording.path, recording.scoring, night.started)
    except ScoringError as error:
        if recording.scoring is not None:
            raise
        scoring = Scoring()  # of the recording's own annotations, which may be ignored
        files["agreement.json"] = (json.dumps({"refused": str(error)}, indent=1) + "\n").encode()
    if any(one in STAGES for *_, one in scoring.stages):
        found = (both := compare(scoring, night.labels)).found
        compared = Compared(n=found.n, accuracy=found.accuracy, kappa=found.kappa, macro_f1=found.macro_f1)
        files["agreement.json"] = format_comparison(both, night.labels, smoothed).encode()
    done = Done(
        recording=recording.name,
        inputs=inputs,
        asked=asked,
        outputs={name: len(data) for name, data in sorted(files.items())},
        channel=night.channel,
        rate_hz=night.meta.info.rate_hz,
        started=utc(night.started),
        duration_s=round(night.duration_s, 3),
        lost_s=round(night.lost_s, 3),
        epochs=len(night.labels),
        statistics=night.statistics().to_json(),
        agreement=compared,
        took_s=round(time.perf_counter() - began, 2),
        remarks=tuple(remarks),
    )
    return Result(done, files)


def _night(
    recording: ArchivedRecording, session: str, asked: Options, model: Model
) -> tuple[Night, list[PublishedStage], list[str]]:
    """Stage a recording like `sleepstream replay`, in blocks; return also its smoothed stages and remarks.

    Raises:
        RecordingError: the file is damaged or of an unknown format.
        SignalError: the rate or the unit cannot be right for EEG.
        UsageError: the channel does not exist.

    """
    opened = open_recording(recording.path, asked.rate_hz)
    picked, info, channel = single(opened, asked.channels)
    signal = SignalSettings(channel=channel, unit=asked.unit)
    pipeline = Pipeline(info, signal, EPOCH_S, model, block=BLOCK)
    epochs: list[EpochPayload] = []
    gaps: list[Gap] = []

    def take(output: Output) -> None:
        if isinstance(output, Score):
            number = len(epochs)
            epochs.append(make_epoch_payload(output, number, session, number, info.started))
        elif isinstance(output, Gap):
            gaps.append(output)
        elif isinstance(output, Doubt):
            raise SignalError(output.text)

    stop = 0
    for item in opened.items(picked):
        stop = item.stop
        for output in pipeline.push(item):
            take(output)
    for output in pipeline.flush():
        take(output)
    night = Night(
        path=recording.path,
        meta=_meta(session, info, asked),
        channel=pipeline.label,
        epochs=tuple(epochs),
        labels=tuple(epoch.stage for epoch in epochs),
        gaps=tuple(gaps),
        events=(),
        n_samples=stop,
        lights_off=0,
        lights_on=len(epochs),
        ended=True,
    )
    return night, [epoch.smoothed for epoch in epochs], opened.remarks


def _meta(session: str, info: StreamInfo, asked: Options) -> Meta:
    settings: dict[str, JsonValue] = {"signal": {"channel": list(asked.channels) or None, "unit": asked.unit}}
    return Meta(
        session, "archive", info.name, info, asked.model_sha256, settings, {"sleepstream": __version__}
    )


def _statistics(night: Night, asked: Options) -> str:
    """The content of statistics.json."""
    said = {
        "session": night.meta.session,
        "model_sha256": asked.model_sha256,
        "channel": night.channel,
        "rate_hz": night.meta.info.rate_hz,
        "started": utc(night.started).isoformat(),
        "duration_s": night.duration_s,
        "epochs": len(night.labels),
        "gaps": [{"start": gap.start, "stop": gap.stop, "reason": gap.reason} for gap in night.gaps],
        "statistics": night.statistics().described(),
    }
    return json.dumps(said, indent=1) + "\n"


def _hypnograms(night: Night, formats: tuple[str, ...]) -> dict[str, bytes]:
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in formats:
            path = Path(folder) / HYPNOGRAMS[name]
            FORMATS[name][1](night, path, ignore_progress)
            files[path.name] = path.read_bytes()
    return files
