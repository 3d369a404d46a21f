"""Reads hypnograms in text files: a table with or without times, or one stage per line."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamer.errors import RecordingError, ScoringError
from streamer.messages import EPOCH_S, STAGES, UNSCORED, Label
from streamer.night.hypnogram import Scoring
from streamer.night.scoring.durations import Timed, check_whole_epochs
from streamer.night.scoring.words import is_named_stage, is_stage_text, label_of, labels_of
from streamer.sources.cells import DAY_S, Times

# Names of the columns in tables, best first.
LABELS = (
    *("label", "stage", "sleep stage", "sleep_stage", "stages", "description", "annotation", "annotations"),
    *("trial_type", "event", "hypnogram", "hypno", "scoring", "score", "text", "value"),
)
ONSETS = ("onset", "onset_s", "start", "start_s", "start time", "begin", "time", "time_s")
DURATIONS = ("duration", "duration_s", "length", "length_s")
ENDS = ("end", "end_s", "end time", "stop", "stop_s")
PREAMBLE = 60  # most lines above a heading
EPOCHS = ("epoch", "epochs", "epoch number", "epoch_number", "#")
DREAMS = "[hypnogram]"  # first line of the DREAMS database's hypnograms
# Beginnings of other events in such tables, which are not stages.
EVENTS = ("lights", "gap", "bad", "mark", "trigger", "alarm", "arousal", "recording", "start", "stop", "end")


@dataclass(frozen=True, slots=True)
class _Row:
    line: int  # number of the line, from 1
    cells: tuple[str, ...]


def read_table(path: Path) -> Scoring:
    """Read a hypnogram from a text file.

    Raises:
        RecordingError: the file is not text.
        ScoringError: it is not a hypnogram.

    """
    rows = _rows(path)
    if not rows:
        return Scoring()
    try:
        head = tuple(_column_name(cell) for cell in rows[0].cells)
        if head == (DREAMS,):
            raise ValueError(
                "the DREAMS database numbers stages backwards (5 is W, 0 is S4), by 5 s; write names, by 30 s"
            )
        if not any(name in (*LABELS, *ONSETS, *DURATIONS, *EPOCHS) for name in head):
            return _headless(rows, path)
        return _headed(head, rows[1:], path)
    except ValueError as error:
        advice = (
            "" if ";" in str(error) else "; give one stage per line, or the columns onset, duration and label"
        )
        raise ScoringError(f"{path}: {error}{advice}") from error


def _rows(path: Path) -> list[_Row]:
    lines = [(number, line) for number, line in enumerate(_text(path).splitlines(), 1)]
    lines = [(number, line.strip("\0")) for number, line in lines if not line.startswith(("#", "%"))]
    lines = lines[_heading(lines) :]
    while lines and not lines[-1][1].strip():
        lines.pop()
    while lines and not lines[0][1].strip():
        lines.pop(0)
    if not lines:
        return []
    if len(lines) > 2 and not any(line.strip() for _, line in lines[1::2]):
        lines = lines[::2]  # an empty line after each line, from line ends that were converted twice
    delimiter = _delimiter(lines[0][1])
    out = []
    for number, line in lines:
        if not line.strip():
            raise ScoringError(f"{path}: line {number} is empty; write ? for an unscored epoch")
        try:
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise ScoringError(
                f"{path}: line {number} is not a row of a table: {error}; correct it"
            ) from error
        out.append(_Row(number, tuple(cells)))
    while out and all(len(row.cells) > 1 and not row.cells[-1].strip() for row in out):
        out = [_Row(row.line, row.cells[:-1]) for row in out]  # a delimiter at the end of every line
    return out


def _heading(lines: Sequence[tuple[int, str]]) -> int:
    """Find the line of a timed table's heading, below lines about the person as RemLogic writes them."""
    for at, (_, line) in enumerate(lines[:PREAMBLE]):
        head = {_column_name(cell) for cell in line.split(_delimiter(line))}
        if head & set(LABELS) and head & {*ONSETS, *DURATIONS}:
            return at
    return 0


