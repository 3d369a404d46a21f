"""Scored nights as their studies publish them, generated: pairs of EDF files, and EDF with XML."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import edfio

from tests.recording_files import eeg, patched, signal, write_edf

BEGUN = {
    "starttime": datetime.time(16, 13),
    "recording": edfio.Recording(startdate=datetime.date(1989, 4, 24)),
}
RUN = tuple[str, int]  # text of the annotation, number of epochs


def epochs_of(runs: Sequence[RUN]) -> int:
    return sum(count for _, count in runs)


def write_psg(folder: Path, name: str, epochs: int, record_s: float = 30, lost: bool = False) -> Path:
    """As the cassette recordings are: three signals at 100 Hz, four at 1 Hz, EDF+C without annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    fast = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"]
    slow = [("Resp oro-nasal", ""), ("EMG submental", "uV"), ("Temp rectal", "DegC"), ("Event marker", "")]
    signals = [signal(eeg(30 * epochs, seed=n), 100, label) for n, label in enumerate(fast)]
    if lost:
        signals[0] = signal(0 * eeg(30 * epochs), 100, fast[0])
    signals += [signal(eeg(30 * epochs, 1, n), 1, label, unit) for n, (label, unit) in enumerate(slow)]
    path = write_edf(folder / f"{name}-PSG.edf", signals, data_record_duration=record_s, **BEGUN)
    return patched(path, 192, b"EDF+C")


def write_hypnogram(folder: Path, name: str, runs: Sequence[RUN]) -> Path:
    """As the cassette hypnograms are: annotations in a file of their own, one per run of epochs."""
    notes, onset = [], 0
    for text, count in runs:
        notes.append(edfio.EdfAnnotation(onset, 30 * count, text))
        onset += 30 * count
    return write_edf(folder / f"{name}-Hypnogram.edf", [], annotations=notes, **BEGUN)


def write_nsrr(path: Path, runs: Sequence[tuple[str, int]]) -> Path:
    """`*-nsrr.xml`: one event per run of epochs, among others."""
    events = [_event("", "Recording Start Time", 0, 30 * epochs_of(runs))]
    onset = 0
    for text, count in runs:
        events.append(_event("Stages|Stages", text, onset, 30 * count))
        onset += 30 * count
    events.append(_event("Arousals|Arousals", "Arousal|Arousal ()", 61.5, 4.2))
    body = "".join(events)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?><PSGAnnotation><SoftwareVersion>Compumedics'
        f"</SoftwareVersion><EpochLength>30</EpochLength><ScoredEvents>{body}</ScoredEvents></PSGAnnotation>"
    )
    return path


def write_profusion(path: Path, numbers: Sequence[int]) -> Path:
    """`*-profusion.xml`: one number per epoch, after the events."""
    stages = "".join(f"<SleepStage>{number}</SleepStage>" for number in numbers)
    event = "<ScoredEvent><Name>Arousal ()</Name><Start>61.5</Start><Duration>4.2</Duration></ScoredEvent>"
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?><CMPStudyConfig><EpochLength>30</EpochLength><StepChannels/>'
        f"<ScoredEvents>{event}</ScoredEvents><SleepStages>{stages}</SleepStages></CMPStudyConfig>"
    )
    return path


def _event(kind: str, concept: str, start: float, duration: float) -> str:
    return (
        f"<ScoredEvent><EventType>{kind}</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start:.1f}</Start><Duration>{duration:.1f}</Duration></ScoredEvent>"
    )
