"""Another scorer's hypnogram: read from a file of its own, or from a recording's annotations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from streamer.errors import ScoringError
from streamer.messages import EPOCH_S
from streamer.night.hypnogram import Scored, Scoring
from streamer.night.scoring.annotations import read_annotated
from streamer.night.scoring.tables import read_table
from streamer.sources.edf_header import is_edf
from streamer.sources.files import UNKNOWN_START, read_head

__all__ = ["read_annotated", "read_scoring"]

DAY_S = 86_400.0
NEAR_S = 43_200.0  # a file that begins further away has another clock: it is laid on the session's begin


def read_scoring(path: Path, started: float) -> Scoring:
    """What another scorer says of a session.

    Takes an EDF+ with `Sleep stage` annotations, a table (comma, semicolon or tab) with onset, duration and
    label, or with a stage per row, or a text with one stage per 30 s: names, or Profusion's, Rechtschaffen
    and Kales' or YASA's numbers. A scoring that says when it began, by a date or by a time of day, is moved
    to the session's clock.

    Args:
        path: of the hypnogram.
        started: Unix time of the session's sample 0.

    Raises:
        RecordingError: the file is missing or damaged.
        ScoringError: it holds no stages, or cannot be compared by 30 s.

    """
    found = _moved(read_annotated(path) if is_edf(read_head(path)) else read_table(path), started)
    if not found.stages:
        words = ", ".join(repr(word[:40]) for word in list(found.unknown)[:3])
        what = f"no sleep stages (found {words})" if words else "no sleep stages"
        raise ScoringError(
            f"{path} holds {what}; give an EDF+ with 'Sleep stage ...' annotations, a CSV with onset, "
            "duration and label, or one stage per line"
        )
    return found


def _moved(found: Scoring, started: float) -> Scoring:
    """Move it to the session's clock; a file with another date stays. Either is doubted."""
    if found.begun in (None, UNKNOWN_START) or started == UNKNOWN_START:
        return found
    offset_s = found.begun - started
    if found.begun < DAY_S:  # a time of day: of the day on which it is nearest
        offset_s = (offset_s + DAY_S / 2) % DAY_S - DAY_S / 2
    if abs(offset_s) > NEAR_S:
        side = "before" if offset_s < 0 else "after"
        doubt = (
            f"by its own date it begins {abs(offset_s) / 3600:.1f} h {side} the recording; it was laid on "
            "the recording's begin"
        )
        return replace(found, doubts=(*found.doubts, doubt))
    moved: list[Scored] = [(onset + offset_s, length, stage) for onset, length, stage in found.stages]
    if abs(offset_s) < EPOCH_S:
        return replace(found, stages=tuple(moved))
    side = "before" if offset_s < 0 else "after"
    doubt = (
        f"by its own clock it begins {abs(offset_s) / 60:.1f} min {side} the recording, and was laid there"
    )
    return replace(found, stages=tuple(moved), doubts=(*found.doubts, doubt))
