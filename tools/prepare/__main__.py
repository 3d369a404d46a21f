"""Prepares scored recordings for `model.train` and `tools.evaluate`.

    python -m tools.prepare sleep-edf DIR --out OUT
    python -m tools.prepare shhs DIR --out OUT
    python -m tools.prepare files night.edf --channel C4-M1 --hypnogram night.csv --out OUT

Every signal passes the engine's derivation and conditioner (100 Hz, 0.3-35 Hz, causal) from its first sample
on, as it would live. Then the usual rules for Sleep-EDF apply: 30 min of wake are kept on either side of
sleep, stage 4 is N3, movement and unscored epochs have no stage. OUT gets one npz per night
(`model.data.load_night`) and manifest.jsonl. Nights that were prepared before from the same input are kept.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from model.data import UNSCORED, PreparedNight, load_night, save_night
from streamer import __version__, frontend
from streamer.channels import choose
from streamer.conditioner import BAND_HZ
from streamer.errors import RecordingError, SignalError, SinkError, SleepstreamError, UsageError
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, RATE_HZ, STAGES
from streamer.quality import LEAST_REAL
from streamer.settings import SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import single
from tools.command import make_parser
from tools.manifest import Entry, Failed, Frozen, Input, Manifest, describe_input, is_complete
from tools.prepare.datasets import (
    ScoredRecording,
    find_scoring,
    find_shhs,
    find_sleep_edf,
    list_files,
    read_expert_stages,
)

WAKE_MIN = 30  # kept on either side of sleep
WAKE_EPOCHS = WAKE_MIN * 60 // EPOCH_S
LARGEST_UV = float(np.finfo(np.float16).max)  # prepared nights are float16


class Rules(Frozen):
    """What determines a prepared night besides its input; nights of another version are prepared again."""

    channels: tuple[str, ...]  # wanted ones, best first; empty: chosen by the labels
    subject: str  # wanted one; "": as in the file
    drop_unscored: bool
    wake_min: int  # of wake kept on either side of sleep
    band_hz: tuple[float, float] = BAND_HZ
    rate_hz: int = RATE_HZ
    sleepstream: str = __version__


class Made(Entry):
    """One prepared night."""

    status: Literal["done"] = "done"
    subject: str
    inputs: tuple[Input, ...]  # the signal, then its scoring if that is a separate file
    outputs: dict[str, int]  # file in the folder -> size
    rules: Rules
    channel: str
    rate_hz: float  # of the recording
    stages: dict[str, int]  # number of epochs of each, unscored ones included


class Conditioned(NamedTuple):
    """One derivation, as the network sees it."""

    samples: NDArray[np.float32]  # (n,) µV at 100 Hz; NaN where lost
    channel: str
    rate_hz: float  # of the recording
    started: float  # Unix time of sample 0


# -- one night -----------------------------------------------------------------------------------------------


def read_conditioned(path: Path, channels: Sequence[str]) -> Conditioned:
    """Read a recording's derivation, conditioned by the engine's own code.

    Raises:
        RecordingError: the file is missing or damaged.
        SignalError: the rate is outside 50-1024 Hz, or the channel has no signal.
        UsageError: the channel does not exist.

    """
    recording = open_recording(path)
    picked, info, wanted = single(recording, channels)
    samples = frontend.condition(recording.items(picked), info, SignalSettings(channel=wanted))
    label = choose(info.channels, wanted).label
    if not np.nan_to_num(samples).any():
        raise SignalError(f"{path}: channel {label!r} is flat or lost throughout; name another")
    return Conditioned(samples, label, info.rate_hz, info.started)


def apply_rules(night: PreparedNight, drop_unscored: bool) -> PreparedNight:
    """Keep 30 min of wake on either side of sleep; unscore epochs with less than 90 % of their samples.

    The 30 min are counted in scored epochs, as by A. Supratak for DeepSleepNet, whose preparation removes
    unscored epochs first and is behind the published counts. There, of the 153 nights of Sleep-EDF-78, 151
    begin and 145 end with exactly 60 epochs of wake.

    Raises:
        RecordingError: no sleep was scored.

    """
    scored = np.flatnonzero(night.stages != UNSCORED)
    asleep = np.flatnonzero(night.stages[scored] > STAGES.index("W"))  # indices into `scored`
    if not asleep.size:
        raise RecordingError(f"{night.recording}: no epoch was scored as sleep, so it is left out")
    kept = np.zeros(night.stages.size, dtype=np.bool_)
    first, last = max(0, asleep[0] - WAKE_EPOCHS), min(scored.size - 1, asleep[-1] + WAKE_EPOCHS)
    kept[scored[first] : scored[last] + 1] = True
    epochs = night.samples.reshape(-1, EPOCH_SAMPLES)
    stages = np.where(np.isfinite(epochs).mean(1) < LEAST_REAL, np.int8(UNSCORED), night.stages)
    if drop_unscored:
        kept &= stages != UNSCORED
    return replace(
        night,
        samples=epochs[kept].reshape(-1),
        stages=stages[kept],
        soft=None if night.soft is None else night.soft[kept],
    )


def read_recording(job: ScoredRecording, scoring: Path | None) -> tuple[PreparedNight, str, float]:
    """Read a whole recording, before the rules; return it with its channel and its rate in Hz."""
    signal = read_conditioned(job.signal, job.channels)
    n_epochs = signal.samples.size // EPOCH_SAMPLES
    found = read_expert_stages(job.signal, scoring, signal.started)
    if found.unknown:  # the user must know, before a network is trained on the night
        words = ", ".join(f"{word!r} ({count})" for word, count in found.unknown.items())
        print(f"{job.recording}: not understood as a sleep stage, left unscored: {words}", file=sys.stderr)
    labels = found.labels(n_epochs)
    stages = np.array([STAGES.index(one) if one in STAGES else UNSCORED for one in labels], dtype=np.int8)
    samples = np.clip(signal.samples[: n_epochs * EPOCH_SAMPLES], -LARGEST_UV, LARGEST_UV)
    night = PreparedNight(job.recording, job.subject, samples.astype(np.float16), stages)
    return night, signal.channel, signal.rate_hz


def read_npz(job: ScoredRecording) -> PreparedNight:
    """Read a night that `sleepstream export --to npz` wrote, or a prepared one.

    Raises:
        RecordingError: the file is damaged, or something else.

    """
    if not is_zipfile(job.signal):
        raise RecordingError(f"{job.signal} is not an npz file; export it again")
    try:
        night = load_night(job.signal)
        return replace(night, recording=job.recording, subject=job.subject or night.subject)
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise RecordingError(f"{job.signal} is damaged ({error}); export it again") from error


def make(job: ScoredRecording, out: Path, before: Made | Failed | None, drop_unscored: bool) -> Made:
    """Prepare one night, unless it was prepared before.

    Raises:
        RecordingError, SignalError, UsageError: this recording cannot be prepared.
        SinkError: the folder cannot be written.

    """
    ready = job.signal.suffix.lower() == ".npz"
    scoring = None if ready else find_scoring(job)
    inputs = tuple(describe_input(path) for path in (job.signal, scoring) if path is not None)
    rules = Rules(channels=job.channels, subject=job.subject, drop_unscored=drop_unscored, wake_min=WAKE_MIN)
    if isinstance(before, Made) and before.rules == rules and is_complete(before.outputs, out):
        now, then = ([one.sha256 for one in files] for files in (inputs, before.inputs))
        if now == then:
            return before.model_copy(update={"inputs": inputs})
    if ready:
        night, channel, rate_hz = read_npz(job), "", float(RATE_HZ)
    else:
        night, channel, rate_hz = read_recording(job, scoring)
    night = apply_rules(night, drop_unscored)
    path = out / f"{job.recording}.npz"
    try:
        save_night(path, night)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    counts = Counter(STAGES[stage] if stage != UNSCORED else "unscored" for stage in night.stages.tolist())
    return Made(
        recording=night.recording,
        subject=night.subject,
        inputs=inputs,
        outputs={path.name: path.stat().st_size},
        rules=rules,
        channel=channel,
        rate_hz=rate_hz,
        stages={label: counts[label] for label in (*STAGES, "unscored")},
    )


# -- all nights ----------------------------------------------------------------------------------------------


def prepare(jobs: Sequence[ScoredRecording], out: Path, drop_unscored: bool, console: Console) -> int:
    """Prepare every night, and print what the folder has then; return the number of those that failed.

    A recording that cannot be prepared is reported and does not stop the others. Each outcome is in the
    manifest before the next recording is read, so that an interrupted run can continue.

    Raises:
        UsageError: two recordings would have the same output, an output is an input, or the folder cannot be
            created.
        RecordingError: the folder's manifest is damaged.
        SinkError: the folder cannot be written.

    """
    _check_outputs(jobs, out)
    failed = 0
    with (
        Manifest(out, "sleepstream/prepared/1", Made) as manifest,
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        for job in progress.track(jobs, description="nights"):
            try:
                manifest.add(make(job, out, manifest.entries.get(job.recording), drop_unscored))
            except (RecordingError, SignalError, UsageError) as error:
                failed += 1
                manifest.add(Failed(recording=job.recording, error=str(error)))
                console.print(str(error), soft_wrap=True, markup=False, highlight=False)
    nights = [entry for entry in manifest.entries.values() if isinstance(entry, Made)]
    counts = sum((Counter(night.stages) for night in nights), Counter[str]())
    epochs = ", ".join(f"{label} {counts[label]:,}" for label in (*STAGES, "unscored"))
    print(f"{out} has {len(nights)} nights, epochs: {epochs}" + (f"; {failed} failed" if failed else ""))
    return failed


def _check_outputs(jobs: Sequence[ScoredRecording], out: Path) -> None:
    """Refuse to overwrite an input, or one night by another."""
    name, times = Counter(job.recording for job in jobs).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{times} recordings are called {name}, but names must differ; rename them")
    outputs = {(out / f"{job.recording}.npz").resolve() for job in jobs}
    for job in jobs:
        if job.signal.resolve() in outputs:
            raise UsageError(f"{job.signal} would be overwritten by its own night; choose another --out")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("prepare", __doc__)
    commands = parser.add_subparsers(dest="kind", required=True)
    edf = commands.add_parser(
        "sleep-edf", help="Sleep-EDF Expanded: SC4001E0-PSG.edf, SC4001EC-Hypnogram.edf"
    )
    edf.add_argument("folder", type=Path)
    xml = commands.add_parser(
        "shhs", help="SHHS: shhs1-200001.edf and shhs1-200001-nsrr.xml (or -profusion.xml)"
    )
    xml.add_argument("folder", type=Path)
    named = commands.add_parser(
        "files", help="EDF, BDF, XDF or CSV with a scoring; or npz from sleepstream export"
    )
    named.add_argument("files", type=Path, nargs="+")
    named.add_argument(
        "--hypnogram", type=Path, help="EDF+, CSV, text or XML (default: in or beside the file)"
    )
    named.add_argument("--subject", help="person of these nights (default: one per file)")
    for command in (edf, xml, named):
        command.add_argument("--out", type=Path, required=True, help="folder for the nights")
        command.add_argument("--channel", help="a label, '#3' or a difference (default: the study's)")
        command.add_argument(
            "--drop-unscored", action="store_true", help="remove unscored epochs instead of marking them -1"
        )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code, 1 if any recording failed."""
    asked = parse(arguments)
    try:
        if asked.kind == "files":
            jobs = list_files(asked.files, asked.channel, asked.hypnogram, asked.subject)
        else:
            jobs = {"sleep-edf": find_sleep_edf, "shhs": find_shhs}[asked.kind](asked.folder, asked.channel)
        return 1 if prepare(jobs, asked.out, asked.drop_unscored, Console(stderr=True)) else 0
    except SleepstreamError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
