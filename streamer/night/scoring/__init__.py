"""Reads a scorer's hypnogram, from a separate file or from a recording's annotations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from streamer.errors import ScoringError
from streamer.messages import EPOCH_S
from streamer.night.hypnogram import ScoredSpan, Scoring
from streamer.night.scoring.annotations import read_annotated
from streamer.night.scoring.tables import read_table
from streamer.sources.cells import DAY_S
from streamer.sources.edf_header import is_edf
from streamer.sources.files import UNKNOWN_START, read_head

__all__ = ["read_annotated", "read_scoring"]

# A file that begins further away has another clock, and is aligned with the session's start.
NEAR_S = 43_200.0


def read_scoring(path: Path, started: float) -> Scoring:
    """Read a scorer's hypnogram of a session.

    The file may be an EDF+ with `Sleep stage` annotations, a table (comma, semicolon or tab) with onset,
    duration and label or with one stage per row, or a text with one stage per 30 s. Stages are names, or
    numbers of Profusion, Rechtschaffen and Kales, or YASA. A scoring with a date or a time of day is moved to
    the session's clock.

    Args:
        path: the file.
        started: Unix time of the session's sample 0.

    Raises:
        RecordingError: the file is missing or damaged.
        ScoringError: the file has no stages, or they are not in epochs of 30 s.

    """
    found = _moved(read_annotated(path) if is_edf(read_head(path)) else read_table(path), started)
    if not found.stages:
        words = ", ".join(repr(word[:40]) for word in list(found.unknown)[:3])
        what = f"no sleep stages (found {words})" if words else "no sleep stages"
        raise ScoringError(
            f"{path} has {what}; give an EDF+ with 'Sleep stage ...' annotations, a CSV with onset, "
            "duration and label, or one stage per line"
        )
    return found


def _moved(found: Scoring, started: float) -> Scoring:
    """Move stages to the session's clock, or align the starts if the dates differ; a shift adds a doubt."""
    if found.begun in (None, UNKNOWN_START) or started == UNKNOWN_START:
        return found
    offset_s = found.begun - started
    if found.begun < DAY_S:  # a time of day: of the day on which it is nearest
        offset_s = (offset_s + DAY_S / 2) % DAY_S - DAY_S / 2
    if abs(offset_s) > NEAR_S:
        side = "before" if offset_s < 0 else "after"
        doubt = (
            f"by its date it begins {abs(offset_s) / 3600:.1f} h {side} the recording; it was aligned with "
            "the start of the recording"
        )
        return replace(found, doubts=(*found.doubts, doubt))
    moved: list[ScoredSpan] = [(onset + offset_s, length, stage) for onset, length, stage in found.stages]
    if abs(offset_s) < EPOCH_S:
        return replace(found, stages=tuple(moved))
    side = "before" if offset_s < 0 else "after"
    doubt = f"by its clock it begins {abs(offset_s) / 60:.1f} min {side} the recording, and was placed there"
    return replace(found, stages=tuple(moved), doubts=(*found.doubts, doubt))