def _delimiter(line: str) -> str:
    return next((one for one in "\t;," if one in line), ",")


def _text(path: Path) -> str:
    data = path.read_bytes()
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if b"\0" in data:
        raise RecordingError(f"{path} is neither an EDF+ nor text; give a hypnogram")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _headless(rows: Sequence[_Row], path: Path) -> Scoring:
    """Read one stage per line, or columns whose content can be guessed."""
    width = len(rows[0].cells)
    if width == 3 and all(_is_number(cell) for cell in rows[0].cells[:2]):
        return _headed(("onset", "duration", "label"), rows, path)
    if width == 2 and [row.cells[0].strip() for row in rows[:3]] in (["0", "1", "2"], ["1", "2", "3"]):
        return _headed(("epoch", "stage"), rows, path)
    if width > 1:
        raise ValueError(f"found {width} columns without a heading")
    words = [row.cells[0] if row.cells else "" for row in rows]
    heading = len(words) > 1 and not re.search(r"\d", words[0]) and labels_of(words[:1]) == [None]
    if not heading or labels_of(words[1:2]) == [None]:
        return _one_after_the_other(words)
    doubt = f"its first line, {words[0].strip()[:40]!r}, was read as a heading, not as an epoch"
    return replace(_one_after_the_other(words[1:]), doubts=(doubt,))


def _headed(head: Sequence[str], rows: Sequence[_Row], path: Path) -> Scoring:
    rows = [_Row(row.line, _fitting(row, len(head))) for row in rows]
    column = _label_column(head, rows)
    words = [row.cells[column] for row in rows]
    onset, duration, end, epoch = (_column(head, names) for names in (ONSETS, DURATIONS, ENDS, EPOCHS))
    if onset is not None:
        return _timed(rows, words, (onset, duration, end), path)
    if duration is not None:
        raise ValueError(f"found the columns {', '.join(head)}, with durations but without onsets")
    if epoch is not None:
        _check_count([row.cells[epoch] for row in rows], rows)
    return _one_after_the_other(words)


def _one_after_the_other(words: Sequence[str]) -> Scoring:
    labels = labels_of(words)
    unknown = _not_understood(words, labels)
    if unknown and sum(unknown.values()) * 2 >= len(words):
        raise ValueError(f"{next(iter(unknown))[:40]!r} is not a sleep stage")
    stages = tuple(
        (float(EPOCH_S * number), float(EPOCH_S), label)
        for number, label in enumerate(labels)
        if label is not None
    )
    return Scoring(stages, unknown, placed=False)


def _timed(
    rows: Sequence[_Row], words: Sequence[str], columns: tuple[int, int | None, int | None], path: Path
) -> Scoring:
    rows, begun = _from_clocks(rows, columns[0], columns[2])
    onset, duration, end = columns
    labels: list[Label | None] = labels_of(words)
    timed: list[Timed] = []
    taken: list[str] = []
    for row, word, label in zip(rows, words, labels, strict=True):
        start = _seconds(row, onset)
        length = None if duration is None else _seconds(row, duration)
        if duration is None and end is not None and start is not None:
            until = _seconds(row, end)
            length = None if until is None else until - start
        if start is None or (label is None and word.strip().casefold().startswith(EVENTS)):
            continue
        if length is not None and length < 0:
            raise ValueError(f"line {row.line} has a duration of {length:g} s")
        timed.append((start, length, label))
        taken.append(word)
    if not any(label is not None for *_, label in timed):
        return Scoring()
    unknown = _not_understood(taken, [label for *_, label in timed])
    stages = check_whole_epochs([item for item in timed if _may_end_a_stage(item)], path)
    return Scoring(stages, unknown, begun=begun)


