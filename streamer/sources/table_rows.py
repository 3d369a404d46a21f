"""Turns lines of a table into arrays. Bad rows are left out and counted; a bad cell becomes NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Floats
from streamer.sources import lines
from streamer.sources.cells import Times, numbers
from streamer.sources.lines import Line

CLEAR = 0.3  # of a period: two times that far off a whole number of periods do not show what was lost
MERGED = 2  # a bad line may have been one row or more; so many more rows than lines may be lost at one place
SET_BACK = 3  # a clock may be set back so often; if times go back more often, the rows are not in order
SINGLE = 500  # the most single damaged times in one block


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Consecutive rows of a table."""

    numbers: NDArray[np.int64]  # (n,) line numbers, from 1
    times: Floats  # (n,) s; NaN where there is none
    counter: Floats  # (n,) the table's sample counter; NaN where there is none
    samples: Floats  # (channels, n); NaN where there is none

    def __len__(self) -> int:
        return int(self.numbers.shape[0])

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Rows:
        """Return only these rows."""
        return Rows(self.numbers[which], self.times[which], self.counter[which], self.samples[:, which])


def together(parts: Sequence[Rows]) -> Rows:
    """Join rows."""
    return Rows(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.counter for part in parts]),
        np.concatenate([part.samples for part in parts], axis=1),
    )


