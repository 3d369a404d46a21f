"""Finds out what the columns of a table are: the time, a counter, channels with their units, or text.

Knows the layouts of OpenBCI's GUI (`%` lines, Sample Index, EXG Channel 0 ...), Mind Monitor (RAW_TP9 ...,
Elements), muse-lsl (timestamps, TP9 ...), OpenViBE (Time:512Hz) and BrainFlow (numbers without a header).
Otherwise it takes any header that names a time and channels, with the unit in brackets: "AF7 (uV)".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.messages import Channel

_TIME = (
    r"(?:(?:lsl|unix|local|utc|elapsed|recording) )*"
    r"(?:times?|times? ?stamps?|ts|t|seconds?|secs?|date ?time|date|clock|elapsed|utc"
    r"|zeit|zeitstempel|uhrzeit|datum|temps|heure|tiempo|hora|fecha|tijd)"
)
_SCALE = (
    r"(?P<unit>s|secs?|seconds?|ms|msecs?|milliseconds?|[uµμ]s|[uµμ]?secs?|microseconds?|ns|nanoseconds?)"
)
_TIMES = re.compile(
    rf"{_TIME}(?: ?[\[(] ?(?:{_SCALE}|utc|unix|local|iso) ?[\])]| {_SCALE.replace('unit', 'last')}|:\d+ ?hz)?"
)
_UNIT = re.compile(r"(.*?)\s*[\[(]([^\])]*)[\])]")
_RATE = re.compile(r"sample rate\s*=\s*([0-9.]+)", re.IGNORECASE)
_COUNT = re.compile(r"number of channels\s*=\s*([0-9]+)", re.IGNORECASE)
_DATES = ("date", "datum", "fecha")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
DECIMAL_POINT = re.compile(r"[+-]?[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?")
SECONDS = {"s": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9}
NUMBER = "number"  # unit of a column that is not a voltage, or whose meaning is unknown


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, by their number from 0.

    Attributes:
        channels: the channels; columns of text are among them until rows have been read.
        time: the column of the times, if there is one.
        factor: seconds per unit of the times, if the column's name says it.
        counter: the column of a sample counter that wraps, if there is one.
        rate_hz: the rate, if the file states it.
        date: the column of the date, if dates and times of day have columns of their own.
        notes: Mind Monitor's column of events; an event has a row of its own.
        names: of all columns, as in the file.

    """

    channels: dict[int, Channel]
    time: int | None
    factor: float | None
    counter: int | None
    rate_hz: float | None
    names: tuple[str, ...]
    notes: int | None = None
    date: int | None = None

    @property
    def width(self) -> int:
        """Cells in a row."""
        return len(self.names)


def named(names: Sequence[str], preamble: Sequence[str], units: Sequence[str] = ()) -> Columns:
    """Read a header of names; `preamble` are the `%` lines above it, `units` a line below it."""
    plain = [" ".join(name.casefold().replace("_", " ").split()) for name in names]
    timed = [n for n, name in enumerate(plain) if _TIMES.fullmatch(name)]
    time = next((n for n in timed if plain[n] not in _DATES), timed[0]) if timed else None
    date = next((n for n in timed if plain[n] in _DATES and n != time), None)
    openbci = "sample index" in plain and any(name.startswith("exg channel") for name in plain)
    monitor = any(name.startswith("raw ") for name in plain) and "elements" in plain
    channels = {
        n: _channel(name, openbci, monitor, units[n].strip("()[] ") if n < len(units) else "")
        for n, name in enumerate(names)
        if n not in (time, date) and not (openbci and plain[n] in ("other", "sample index"))
    }
    counter = plain.index("sample index") if openbci else None
    factor = None if time is None else _factor(plain[time])
    if time is not None and factor is None and time < len(units):
        factor = _factor(f"t ({units[time].strip('()[] ').casefold()})")
    notes = plain.index("elements") if monitor else None
    return Columns(channels, time, factor, counter, _rate(preamble), tuple(names), notes, date)


def numbered(count: int) -> Columns:
    """Return BrainFlow's layout: a column per board row, named by its number; the last but one is time."""
    channels = {n: Channel(str(n), "uV" if 0 < n < count - 2 else NUMBER) for n in range(count)}
    return Columns(channels, count - 2, 1.0, None, None, tuple(map(str, range(count))))


def unheaded(first: Sequence[str], preamble: Sequence[str]) -> Columns | None:
    """Return OpenBCI's layout before version 5, whose `%` lines give the number of channels but no names.

    `first` is the first row. The last column with a date or a time of day is the time. Returns None if the
    `%` lines do not give the number.
    """
    stated = next((int(match[1]) for line in preamble if (match := _COUNT.search(line))), None)
    if stated is None or not 0 < stated < len(first):
        return None
    channels = {n + 1: Channel(f"EXG Channel {n}", "uV") for n in range(stated)}
    later = range(stated + 1, len(first))
    time = next(
        (n for n in reversed(later) if ":" in first[n] or re.fullmatch(r"1\d{12}(\.0*)?", first[n])), None
    )
    return Columns(channels, time, None, 0, _rate(preamble), tuple(map(str, range(len(first)))))


def _channel(name: str, openbci: bool, monitor: bool, unit: str) -> Channel:
    match = _UNIT.fullmatch(name)
    if match:
        return Channel(match[1], match[2].strip())
    if openbci:
        return Channel(name, "uV" if name.casefold().startswith("exg") else NUMBER)
    if monitor:
        return Channel(name, "uV" if name.casefold().startswith(("raw", "aux")) else NUMBER)
    return Channel(name, unit)


def _factor(name: str) -> float | None:
    match = _TIMES.fullmatch(name)
    unit = (match["unit"] or match["last"]) if match else None
    if unit is None:
        return 1.0 if ":" in name or name in ("seconds", "second", "sec", "secs") else None
    return 1.0 if unit.startswith("se") else SECONDS["u" if unit.startswith("micro") else unit[0]]


def _rate(preamble: Sequence[str]) -> float | None:
    return next((float(match[1]) for line in preamble if (match := _RATE.search(line))), None)
