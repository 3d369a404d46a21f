"""Reads CSV and text tables: rows of numbers below a header, or without one as BrainFlow writes them.

`lines.py` splits the file into rows, `columns.py` finds out what the columns are, `cells.py` and
`table_rows.py` read the cells, `pace.py` finds the rate. Only a bad row itself is lost: in a table with times
these show the loss, in one without its place stays empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.messages import Chunk, Gap, Item
from streamer.sources import columns, lines
from streamer.sources.cells import Times, numbers
from streamer.sources.devicetime import FileChecked
from streamer.sources.excursions import LEAST_PERIODS, LEAST_S, Excursions
from streamer.sources.files import UNKNOWN_START, make_distinct
from streamer.sources.lines import Line
from streamer.sources.pace import find_pace, mean_step, numbering, pace_without_times
from streamer.sources.packets import PacketCounter
from streamer.sources.table_rows import RowParser, Rows, in_order, timed, together
from streamer.sources.timeline import Timeline

LINES = 8192  # parsed at once
SAMPLED = 50  # rows that show whether decimals have a comma
FEW_ROWS = 8  # in a table's first rows, whose unit is not known yet, a smaller leap is ignored
HELD = 3  # rows held back: with the next ones they show which is wrong if times go back
LOST = "missing in the file"


class TableRecording:
    """A table, read a few thousand lines at a time."""

    def __init__(self, path: Path, rate_hz: float | None) -> None:
        """Read the first lines to find out columns, times and rate.

        Raises:
            RecordingError: the file is not a table of numbers, or has no channels.
            UsageError: it has no times and `rate_hz` is missing, or has them and `rate_hz` is given.

        """
        self._path = path
        self.remarks: list[str] = []
        self._opening = lines.opening(path)
        if not self._opening.first:
            raise RecordingError(f"{path} has no samples; give a CSV with a header and rows of numbers")
        self._columns = self._described()
        head = list(islice(self._rows([]), LINES))
        self._agreed(head)
        self._comma = self._has_commas(head[:SAMPLED])
        self._usable = self._with_numbers(head)
        rows = self._first(head)
        if self._columns.time is None:
            self._pace = pace_without_times(path, rate_hz, self._columns.rate_hz)
        else:
            self._pace = find_pace(path, rows.times, self._columns.factor, rate_hz, self._columns.rate_hz)
        self.remarks += self._pace.remarks
        if (
            self._opening.header is None
            and self._columns.rate_hz is None
            and self._pace.started == UNKNOWN_START
        ):
            raise RecordingError(
                f"{path} has no header, and no Unix time where BrainFlow puts it; add a header line"
            )
        self._numbering = numbering(rows.counter)
        self.name = path.stem
        found = [self._columns.channels[column] for column in self._usable]
        self.channels = make_distinct((one.label, one.unit) for one in found)
        self.rates_hz = (self._pace.rate_hz,) * len(self.channels)
        self.started = self._pace.started
        self.duration_s: float | None = None

    def together(self, index: int) -> tuple[int, ...]:
        """Return all channels: they share the rows."""
        return tuple(range(len(self.channels)))

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Chunks of the picked channels, and gaps where times or numbers jump."""
        tail: list[str] = []
        parser = self._parser([self._usable[index] for index in picked], self._pace.factor)
        blocks = lines.blocks(self._rows(tail), LINES)
        if self._columns.time is None:
            yield from self._by_place(parser.parse(block) for block in blocks)
        else:
            yield from self._by_time(self._ordered(parser, blocks))
        self.remarks += [*parser.remarks(), *tail]

    def _by_place(self, parsed: Iterator[Rows]) -> Iterator[Item]:
        index = 0
        if self._numbering is None:
            for rows in parsed:
                if len(rows):
                    yield Chunk(index, rows.samples)
                    index += len(rows)
            return
        counted = PacketCounter(self._pace.rate_hz, self._numbering)
        for rows in parsed:
            sound = np.isfinite(rows.counter)  # the counter shows the loss of a row that was left out
            times = (index + np.arange(len(rows))) / self._pace.rate_hz
            index += len(rows)
            yield from counted.push(
                rows.counter[sound].astype(np.int64), times[sound], rows.samples[:, sound]
            )
        yield from counted.flush()

    def _by_time(self, ordered: Iterator[Rows]) -> Iterator[Item]:
        if self._pace.counted:
            yield from _by_number(ordered)
            return
        timeline = Timeline(self._pace.rate_hz, FileChecked(self._pace.rate_hz, self.remarks))
        counted = PacketCounter(self._pace.rate_hz, self._numbering) if self._numbering else None
        for rows in ordered:
            if counted is None:
                yield from timeline.push(rows.times, rows.samples)
                continue
            sound = rows.take(np.isfinite(rows.counter))
            yield from counted.push(sound.counter.astype(np.int64), sound.times, sound.samples)
        yield from counted.flush() if counted is not None else timeline.flush()

    def _ordered(self, parser: RowParser, blocks: Iterator[list[Line]]) -> Iterator[Rows]:
        """Yield rows with increasing times; a single row whose time does not fit leaves an empty place.

        Raises:
            RecordingError: the rows are not in order.

        """
        held: Rows | None = None
        excursions = self._excursions()
        for block in blocks:
            rows = parser.parse(block)
            parser.lose(rows.numbers[np.isnan(rows.times) & np.isfinite(rows.samples).any(axis=0)])
            rows = rows if held is None else together([held, rows])
            rows, later = _undo(excursions, rows)
            shift_s = parser.shift_s
            keep = self._going_on(parser, rows, ended=False)
            later.times[:] += parser.shift_s - shift_s
            kept = np.flatnonzero(keep)
            cut = int(kept[-HELD]) if kept.size > HELD else 0
            held = together([rows.take(slice(cut, None)), later])
            if cut:  # the last of these is the first that is held
                ready = timed(rows.take(slice(0, cut + 1)), keep[: cut + 1], 1 / self._pace.rate_hz)
                yield ready.take(slice(0, -1))
        if held is not None:
            yield timed(held, self._going_on(parser, held, ended=True), 1 / self._pace.rate_hz)
        self.remarks += excursions.remarks()

    def _going_on(self, parser: RowParser, rows: Rows, ended: bool) -> NDArray[np.bool_]:
        """Return a mask of the rows with increasing times.

        Raises:
            RecordingError: the rows are not in order.

        """
        while True:
            real = np.flatnonzero(np.isfinite(rows.times))
            ordered, back = in_order(rows.times[real], ended=ended)
            if back is None:
                parser.lose(rows.numbers[real[~ordered]])
                rows.times[real[~ordered]] = np.nan
                return np.isfinite(rows.times)
            before = np.flatnonzero(ordered[:back])[-1]
            if not parser.set_back(rows, int(real[back]), int(real[before])):
                raise RecordingError(
                    f"{self._path}, line {rows.numbers[real[back]]}: its time is before the line above; "
                    "sort the rows"
                )

    def _rows(self, remarks: list[str]) -> Iterator[Line]:
        return lines.rows(self._path, self._opening.above, self._opening.delimiter, remarks)

    def _parser(self, channels: Sequence[int], factor: float) -> RowParser:
        return RowParser(
            self._opening.delimiter,
            self._columns.width,
            self._comma,
            Times(factor, self._comma),
            self._columns.time,
            self._columns.date,
            self._columns.counter,
            channels,
            self._columns.notes,
        )

    def _described(self) -> columns.Columns:
        """Find out the columns from the header, or from a layout without one."""
        opening = self._opening
        if opening.header is not None:
            names = [lines.text(name) for name in lines.split(opening.header, opening.delimiter)]
            names = names[:-1] if len(names) > 1 and not names[-1] else names
            return columns.named(names, opening.preamble, [lines.text(unit) for unit in opening.units])
        first = [cell.strip() for cell in lines.split(opening.first, opening.delimiter)]
        first = first[:-1] if len(first) > 1 and not first[-1] else first
        known = columns.unheaded(first, opening.preamble)
        if known is None and len(first) < 4:
            raise RecordingError(
                f"{self._path} has no header and too few columns ({len(first)}) for BrainFlow's; "
                "add a header line"
            )
        return known or columns.numbered(len(first))

    def _agreed(self, head: Sequence[Line]) -> None:
        """Check that most rows have as many cells as the header.

        Raises:
            RecordingError: they have not.

        """
        width = self._columns.width
        counts = [len(lines.fitted(lines.split(line, self._opening.delimiter), width)) for _, line in head]
        wrong = next((at for at, count in enumerate(counts) if count != width), None)
        if wrong is not None and 2 * counts.count(width) <= len(counts):
            raise RecordingError(
                f"{self._path}, line {head[wrong][0]}: {counts[wrong]} cells, the first line has {width}; "
                "mend the line"
            )

    def _has_commas(self, head: Sequence[Line]) -> bool:
        """Whether decimals are written with a comma."""
        if self._opening.delimiter == ",":
            return False
        cells = [cell.strip() for _, line in head for cell in lines.split(line, self._opening.delimiter)]
        with_comma = sum(columns.DECIMAL_COMMA.fullmatch(cell) is not None for cell in cells)
        return with_comma > sum(columns.DECIMAL_POINT.fullmatch(cell) is not None for cell in cells)

    def _with_numbers(self, head: Sequence[Line]) -> list[int]:
        """Return the columns that hold numbers.

        Raises:
            RecordingError: there is none.

        """
        width = self._columns.width
        cut = [lines.fitted(lines.split(line, self._opening.delimiter), width) for _, line in head]
        rows = [cells for cells in cut if len(cells) == width]
        usable: list[int] = []
        text: list[int] = []
        for column in self._columns.channels:
            values, wrong = numbers([cells[column] for cells in rows], self._comma)
            measured = np.count_nonzero(np.isfinite(values))
            (usable if measured > len(wrong) else text).append(column)
        if text:
            named = ", ".join(repr(self._columns.names[column]) for column in text)
            self.remarks.append(f"columns left out because they do not hold numbers: {named}")
        if usable:
            return usable
        if self._columns.channels:
            raise RecordingError(
                f"{self._path} has no column of numbers; give a CSV with a column per channel"
            )
        raise RecordingError(
            f"{self._path} has no channels, only times; give a CSV with a column per channel"
        )

    def _first(self, head: Sequence[Line]) -> Rows:
        """Return the first rows, with their times in the table's own unit."""
        parser = self._parser(self._usable, 1.0)
        rows = parser.parse(head)
        if self._columns.time is None:
            return rows
        if 2 * np.count_nonzero(np.isfinite(rows.times)) <= len(head):
            raise RecordingError(
                f"{self._path}: most rows have no time; give one in seconds, or a date, in every row"
            )
        real = rows.times[np.isfinite(rows.times)]
        ahead = np.diff(real)[np.diff(real) > 0]
        self._grain = float(np.median(ahead)) if ahead.size else 0.0
        self._period = mean_step(real)
        if self._period > 0:
            least = max(FEW_ROWS * self._period, LEAST_PERIODS * self._grain)
            _undo(Excursions(self._period, least, least), rows)
        return rows.take(self._going_on(parser, rows, ended=True))

    def _excursions(self) -> Excursions:
        """Make what undoes excursions in the table's times."""
        period_s, grain_s = self._period * self._pace.factor, self._grain * self._pace.factor
        least_s = max(LEAST_S, LEAST_PERIODS * grain_s)
        return Excursions(period_s, least_s, least_s)


def _undo(excursions: Excursions, rows: Rows) -> tuple[Rows, Rows]:
    """Undo excursions in the times of rows, and split off the rows that may belong to an open one."""
    real = np.flatnonzero(np.isfinite(rows.times))
    rows.times[real] = excursions.undo(rows.times[real], real)
    open_ = excursions.first_open(rows.times[real])
    cut = int(real[open_]) if open_ < real.size else len(rows)
    return rows.take(slice(0, cut)), rows.take(slice(cut, None))


def _by_number(ordered: Iterator[Rows]) -> Iterator[Item]:
    """Yield chunks and gaps of rows whose times are sample numbers."""
    zero: float | None = None
    index = 0
    for lines_ in ordered:
        rows = lines_.take(np.flatnonzero(np.isfinite(lines_.samples).any(axis=0)))
        if not len(rows):
            continue
        zero = float(rows.times[0]) if zero is None else zero
        at = np.rint(rows.times - zero).astype(np.int64)
        for part in np.split(np.arange(at.size), np.flatnonzero(np.diff(at) != 1) + 1):
            start = max(index, int(at[part[0]]))
            if start > index:
                yield Gap(index, start, LOST)
            yield Chunk(start, rows.samples[:, part])
            index = start + part.size