class Tally:
    """Counts lines of one fault, for one remark."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._count = 0
        self._first = 0

    def add(self, numbers: Sequence[int] | NDArray[np.int64]) -> None:
        """Count these lines."""
        if len(numbers):
            self._first = self._first or int(numbers[0])
            self._count += len(numbers)

    def remarks(self) -> list[str]:
        """Return one remark, or none if no line was counted."""
        if not self._count:
            return []
        return [f"{self._kind}: {self._count}, the first in line {self._first}"]


class RowParser:
    """Parses the lines of one table, block after block.

    Args:
        delimiter: between cells.
        width: cells in a row.
        comma: decimals have a comma.
        times: reads the column `time`.
        time: the column of the times, or None.
        date: the column of the dates that belong to the times, or None.
        counter: the column of the sample counter, or None.
        channels: the columns of the samples to read.
        notes: the column of events that have rows of their own, or None.

    Attributes:
        shift_s: by which the table's clock was set back so far.

    """

    def __init__(
        self,
        delimiter: str,
        width: int,
        comma: bool,
        times: Times,
        time: int | None,
        date: int | None,
        counter: int | None,
        channels: Sequence[int],
        notes: int | None,
    ) -> None:
        self._delimiter, self._width, self._comma = delimiter, width, comma
        self._times, self._time, self._date = times, time, date
        self._counter, self._channels, self._notes = counter, list(channels), notes
        self._bad_rows = Tally("rows left out because they are not whole")
        self._bad_times = Tally("rows left out because their time is missing or goes back")
        self.shift_s = 0.0
        self._set_back: list[str] = []
        self._bad_cells = Tally("rows with a cell that is not a number, which counts as lost")

    def remarks(self) -> list[str]:
        """Return the remarks on what was left out so far."""
        return [
            *self._times.remarks,
            *self._set_back,
            *self._bad_rows.remarks(),
            *self._bad_times.remarks(),
            *self._bad_cells.remarks(),
        ]

    def parse(self, block: Sequence[Line]) -> Rows:
        """Parse lines; a bad row keeps its place, filled with NaN."""
        cut = [lines.fitted(lines.split(line, self._delimiter), self._width) for _, line in block]
        sound = np.array([len(cells) == self._width for cells in cut], dtype=np.bool_)
        at = np.array([number for number, _ in block], dtype=np.int64)
        columns = list(zip(*(cells for cells, good in zip(cut, sound, strict=True) if good), strict=True))
        rows = self._arrays(columns, at[sound])
        noted = np.zeros(at.size, dtype=np.bool_)
        noted[np.flatnonzero(sound)[self._noted(columns, rows)]] = True
        if not sound.all():
            rows = _placed(rows, at, sound)
        self._bad_rows.add(at[~sound])
        return rows if self._time is None else rows.take(~noted)

    def lose(self, numbers: NDArray[np.int64]) -> None:
        """Count lines whose time is missing or goes back."""
        self._bad_times.add(numbers)

    def set_back(self, rows: Rows, at: int, before: int) -> bool:
        """Shift the rows from `at` on, where the clock was set back; False if that happened too often.

        `before` is the last row before them whose time is used.
        """
        steps = np.diff(rows.times[np.isfinite(rows.times)])
        if not (steps > 0).any():
            return False
        back_s = float(rows.times[before] - rows.times[at])
        shift_s = back_s + float(np.median(steps[steps > 0]))
        rows.times[at:] += shift_s
        self.shift_s += shift_s
        self._set_back.append(
            f"its clock was set back by {back_s:.3f} s in line {rows.numbers[at]}; "
            "its times are read on from there"
        )
        return len(self._set_back) <= SET_BACK

    def _arrays(self, columns: Sequence[Sequence[str]], at: NDArray[np.int64]) -> Rows:
        none = np.full(at.size, np.nan)
        if not at.size:
            return Rows(at, none, none, np.empty((len(self._channels), 0)))
        samples = np.empty((len(self._channels), at.size))
        wrong: set[int] = set()
        for place, column in enumerate(self._channels):
            samples[place], bad = numbers(columns[column], self._comma)
            wrong.update(bad)
        self._bad_cells.add(at[sorted(wrong)])
        times = none if self._time is None else self._seconds(columns) + self.shift_s
        counter = none if self._counter is None else numbers(columns[self._counter], self._comma)[0]
        return Rows(at, times, counter, samples)

    def _seconds(self, columns: Sequence[Sequence[str]]) -> Floats:
        cells: Sequence[str] = columns[self._time or 0]
        return self._times.seconds(
            cells if self._date is None else self._times.dated(columns[self._date], cells)
        )

    def _noted(self, columns: Sequence[Sequence[str]], rows: Rows) -> list[int]:
        """Return the rows that note an event instead of samples, and so are not a loss."""
        if self._notes is None or not len(rows):
            return []
        empty = np.flatnonzero(np.isnan(rows.samples).all(axis=0)).tolist()
        return [row for row in empty if columns[self._notes][row].strip()]


def _placed(rows: Rows, at: NDArray[np.int64], sound: NDArray[np.bool_]) -> Rows:
    """Spread the sound rows over all lines `at`; the places of bad ones are NaN."""
    times, counter = np.full(at.size, np.nan), np.full(at.size, np.nan)
    samples = np.full((rows.samples.shape[0], at.size), np.nan)
    times[sound], counter[sound], samples[:, sound] = rows.times, rows.counter, rows.samples
    return Rows(at, times, counter, samples)


def timed(rows: Rows, keep: NDArray[np.bool_], period_s: float) -> Rows:
    """Return the rows from the first to the last to keep; those between that are not kept become empty.

    The number of empty rows follows from the times around them if these are clear, because one bad line may
    have been two rows; else it is the number of lines.
    """
    kept = np.flatnonzero(keep)
    if not kept.size or keep.all():
        return rows.take(keep)
    parts: list[Rows] = []
    begun = 0  # in `kept`
    for place in np.flatnonzero(np.diff(kept) > 1).tolist():
        first, behind = int(kept[place]), int(kept[place + 1])
        parts.append(rows.take(kept[begun : place + 1]))
        parts.append(_empty(rows, first, behind, period_s))
        begun = place + 1
    return together([*parts, rows.take(kept[begun:])])


def _empty(rows: Rows, first: int, behind: int, period_s: float) -> Rows:
    """Make the empty rows between two sound ones."""
    count = behind - first - 1
    apart = float(rows.times[behind] - rows.times[first]) / period_s
    if abs(apart - round(apart)) < CLEAR and 1 <= round(apart) <= count + 1 + MERGED:
        count = round(apart) - 1
    step_s = min(apart / (count + 1), 1.0) * period_s
    times = rows.times[first] + step_s * np.arange(1, count + 1)
    samples = np.full((rows.samples.shape[0], count), np.nan)
    return Rows(np.full(count, rows.numbers[first + 1]), times, np.full(count, np.nan), samples)


def in_order(
    times: Floats, tolerance: float = 0.0, ended: bool = True
) -> tuple[NDArray[np.bool_], int | None]:
    """Find single rows whose times do not fit an increasing order.

    Args:
        times: (n,) finite.
        tolerance: a time may go back by so much.
        ended: no more rows follow; otherwise the last one is not judged yet.

    Returns:
        A mask of the rows to keep, and the first row from which on times stay behind, or None.

    """
    keep = np.ones(times.shape, dtype=np.bool_)
    for tries in range(SINGLE + 1):
        kept = np.flatnonzero(keep)
        back = np.flatnonzero(np.diff(times[kept]) < -tolerance)
        if not back.size:
            return keep, None
        if tries == SINGLE:
            return keep, int(kept[back[0] + 1])
        before, here = kept[back[0]], kept[back[0] + 1]
        after = kept[back[0] + 2] if back[0] + 2 < kept.size else None
        if after is None and not ended:
            return keep, None
        if after is None or times[after] >= times[before]:
            keep[here] = False  # it alone is behind
        elif back[0] == 0 or times[kept[back[0] - 1]] <= times[here]:
            if times[after] < times[here]:
                return keep, int(here)
            keep[before] = False  # the one before is ahead of all
        else:
            return keep, int(here)
    raise AssertionError("unreachable")
