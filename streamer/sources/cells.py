"""Reads the cells of a table: numbers with a decimal point or comma, and times in many formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np

from streamer.messages import Floats

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MISSING = ("", "nan", "na", "n/a", "none", "null", "-nan", "inf", "-inf")  # nothing was measured
_OF_DAY = re.compile(r"(\d{1,2}):(\d\d):(\d\d)(?:[.,:](\d{1,9}))?", re.ASCII)
_SECONDS_COMMA = re.compile(r"(:\d\d),(\d+)\b", re.ASCII)
_PATTERNS = (
    *("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S"),
    *("%Y-%m-%d %H:%M:%S:%f", "%Y-%m-%d-%H:%M:%S.%f", "%d-%b-%Y %H:%M:%S.%f", "%d-%b-%Y %H:%M:%S"),
)
DAY_S, HOUR_S = 86_400.0, 3600.0
STEP_S = 2.0  # a step from or to summer time may miss the whole hour by so much


def number(cell: str, comma: bool = False) -> float | None:
    """Read a cell: a number, NaN if it says that nothing was measured, None if it is not a number.

    `comma`: the table's decimals have a comma.
    """
    cell = cell.strip()
    if comma:
        cell = cell.replace(",", ".") if "." not in cell and cell.count(",") == 1 else cell
    if _NUMBER.fullmatch(cell):
        return float(cell)
    return float("nan") if cell.casefold() in _MISSING else None


def numbers(cells: Sequence[str], comma: bool = False) -> tuple[Floats, list[int]]:
    """Read a column: (n,) numbers with NaN where there is none, and the rows with something else in them."""
    text = "".join(cells)
    if text.isascii() and "_" not in text:  # float() would also read 1_000 and digits of other scripts
        plain = [cell.replace(",", ".") for cell in cells] if comma and "." not in text else cells
        with suppress(ValueError):
            return np.array(list(map(float, plain))), []
    found = [number(cell, comma) for cell in cells]
    wrong = [row for row, value in enumerate(found) if value is None]
    return np.array([np.nan if value is None else value for value in found]), wrong


class Times:
    """Reads a column of times as seconds.

    Takes numbers, ISO 8601, other dates with a time of day, or a time of day alone. A time without a zone is
    taken as UTC. Such times are continued over midnight, and over the hour that is repeated when summer time
    ends or left out when it begins.

    Attributes:
        remarks: what had to be assumed; grows.
        of_day: the times have no date.

    """

    def __init__(self, factor: float = 1.0, comma: bool = False) -> None:
        self.factor = factor  # seconds per unit of the numbers
        self.remarks: list[str] = []
        self.of_day = False
        self._comma = comma
        self._pattern: str | None = None
        self._dated: bool | None = None
        self._local = False  # the last block's times had no zone
        self._shift = 0.0  # s, added for midnights and changes of the clocks so far
        self._latest: float | None = None

    def seconds(self, cells: Sequence[str]) -> Floats:
        """Return (n,) seconds; NaN where a cell is not a time."""
        values, wrong = numbers(cells, self._comma)
        if 2 * len(wrong) <= len(cells):
            return values * self.factor
        self._local = True
        read = np.array([self._clock(cell) for cell in cells])
        return self._unwrapped(read) if self._local else read

    def dated(self, dates: Sequence[str], cells: Sequence[str]) -> Sequence[str]:
        """Join the dates of one column with the times of day of another, if together they make times."""
        if self._dated is None and cells:
            self._dated = _OF_DAY.fullmatch(_pointed(cells[0])) is not None and bool(
                np.isfinite(self._clock(f"{dates[0].strip()} {cells[0].strip()}"))
            )
        if not self._dated:
            return cells
        return [f"{date.strip()} {cell.strip()}" for date, cell in zip(dates, cells, strict=True)]

    def _clock(self, cell: str) -> float:
        cell = _pointed(cell)
        of_day = _OF_DAY.fullmatch(cell)
        if of_day is not None:
            self.of_day = True
            fraction = float(f"0.{of_day[4]}") if of_day[4] else 0.0
            return int(of_day[1]) * HOUR_S + int(of_day[2]) * 60 + int(of_day[3]) + fraction
        when = self._date(cell)
        if when is None:
            return float("nan")
        if when.tzinfo is not None:
            self._local = False
            return when.timestamp()
        return when.replace(tzinfo=UTC).timestamp()

    def _date(self, cell: str) -> datetime | None:
        with suppress(ValueError):
            return datetime.fromisoformat(cell)
        for pattern in (self._pattern, *_PATTERNS) if self._pattern else _PATTERNS:
            with suppress(ValueError):
                when = datetime.strptime(cell, pattern)
                self._pattern = pattern
                return when
        return self._slashed(cell)

    def _slashed(self, cell: str) -> datetime | None:
        """A date such as 01/02/2024: with AM or PM the month comes first, else the day if it can."""
        american = cell.casefold().endswith("m")
        clock = "%I:%M:%S" if american else "%H:%M:%S"
        tail = " %p" if american else ""
        for order in ("%m/%d/%Y", "%d/%m/%Y") if american else ("%d/%m/%Y", "%m/%d/%Y"):
            for fraction in (".%f", ""):
                with suppress(ValueError):
                    when = datetime.strptime(cell, f"{order} {clock}{fraction}{tail}")
                    self._pattern = f"{order} {clock}{fraction}{tail}"
                    if when.day <= 12 and when.day != when.month:
                        first = "month" if order.startswith("%m") else "day"
                        self.remarks.append(f"its dates are read with the {first} first: {cell!r}")
                    return when
        return None

    def _unwrapped(self, read: Floats) -> Floats:
        """Make local times increase over midnight and over the change of the clocks."""
        out = read.copy()
        for row in np.flatnonzero(np.isfinite(read)):
            value = float(read[row]) + self._shift
            if self._latest is not None:
                step = value - self._latest
                if self.of_day and abs(step + DAY_S) < DAY_S / 2:
                    self._turn(DAY_S, "")
                elif abs(step + HOUR_S) < STEP_S and _on_the_hour(value, self._latest):
                    self._turn(HOUR_S, "its local times repeat an hour, as when summer time ends")
                elif abs(step - HOUR_S) < STEP_S and _on_the_hour(value, self._latest):
                    self._turn(-HOUR_S, "its local times leave out an hour, as when summer time begins")
            self._latest = out[row] = float(read[row]) + self._shift
        return out

    def _turn(self, by_s: float, remark: str) -> None:
        self._shift += by_s
        if remark:
            self.remarks.append(f"{remark}; they are read as going on")


def _pointed(cell: str) -> str:
    """Write the fraction of a second with a point instead of a comma."""
    return _SECONDS_COMMA.sub(r"\1.\2", cell.strip())


def _on_the_hour(value: float, before: float) -> bool:
    """Whether a jump of one hour lies on a full hour, as the change of the clocks does."""
    return value % HOUR_S < STEP_S and -before % HOUR_S < STEP_S
