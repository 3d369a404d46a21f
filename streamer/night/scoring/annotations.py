"""Reads the stages in a recording's annotations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from streamer.night.hypnogram import Scoring
from streamer.night.scoring.durations import Timed, check_whole_epochs, is_epochs
from streamer.night.scoring.words import is_named_stage, is_stage_text, labels_of
from streamer.sources.edf_header import is_edf, read_header
from streamer.sources.edf_times import read_annotations
from streamer.sources.files import read_head


def read_annotated(path: Path) -> Scoring:
    """Read the stages in an EDF+ or BDF+ file; onsets count from sample 0.

    Annotations count if they begin with "Sleep stage", or if they name a stage otherwise ("N2", "REM") and
    last a multiple of 30 s. One without a duration lasts until the next stage. The result is empty for other
    formats and for files without such annotations.

    Raises:
        RecordingError: the file is missing or damaged.
        ScoringError: the stages do not last multiples of 30 s.

    """
    if not is_edf(read_head(path)):
        return Scoring()
    notes = [note for note in read_annotations(path) if _is_about_a_stage(note[1], note[2])]
    labels = labels_of([text for _, _, text in notes])
    timed: list[Timed] = [
        (onset, duration, label) for (onset, duration, _), label in zip(notes, labels, strict=True)
    ]
    unknown = Counter(text.strip() for (*_, text), label in zip(notes, labels, strict=True) if label is None)
    return Scoring(check_whole_epochs(timed, path), dict(unknown), begun=read_header(path).started)


def _is_about_a_stage(duration_s: float | None, text: str) -> bool:
    return is_stage_text(text) or bool(duration_s and is_epochs(duration_s) and is_named_stage(text))
