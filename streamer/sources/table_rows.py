"""Lines of a table to arrays: what is no row is left out and counted, what is no number is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Floats
from streamer.sources import lines
from streamer.sources.cells import Times, numbers
from streamer.sources.lines import Line

CLEAR = 0.3  # of a period, by which two times may miss a whole number of periods
MERGED = 2  # rows more than lines that may have been lost at one place
SET_BACK = 3  # times that a clock may be set in a night; rows that go back more often are in no order
SINGLE = 500  # damaged times at once; more are no exceptions


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows, in order."""

    numbers: NDArray[np.int64]  # (n,) of their lines
    times: Floats  # (n,) s; NaN where the table has none
    counter: Floats  # (n,) the same for its counter
    samples: Floats  # (channels, n); NaN where there is no number

    def __len__(self) -> int:
        return int(self.numbers.shape[0])

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Rows:
        """Only these rows."""
        return Rows(self.numbers[which], self.times[which], self.counter[which], self.samples[:, which])


def together(parts: Sequence[Rows]) -> Rows:
    """Rows one after the other."""
    return Rows(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.counter for part in parts]),
        np.concatenate([part.samples for part in parts], axis=1),
    )


class Tally:
    """Counts what was left out, and says it in one line."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._count = 0
        self._first = 0

    def add(self, numbers: Sequence[int] | NDArray[np.int64]) -> None:
        """Lines that were left out."""
        if len(numbers):
            self._first = self._first or int(numbers[0])
            self._count += len(numbers)

    def remarks(self) -> list[str]:
        """One line, or none."""
        if not self._count:
            return []
        return [f"{self._kind}: {self._count}, the first in line {self._first}"]


class RowParser:
    """Takes lines of one table, block after block.

    Args:
        delimiter: between cells.
        width: cells in a row.
        comma: decimals have a comma.
        times: reads the column `time`; None without one.
        time: its column.
        date: the column of the dates that belong to them, or None.
        counter: the column that counts samples, or None.
        channels: columns of the samples that are wanted.
        notes: the column of events that have rows of their own, or None.

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
        self._bad_times = Tally("rows left out because they bear no time that goes on")
        self._shift_s = 0.0  # by which its clock was set back so far
        self._set_back: list[str] = []
        self._bad_cells = Tally("rows with a cell that is not a number, which counts as lost")

    def remarks(self) -> list[str]:
        """What was left out so far."""
        return [
            *self._times.remarks,
            *self._set_back,
            *self._bad_rows.remarks(),
            *self._bad_times.remarks(),
            *self._bad_cells.remarks(),
        ]

    def parse(self, block: Sequence[Line]) -> Rows:
        """Arrays of the rows; a bad one keeps its place, and there is nothing in it."""
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
        """These lines bear no time, or none that goes on."""
        self._bad_times.add(numbers)

    def set_back(self, rows: Rows, at: int, before: int) -> bool:
        """The clock was set back between two rows: later ones go on; False if that happens too often."""
        steps = np.diff(rows.times[np.isfinite(rows.times)])
        if not (steps > 0).any():
            return False
        back_s = float(rows.times[before] - rows.times[at])
        shift_s = back_s + float(np.median(steps[steps > 0]))
        rows.times[at:] += shift_s
        self._shift_s += shift_s
        self._set_back.append(
            f"its clock was set back by {back_s:.3f} s in line {rows.numbers[at]}; they are read as going on"
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
        times = none if self._time is None else self._seconds(columns) + self._shift_s
        counter = none if self._counter is None else numbers(columns[self._counter], self._comma)[0]
        return Rows(at, times, counter, samples)

    def _seconds(self, columns: Sequence[Sequence[str]]) -> Floats:
        cells: Sequence[str] = columns[self._time or 0]
        return self._times.seconds(
            cells if self._date is None else self._times.dated(columns[self._date], cells)
        )

    def _noted(self, columns: Sequence[Sequence[str]], rows: Rows) -> list[int]:
        """Rows that note an event instead of a measurement, and are no loss."""
        if self._notes is None or not len(rows):
            return []
        empty = np.flatnonzero(np.isnan(rows.samples).all(axis=0)).tolist()
        return [row for row in empty if columns[self._notes][row].strip()]


def _placed(rows: Rows, at: NDArray[np.int64], sound: NDArray[np.bool_]) -> Rows:
    """The sound rows among bad ones, which keep their place with nothing in it."""
    times, counter = np.full(at.size, np.nan), np.full(at.size, np.nan)
    samples = np.full((rows.samples.shape[0], at.size), np.nan)
    times[sound], counter[sound], samples[:, sound] = rows.times, rows.counter, rows.samples
    return Rows(at, times, counter, samples)


def timed(rows: Rows, keep: NDArray[np.bool_], period_s: float) -> Rows:
    """Rows from the first to the last that is kept; those between leave their place empty.

    How many were lost between two is what the times say, where they say it clearly: a line may have been two.
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
    """Empty rows between two that are sound."""
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
    """Which rows' times go on, once single ones that do not are left out.

    Args:
        times: (n,) finite.
        tolerance: by which a time may go back.
        ended: no more rows follow; else nothing is decided of the last one.

    Returns:
        A mask of the rows to keep, and the row at which time goes back for good, or None.

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
