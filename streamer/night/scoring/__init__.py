"""Another scorer's hypnogram: read from a file of its own, or from a recording's annotations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from streamer.errors import ScoringError
from streamer.messages import EPOCH_S
from streamer.night.hypnogram import Scored, Scoring
from streamer.night.scoring.annotations import read_annotated
from streamer.night.scoring.tables import read_table
from streamer.sources.edf_header import is_edf, read_header
from streamer.sources.files import UNKNOWN_START, read_head

__all__ = ["read_annotated", "read_scoring"]

NEAR_S = 43_200.0  # a file that begins further away has another clock: it is laid on the session's begin


def read_scoring(path: Path, started: float) -> Scoring:
    """What another scorer says of a session.

    Takes an EDF+ with `Sleep stage` annotations, a table (comma, semicolon or tab) with onset, duration and
    label, or with a stage per row, or a text with one stage per 30 s: names, or Profusion's, Rechtschaffen
    and Kales' or YASA's numbers. An EDF+ that says when it began is moved to the session's clock.

    Args:
        path: of the hypnogram.
        started: Unix time of the session's sample 0.

    Raises:
        RecordingError: the file is missing or damaged.
        ScoringError: it holds no stages, or cannot be compared by 30 s.

    """
    edf = is_edf(read_head(path))
    found = _moved(read_annotated(path), path, started) if edf else read_table(path)
    if not found.stages:
        words = ", ".join(repr(word[:40]) for word in list(found.unknown)[:3])
        what = f"no sleep stages (found {words})" if words else "no sleep stages"
        raise ScoringError(
            f"{path} holds {what}; give an EDF+ with 'Sleep stage ...' annotations, a CSV with onset, "
            "duration and label, or one stage per line"
        )
    return found


def _moved(found: Scoring, path: Path, started: float) -> Scoring:
    """Move it to the session's clock; a file with another date stays. Either is doubted."""
    begun = read_header(path).started
    offset_s = begun - started
    if begun == UNKNOWN_START or started == UNKNOWN_START:
        return found
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
