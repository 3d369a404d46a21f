"""Another scorer's hypnogram, laid on the 30 s grid of a session."""

from __future__ import annotations

import csv
from pathlib import Path

from streamer.errors import RecordingError
from streamer.hypnogram import Scored, label_of, sleep_stages, stages_per_epoch
from streamer.messages import EPOCH_S, Label
from streamer.sources.edf_header import is_edf, read_header
from streamer.sources.recordings import UNKNOWN_START, read_head

NEAR_S = 43_200.0  # a file that begins further away has another clock: it is laid on the session's begin


def read_scoring(path: Path, started: float, n_epochs: int) -> tuple[Label, ...]:
    """One stage per epoch of the session.

    Takes an EDF+ with `Sleep stage` annotations, a CSV with the columns onset, duration and label (or stage,
    description; seconds since the session's begin), or a text with one stage per 30 s: names (W N1 N2 N3 R)
    or Profusion's numbers (0 1 2 3 5). An EDF+ that says when it began is moved to the session's clock.

    Args:
        path: of the hypnogram.
        started: Unix time of the session's sample 0.
        n_epochs: of the session.

    Raises:
        RecordingError: the file is missing, damaged, or holds no stages.

    """
    if is_edf(read_head(path)):
        scored = _shifted(sleep_stages(path), read_header(path).started - started, path)
    else:
        scored = _text(path)
    if not any(True for _ in scored):
        raise RecordingError(
            f"{path} holds no sleep stages; give an EDF+ with 'Sleep stage ...' annotations, a CSV with "
            "onset, duration and label, or one stage per line"
        )
    return stages_per_epoch(scored, n_epochs)


def _shifted(scored: list[Scored], offset_s: float, path: Path) -> list[Scored]:
    unknown = abs(offset_s) > NEAR_S or read_header(path).started == UNKNOWN_START
    return [(onset + (0.0 if unknown else offset_s), length, stage) for onset, length, stage in scored]


def _text(path: Path) -> list[Scored]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path} is neither an EDF+ nor UTF-8 text; give a hypnogram") from error
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    header = [name.strip().lower() for name in next(csv.reader(lines[:1], delimiter=delimiter), [])]
    try:
        if "onset" in header:
            return _table(header, list(csv.reader(lines[1:], delimiter=delimiter)))
        return [(EPOCH_S * number, EPOCH_S, label_of(line)) for number, line in enumerate(lines)]
    except (ValueError, IndexError) as error:
        raise RecordingError(
            f"{path}: {error}; give one stage per line, or onset, duration, label"
        ) from error


def _table(header: list[str], rows: list[list[str]]) -> list[Scored]:
    names = ("label", "stage", "description", "annotation", "trial_type")
    column = next((header.index(name) for name in names if name in header), None)
    if column is None or "duration" not in header:
        raise ValueError(f"found the columns {', '.join(header)}, not onset, duration and label")
    onset, duration = header.index("onset"), header.index("duration")
    out: list[Scored] = []
    for row in rows:
        try:
            label = label_of(row[column])
        except ValueError:
            continue  # such a table may hold other annotations: marks, lights
        out.append((float(row[onset]), float(row[duration]), label))
    return out
