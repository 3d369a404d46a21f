"""CSV files: with a header of channel names, or as BrainFlow writes them (rows of numbers, no header).

With a header, a first column named time (or timestamp, t, seconds ...) holds seconds or ISO 8601; all others
are channels, with a unit in brackets if any: "AF7 (uV)". BrainFlow's columns are the rows of its board, so
they are named by number: "1" is board row 1; its EEG is in uV, the first column counts packages, the last but
one holds Unix time, and nothing in the file says which rows are EEG, so one has to be named.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from streamer.errors import RecordingError, SourceError, UsageError
from streamer.messages import Channel, Chunk, Floats, Item
from streamer.sources.recordings import UNKNOWN_START
from streamer.timeline import Timeline

LINES = 8192  # parsed at once
DELIMITERS = "\t;,| "
EARLIEST_UNIX = 1e8  # seconds; times above it are dates (after 1973)
# A rate found in times that is this close to one that devices have is meant to be that.
NOMINAL_HZ = (50, 64, 100, 125, 128, 200, 220, 250, 256, 300, 400, 500, 512, 600, 1000, 1024)
NEAR = 0.005
_TIMES = re.compile(
    r"(time|times|timestamps?|t|seconds?|sec|datetime|date|unix_?time)( ?[\[(](s|sec|utc)[\])])?"
)
_UNIT = re.compile(r"(.*?)\s*[\[(]([^\])]*)[\])]")


class TableRecording:
    """A CSV file; it is read as a stream, a few thousand lines at a time."""

    def __init__(self, path: Path, rate_hz: float | None) -> None:
        """Read the first lines, to know columns, times and rate.

        Raises:
            RecordingError: the file is no table of numbers, or has no channels.
            UsageError: it has no times and `rate_hz` is missing, or has them and `rate_hz` is given.

        """
        self._path = path
        self.remarks: list[str] = []
        first = self._lines(2)
        self._delimiter = _delimiter(first[0][1]) if first else ","
        names = self._cells(first[0][1]) if first else []
        self._headed = any(_number(name) is None for name in names)
        if len(first) < 1 + self._headed:
            raise RecordingError(f"{path} holds no samples; give a CSV with a header and rows of numbers")
        if self._headed:
            self._named(names)
        else:
            self._numbered(len(names))
        if not self._columns:
            raise RecordingError(f"{path} has no channels, only times; give a CSV with a column per channel")
        head = self._table(self._lines(LINES + 1)[int(self._headed) :])
        rate = self._rate(head, rate_hz)
        self.name = path.stem
        self.duration_s: float | None = None
        self.rates_hz = (rate,) * len(self.channels)
        start = float(head[0, self._time]) if self._time is not None else 0.0
        if not self._headed and start <= EARLIEST_UNIX:
            raise RecordingError(
                f"{path} has no header, and no Unix time where BrainFlow puts it; add a header line"
            )
        self.started = start if start > EARLIEST_UNIX else UNKNOWN_START

    def together(self, index: int) -> tuple[int, ...]:
        """All channels share the rows."""
        return tuple(range(len(self.channels)))

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Chunks of the picked channels, and gaps where the times jump."""
        timeline = Timeline(self.rates_hz[0])
        columns = [self._columns[index] for index in picked]
        index, latest = 0, -np.inf
        for lines in self._blocks():
            table = self._table(lines)
            samples: Floats = table[:, columns].T
            if self._time is None:
                yield Chunk(index, samples)
                index += samples.shape[1]
                continue
            times = table[:, self._time]
            back = np.flatnonzero(~(np.diff(times, prepend=latest) >= 0))
            if back.size:
                line = lines[int(back[0])][0]
                raise RecordingError(
                    f"{self._path}, line {line}: its time is before the line above; sort the rows"
                )
            latest = float(times[-1])
            try:
                yield from timeline.push(times, samples)
            except SourceError as error:
                raise RecordingError(f"{self._path}, line {lines[0][0]} on: {error}") from error
        yield from timeline.flush()

    def _named(self, names: Sequence[str]) -> None:
        """Channels from a header."""
        timed = [n for n, name in enumerate(names) if _TIMES.fullmatch(name.casefold())]
        self._time: int | None = timed[0] if timed else None
        self._columns = [n for n in range(len(names)) if n != self._time]
        matches = [(_UNIT.fullmatch(names[n]), names[n]) for n in self._columns]
        self.channels = tuple(
            Channel(match[1], match[2].strip()) if match else Channel(name, "") for match, name in matches
        )

    def _numbered(self, count: int) -> None:
        """Channels from BrainFlow's layout: every board row, the time being the last but one."""
        if count < 4:
            raise RecordingError(
                f"{self._path} has no header and too few columns ({count}) for BrainFlow's; add a header line"
            )
        self._time, self._columns = count - 2, list(range(count))
        self.channels = tuple(Channel(str(n), "uV" if 0 < n < count - 2 else "number") for n in self._columns)

    def _rate(self, head: Floats, given: float | None) -> float:
        """Samples per second, from the times or as given."""
        if self._time is None:
            if given is None:
                raise UsageError(f"{self._path} has no time column; say its rate: rate_hz = 256")
            return given
        if given is not None:
            raise UsageError(f"{self._path} has its own times; take rate_hz = {given:g} out of the settings")
        steps = np.diff(head[:, self._time])
        steps = steps[steps <= max(0.5, 20 * float(steps.mean()))] if steps.size else steps  # not over gaps
        span = float(steps.sum())
        if not span > 0:
            raise RecordingError(f"{self._path}: its times do not go on; give a time in seconds in every row")
        rate = steps.size / span
        near = min(NOMINAL_HZ, key=lambda nominal: abs(nominal - rate))
        return float(near) if abs(near - rate) <= NEAR * near else round(rate, 3)

    def _blocks(self) -> Iterator[list[tuple[int, str]]]:
        """Numbered lines of data, some thousand at a time; empty ones are left out."""
        with self._open() as file:
            numbered = ((n, line) for n, line in enumerate(file, 1) if line.strip())
            if self._headed:
                next(numbered, None)
            while lines := list(islice(numbered, LINES)):
                yield lines

    def _lines(self, count: int) -> list[tuple[int, str]]:
        with self._open() as file:
            return list(islice(((n, line) for n, line in enumerate(file, 1) if line.strip()), count))

    def _open(self) -> TextIO:
        return self._path.open(encoding="utf-8-sig", errors="replace", newline="")

    def _cells(self, line: str) -> list[str]:
        row = next(csv.reader([line.strip("\r\n")], delimiter=self._delimiter, skipinitialspace=True))
        cells = [cell.strip() for cell in row]
        return cells[:-1] if len(cells) > 1 and cells[-1] == "" and self._delimiter in "\t " else cells

    def _table(self, lines: Sequence[tuple[int, str]]) -> Floats:
        """Lines of numbers as (rows, columns); an empty cell is not a number."""
        width = len(self._columns) + (self._headed and self._time is not None)
        text = [line for _, line in lines]
        try:
            table: Floats = np.loadtxt(text, delimiter=self._delimiter, ndmin=2, comments=None)
        except ValueError:  # something that only a closer look can read, or name
            return np.array([self._row(number, line, width) for number, line in lines])
        if table.shape[1] != width:
            return np.array([self._row(number, line, width) for number, line in lines])
        return table

    def _row(self, number: int, line: str, width: int) -> list[float]:
        cells = self._cells(line)
        if len(cells) != width:
            raise RecordingError(
                f"{self._path}, line {number}: {len(cells)} cells, the first line has {width}; mend the line"
            )
        row = []
        for column, cell in enumerate(cells):
            value = _seconds(cell) if column == self._time else _number(cell or "nan")
            if value is None:
                raise RecordingError(
                    f"{self._path}, line {number}: {cell[:40]!r} is not a number; mend the cell"
                )
            row.append(value)
        return row


def _delimiter(line: str) -> str:
    """The first of tab, semicolon, comma, bar and blank that splits the first line."""
    return next((mark for mark in DELIMITERS if mark in line.strip()), ",")


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _seconds(cell: str) -> float | None:
    """A time: seconds, or ISO 8601 (without a zone: UTC)."""
    value = _number(cell)
    if value is not None:
        return value
    try:
        when = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
