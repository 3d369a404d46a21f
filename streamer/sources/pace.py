"""Finds the rate that a recording's times show, and a table's unit of time and sample counter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.channels import RATES_HZ
from streamer.errors import RecordingError, UsageError
from streamer.messages import Floats
from streamer.sources.cells import DAY_S
from streamer.sources.files import UNKNOWN_START
from streamer.sources.packets import Numbering

EARLIEST_UNIX = 1e8  # seconds; times above it are dates (after 1973)
UNITS = {1.0: "s", 1e-3: "ms", 1e-6: "µs", 1e-9: "ns"}
SPREADSHEET = (30_000.0, 80_000.0)  # days since the end of 1899, as spreadsheets write dates: 1982 to 2119
SPREADSHEET_ZERO = 25_569.0  # 1 January 1970 in them
NOMINAL_HZ = (50, 64, 100, 125, 128, 200, 220, 250, 256, 300, 400, 500, 512, 600, 1000, 1024)
SNAP = 0.001  # a rate so close to one of those is taken as it
NEAR = 0.005  # likewise in a table, whose times may be rounded
TOLERANCE = 0.005  # of the declared rate: 18 s in an hour, as for live streams
MOSTLY = 0.9  # share of the steps that must agree
UNBOUNDED = 1 << 40  # for a counter that does not wrap


@dataclass(frozen=True, slots=True)
class Pace:
    """A table's rate and unit of time.

    Attributes:
        rate_hz: samples per second.
        factor: seconds per unit of its times.
        started: Unix time of the first row, or UNKNOWN_START.
        counted: its times are sample numbers.
        remarks: what had to be assumed, for the user.

    """

    rate_hz: float
    factor: float = 1.0
    started: float = UNKNOWN_START
    counted: bool = False
    remarks: tuple[str, ...] = ()


def nominal_near(rate_hz: float, within: float) -> float:
    """Return the usual device rate within a share `within` of this one; else the rate, to 0.0001 Hz."""
    near = min(NOMINAL_HZ, key=lambda nominal: abs(nominal - rate_hz))
    return float(near) if abs(near - rate_hz) <= within * near else round(rate_hz, 4)


def rate_said(declared_hz: float, read_hz: float) -> str:
    """Return the remark on a file whose declared rate differs from that of its times."""
    off = f"{read_hz / declared_hz - 1:+.1%}"
    return f"it states {declared_hz:g} Hz, but its times show {read_hz:g} Hz ({off}): it is read at that rate"


def pace_without_times(path: Path, given_hz: float | None, stated_hz: float | None) -> Pace:
    """Return the pace of a table without times: the given rate, or the one that its first lines state.

    Raises:
        UsageError: there is neither.

    """
    rate_hz = given_hz or stated_hz
    if not rate_hz:
        raise UsageError(f"{path} has no time column; say its rate: rate_hz = 256, or --rate 256")
    return Pace(rate_hz)


def find_pace(
    path: Path, times: Floats, factor: float | None, given_hz: float | None, stated_hz: float | None
) -> Pace:
    """Find the pace from a table's first times.

    Args:
        path: of the table, for messages.
        times: (n,) of the first rows, in the table's unit.
        factor: seconds per unit, if the column's name says it.
        given_hz: the rate in the settings.
        stated_hz: the rate that the file states.

    Raises:
        UsageError: a rate is needed and missing, or given although there are times.
        RecordingError: the times do not increase.

    """
    begun = float(times[0]) if times.size else 0.0
    if factor is None and begun < EARLIEST_UNIX and _counts(times):
        if given_hz is None:
            raise UsageError(
                f"{path}: its times go up by one from row to row, as numbers of samples do; say its rate: "
                "rate_hz = 256, or --rate 256"
            )
        return Pace(given_hz, counted=True, remarks=("its times are read as numbers of samples",))
    if given_hz is not None:
        raise UsageError(
            f"{path} has its own times; take rate_hz = {given_hz:g} out of the settings (or --rate away)"
        )
    raw_hz = _rate(path, times, 1.0 if factor is None else factor)
    remarks: list[str] = []
    if factor is None:
        factor, raw_hz = _scaled(begun, raw_hz)
        if factor != 1.0:
            unit = UNITS.get(factor, "a spreadsheet's days")
            remarks.append(f"its times look like {unit} and are read so")
    rate_hz = nominal_near(raw_hz, NEAR)
    if stated_hz and abs(stated_hz - raw_hz) <= NEAR * stated_hz:
        rate_hz = stated_hz
    elif stated_hz:
        remarks.append(rate_said(stated_hz, rate_hz))
    start = (begun - SPREADSHEET_ZERO * (factor == DAY_S)) * factor
    return Pace(rate_hz, factor, start if start > EARLIEST_UNIX else UNKNOWN_START, False, tuple(remarks))


def numbering(counter: Floats) -> Numbering | None:
    """Find out from its first rows how a column counts samples; None if it does not."""
    if counter.size < 2 or not np.isfinite(counter).all() or (counter != np.rint(counter)).any():
        return None
    steps = np.diff(counter.astype(np.int64))
    ahead = steps[steps > 0]
    if not ahead.size or counter.min() < 0:
        return None
    step = int(np.bincount(ahead.clip(max=1000)).argmax())
    rows = 1 + round(np.count_nonzero(steps == 0) / np.count_nonzero(steps))
    if np.mean((steps == step) | (steps == 0) | (steps < 0)) < MOSTLY:
        return None
    wrap = int(counter.max()) // step * step + step if (steps < 0).any() else UNBOUNDED
    return Numbering(wrap, rows, step)


def _counts(times: Floats) -> bool:
    steps = np.diff(times)
    return steps.size > 0 and bool((times == np.rint(times)).all()) and float(np.mean(steps == 1)) >= MOSTLY


def _rate(path: Path, times: Floats, factor: float) -> float:
    step_s = mean_step(times) * factor
    if not step_s > 0:
        raise RecordingError(f"{path}: its times do not increase; give a time in seconds in every row")
    return 1 / step_s


def mean_step(times: Floats) -> float:
    """Return the mean step of (n,) times, without gaps and steps back; 0 if there is none."""
    steps = np.diff(times)
    steps = steps[steps >= 0]
    while steps.size and (gaps := steps > 20 * float(steps.mean())).any():  # a long gap hides a short one
        steps = steps[~gaps]
    return float(steps.mean()) if steps.size else 0.0


def _scaled(begun: float, raw_hz: float) -> tuple[float, float]:
    """Guess the unit of times: the one that gives a plausible date and rate, else seconds."""
    dated = [factor for factor in UNITS if EARLIEST_UNIX < begun * factor < 100 * EARLIEST_UNIX]
    for factor in (*dated, *UNITS):
        if RATES_HZ[0] * 0.9 <= raw_hz / factor <= RATES_HZ[1] * 2.1:
            return factor, raw_hz / factor
    if SPREADSHEET[0] < begun < SPREADSHEET[1] and RATES_HZ[0] * 0.9 <= raw_hz / DAY_S <= RATES_HZ[1] * 2.1:
        return DAY_S, raw_hz / DAY_S
    factor = dated[0] if dated else 1.0
    return factor, raw_hz / factor