def _from_clocks(rows: Sequence[_Row], onset: int, end: int | None) -> tuple[Sequence[_Row], float | None]:
    """Convert clock times to seconds since the first.

    Return the rows, and the first time (None: no clock).
    """
    if not rows or _is_number(rows[0].cells[onset]):
        return rows, None
    columns = [column for column in (onset, end) if column is not None]
    seconds = [Times().seconds([_colons(row.cells[column]) for row in rows]) for column in columns]
    begun = float(seconds[0][0])
    if not all(np.isfinite(one).all() for one in seconds):
        return rows, None
    seconds[1:] = [seconds[0] + (one - seconds[0]) % DAY_S for one in seconds[1:]]  # an end after midnight
    out = []
    for at, row in enumerate(rows):
        cells = list(row.cells)
        for column, one in zip(columns, seconds, strict=True):
            cells[column] = f"{one[at] - begun:.3f}"
        out.append(_Row(row.line, tuple(cells)))
    return out, begun


def _colons(clock: str) -> str:
    """Write a time of day such as 22.31.20 as 22:31:20."""
    return re.sub(r"^(\d{1,2})\.(\d\d)\.(\d\d)$", r"\1:\2:\3", clock.strip())


def _may_end_a_stage(item: Timed) -> bool:
    """Whether a row can end the stage before it; short events (an arousal, a spindle) do not."""
    _, duration_s, label = item
    return label is not None or duration_s is None or duration_s >= EPOCH_S


def _not_understood(words: Sequence[str], labels: Sequence[Label | None]) -> dict[str, int]:
    return dict(Counter(word.strip() for word, label in zip(words, labels, strict=True) if label is None))


def _label_column(head: Sequence[str], rows: Sequence[_Row]) -> int:
    """The column of the stages: the first with a suitable name and with stages in it."""
    places = [head.index(name) for name in LABELS if name in head]
    if "event" in head and any(is_stage_text(row.cells[head.index("event")]) for row in rows):
        return head.index("event")  # RemLogic repeats the stage beside each arousal in a column of its own
    if not places:
        raise ValueError(f"found the columns {', '.join(head)}, but none named label or stage")
    holding = (at for at in places if any(one in STAGES for one in labels_of([r.cells[at] for r in rows])))
    named = (at for at in places if any(_is_named(row.cells[at]) for row in rows))
    return next(named, next(holding, places[0]))


def _column_name(cell: str) -> str:
    """Normalise a column's name: lower case, without its unit, so that "Duration[s]" is "duration"."""
    plain = " ".join(cell.strip(" \t\"'").casefold().split())
    return re.sub(r"\s*[\[(][^\])]*[\])]$", "", plain) or plain


def _is_named(cell: str) -> bool:
    return is_named_stage(cell) and label_of(cell) != UNSCORED


def _column(head: Sequence[str], names: Sequence[str]) -> int | None:
    return next((head.index(name) for name in names if name in head), None)


def _fitting(row: _Row, width: int) -> tuple[str, ...]:
    cells = row.cells
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != width:
        raise ValueError(
            f"line {row.line} has {len(cells)} cells, but the heading {width}; numbers with a decimal comma "
            "need another separator, a semicolon or a tab"
        )
    return cells


def _check_count(numbers: Sequence[str], rows: Sequence[_Row]) -> None:
    """Check that the epochs are numbered from 0 or 1, without holes."""
    first = 1 if numbers and _is_number(numbers[0]) and float(numbers[0]) == 1 else 0
    for at, (text, row) in enumerate(zip(numbers, rows, strict=True), first):
        if not _is_number(text) or float(text) != at:
            raise ValueError(f"line {row.line} has epoch {text.strip()!r}, but {at} comes next")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.strip().replace(",", ".")))
    except ValueError:
        return False


def _seconds(row: _Row, column: int) -> float | None:
    text = row.cells[column].strip()
    if text.casefold() in ("", "n/a", "na", "nan"):
        return None
    if not _is_number(text):
        raise ValueError(f"line {row.line}: {text!r} is not a number of seconds")
    return float(text.replace(",", "."))
