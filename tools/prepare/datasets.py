"""Finds the recordings to prepare, and reads the scoring of each."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from streamer.errors import RecordingError, UsageError
from streamer.night.hypnogram import ScoredSpan, Scoring
from streamer.night.scoring import read_annotated, read_scoring
from streamer.night.scoring.words import label_of

# C4-A1 of SHHS is called EEG; if it is missing, C3-A2 is used.
SHHS_CHANNELS = ("C4-A1", "EEG", "EEG(sec)", "EEG sec", "EEG 2", "EEG2")
SCORING_KINDS = (".csv", ".tsv", ".txt", ".xml")


@dataclass(frozen=True, slots=True)
class ScoredRecording:
    """One night to prepare."""

    recording: str  # name of the recording and of the output
    subject: str  # "": as in the file
    signal: Path
    scoring: Path | None  # None: in the recording itself, or beside it
    channels: tuple[str, ...]  # best first; empty: chosen by the labels
    lacking: str  # error message if there is no scoring


def find_sleep_edf(folder: Path, channel: str | None) -> list[ScoredRecording]:
    """Find the cassette nights of Sleep-EDF Expanded below a folder; the names of a pair share 7 characters.

    The telemetry nights (ST...) are another study, not part of Sleep-EDF-78, whose subjects have the same
    numbers.
    """
    hypnograms: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("SC4*-Hypnogram.edf")):
        hypnograms.setdefault(path.name[:7], []).append(path)
    jobs = []
    for path in sorted(folder.rglob("SC4*-PSG.edf")):
        key = path.name[:7]
        beside = hypnograms.get(key, [])
        lacking = f"found {len(beside)} of {key}?-Hypnogram.edf in {folder}; give the one that belongs to it"
        scoring = beside[0] if len(beside) == 1 else None
        recording = path.name.removesuffix("-PSG.edf")
        channels = (channel or "EEG Fpz-Cz",)
        jobs.append(ScoredRecording(recording, path.name[3:5], path, scoring, channels, lacking))
    return _some(jobs, f"{folder} has no SC4...-PSG.edf; give the folder of Sleep-EDF Expanded")


def find_shhs(folder: Path, channel: str | None) -> list[ScoredRecording]:
    """Find the recordings of SHHS (or another study of the NSRR) below a folder: EDF and XML share a name."""
    scorings = {path.name: path for path in sorted(folder.rglob("*.xml"))}
    channels = (channel,) if channel else SHHS_CHANNELS
    jobs = []
    for path in sorted(folder.rglob("*.edf")):
        names = f"{path.stem}-nsrr.xml", f"{path.stem}-profusion.xml"
        scoring = next((scorings[name] for name in names if name in scorings), None)
        subject = path.stem.rpartition("-")[2]  # shhs1-200001
        lacking = f"found no {' or '.join(names)} in {folder}; put it there"
        jobs.append(ScoredRecording(path.stem, subject, path, scoring, channels, lacking))
    return _some(jobs, f"{folder} has no .edf file; give the folder of the recordings")


def list_files(
    paths: Sequence[Path], channel: str | None, hypnogram: Path | None, subject: str | None
) -> list[ScoredRecording]:
    """Take recordings named one by one; the scoring is given, in the recording, or beside it."""
    if hypnogram is not None and len(paths) > 1:
        raise UsageError(f"--hypnogram is for one recording, but {len(paths)} were given; name one")
    jobs = []
    for path in paths:
        lacking = (
            "it has no `Sleep stage` annotations, and there is no "
            f"{path.stem}.hypnogram.csv beside it; give --hypnogram"
        )
        channels = (channel,) if channel else ()
        whose = subject or ("" if path.suffix.lower() == ".npz" else path.stem)
        jobs.append(ScoredRecording(path.stem, whose, path, hypnogram, channels, lacking))
    return jobs


def _some(jobs: list[ScoredRecording], otherwise: str) -> list[ScoredRecording]:
    if not jobs:
        raise UsageError(otherwise)
    return jobs


def find_scoring(job: ScoredRecording) -> Path | None:
    """Find the file with the expert's stages; None: the recording itself.

    Raises:
        RecordingError: there is no scoring.

    """
    if job.scoring is not None or read_annotated(job.signal).stages:
        return job.scoring
    beside = find_scoring_beside(job.signal)
    if beside is None:
        raise RecordingError(f"{job.signal}: {job.lacking}")
    return beside


def find_scoring_beside(path: Path) -> Path | None:
    """Find a scoring beside a recording: night.hypnogram.csv, night.csv and the like, or Sleep-EDF's pair."""
    if path.name.endswith("-PSG.edf"):
        pairs = list(path.parent.glob(f"{glob.escape(path.name[:7])}?-Hypnogram.edf"))
        if len(pairs) == 1:
            return pairs[0]
    names = [
        f"{path.stem}{mark}{kind}"
        for mark in (".hypnogram", "-hypnogram", "_hypnogram", "")
        for kind in SCORING_KINDS
    ]
    found = (path.with_name(name) for name in names if name != path.name)
    return next((one for one in found if one.is_file()), None)


def read_expert_stages(signal: Path, scoring: Path | None, started: float) -> Scoring:
    """Read the expert's stages from the scoring's file, or without one from the recording's annotations.

    Raises:
        RecordingError: the file is damaged or has no stages.

    """
    if scoring is None:
        return read_annotated(signal)
    if scoring.suffix.lower() == ".xml":
        return Scoring(tuple(_read_nsrr(scoring)))
    return read_scoring(scoring, started)


def _read_nsrr(path: Path) -> list[ScoredSpan]:
    """Read every stage of NSRR's `*-nsrr.xml` or `*-profusion.xml`: (onset s, duration s, stage).

    The first has one `ScoredEvent` of type `Stages|Stages` per run of epochs, with `EventConcept` such as
    "Stage 2 sleep|2", `Start` and `Duration`; the second one `SleepStage` (0-5, 6 movement, 9 unscored) per
    epoch of `EpochLength` seconds.

    Raises:
        RecordingError: the file is missing, damaged, or has no stages.

    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise RecordingError(f"{path} is not XML ({error}); copy it again") from error
    try:
        found = _events(root) if root.tag == "PSGAnnotation" else _epochs(root)
    except ValueError as error:
        raise RecordingError(f"{path}: {error}; give NSRR's original file") from error
    if not found:
        raise RecordingError(
            f"{path} has no sleep stages (its root is {root.tag}); give *-nsrr.xml or *-profusion.xml"
        )
    return found


def _events(root: ElementTree.Element) -> list[ScoredSpan]:
    return [
        (
            float(event.findtext("Start", "")),
            float(event.findtext("Duration", "")),
            label_of(event.findtext("EventConcept", "").rpartition("|")[2]),
        )
        for event in root.iterfind("ScoredEvents/ScoredEvent")
        if event.findtext("EventType") == "Stages|Stages"
    ]


def _epochs(root: ElementTree.Element) -> list[ScoredSpan]:
    stages = [stage.text or "" for stage in root.iterfind("SleepStages/SleepStage")]
    length_s = float(root.findtext("EpochLength", "30"))
    return [(length_s * number, length_s, label_of(text)) for number, text in enumerate(stages)]
