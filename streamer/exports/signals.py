"""The label, unit and scale of each recorded channel, for EDF and BIDS.

EDF has 16 characters for a label and 8 for a number, without an exponent: labels are shortened so that no two
become equal, and a range that would not fit is written in another power of ten of its unit. Nothing is cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray

from streamer.journal import JournalReader
from streamer.messages import Channel, Floats
from streamer.night.session import Night
from streamer.sources.units import microvolts_in

LABEL, UNIT, NUMBER = 16, 8, 8  # characters of EDF's fields
DIGITAL = 32767
LEAST_HALF_UV = 3276.7  # physical range of a voltage: 0.1 µV steps where that is enough
SMALL_HALF = 3.2767  # of what is smaller than this, in µV and then in nV
MADS = 30.0  # else so many median absolute deviations: drift widens the range, a rail does not
THIN = 16  # every so many samples are looked at for the median
RESERVED = ("EDF Annotations", "BDF Annotations")
VOLTAGES = ((1e3, "nV"), (1.0, "uV"), (1e-3, "mV"), (1e-6, "V"))  # one µV in each
MOST = 9_999_999  # that eight characters hold with a sign
LEAST = 1e-3  # below, the digits behind a point become too few
# Labels of what devices send beside EEG; where a file declares no unit at all, they are no voltage.
_NO_ELECTRODE = re.compile(
    r"(.*[ _])?(acc|gyr|mag|bat|time|stamp|pack|count|index|marker|trig|event|status|temp|light|ppg|spo2"
    r"|heart|flag|sample|quality|unix)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Column:
    """One recorded channel as every export writes it."""

    label: str  # at most 16 characters, unlike all others
    source: str  # as its device names it
    voltage: bool
    factor: float  # source units to µV; 1 for what is no voltage
    unit: str  # of what is no voltage
    staged: str  # its part in what was staged, or ""


@dataclass(frozen=True, slots=True)
class ExportScale:
    """How one channel's values become 16 bits."""

    column: Column
    unit: str
    factor: float  # source units to `unit`
    low: float  # physical minimum, in `unit`, as the header can say it
    high: float

    @property
    def label(self) -> str:
        """Of the channel."""
        return self.column.label

    def digital(self, values: Floats) -> NDArray[np.int16]:
        """(n,) source units -> (n,) digital; beyond the range is clipped, not a number is the minimum."""
        step = (self.high - self.low) / (2 * DIGITAL)
        scaled = np.rint((np.nan_to_num(values * self.factor, nan=self.low) - self.low) / step) - DIGITAL
        digital: NDArray[np.int16] = np.clip(scaled, -DIGITAL, DIGITAL).astype("<i2")
        return digital


def columns(night: Night) -> tuple[tuple[Column, ...], list[str]]:
    """Every recorded channel, in order, and what a person should know of their units.

    What staging was told of the unit holds for what it staged, and for the channels that declare the same.
    """
    channels, told = night.meta.info.channels, night.signal.unit
    parts = _parts(night)
    declared = {channels[index].unit for index in parts}
    found, also = [], []
    for index, (channel, label) in enumerate(zip(channels, distinct_labels(channels), strict=True)):
        unit = channel.unit
        if told is not None and (index in parts or (unit in declared and not _is_no_electrode(channel))):
            unit = told
            also += [] if index in parts else [label]
        factor = None if unit == channel.unit and _is_no_electrode(channel) else microvolts_in(unit)
        found.append(
            Column(
                label=label,
                source=channel.label,
                voltage=factor is not None,
                factor=1.0 if factor is None else factor,
                unit="" if factor is not None else printable_ascii(unit)[:UNIT].strip(),
                staged=parts.get(index, ""),
            )
        )
    said = f"{', '.join(also)}: taken as {told}, as they declare the same unit as what was staged"
    return tuple(found), [said] if also else []


def distinct_labels(channels: Sequence[Channel]) -> list[str]:
    """A label for each channel: printable ASCII, at most 16 characters, and no two of them equal."""
    plain = [
        printable_ascii(channel.label) or f"channel {number}" for number, channel in enumerate(channels, 1)
    ]
    taken = set(RESERVED)
    out: dict[int, str] = {}
    for fits in (True, False):  # a label that needs no change keeps its name whatever comes before it
        for number, label in enumerate(plain):
            if number in out or (fits and (len(label) > LABEL or label in taken)):
                continue
            out[number] = _free(label, taken)
            taken.add(out[number])
    return [out[number] for number in range(len(plain))]


def scales(night: Night) -> tuple[tuple[ExportScale, ...], list[str]]:
    """Ranges from the middle of each channel, so that an electrode on the rail cannot coarsen its signal.

    Returns:
        One scale per channel, and what a person should know of them.

    """
    found, remarks = columns(night)
    thin: list[Floats] = []
    lows = np.full(len(found), np.inf)
    highs = np.full(len(found), -np.inf)
    with JournalReader(night.path) as reader:
        for chunk in reader.samples():
            samples = np.where(np.isfinite(chunk.samples), chunk.samples, np.nan)
            thin.append(samples[:, ::THIN])
            lows = np.fmin(lows, np.nanmin(samples, axis=1, initial=np.inf))
            highs = np.fmax(highs, np.nanmax(samples, axis=1, initial=-np.inf))
    out = []
    for number, column in enumerate(found):
        values = np.concatenate([part[number] for part in thin]) if thin else np.zeros(1)
        real = values[np.isfinite(values)] * column.factor
        known = np.isfinite(lows[number])
        low, high = (float(end[number]) * column.factor if known else 0.0 for end in (lows, highs))
        out.append(_scale(column, real, low, high))
        if real.size < values.size:
            share = 1 - real.size / values.size
            remarks.append(
                f"{column.label}: {share:.2%} of the samples are no numbers; the last value is held"
            )
    return tuple(out), [*_clipped(night, out, lows, highs), *remarks]


def _clipped(night: Night, found: Sequence[ExportScale], lows: Floats, highs: Floats) -> list[str]:
    """What lies beyond the ranges, counted sample by sample where anything does."""
    factors = np.array([scale.factor for scale in found])
    margins = np.array([1e-6 * (scale.high - scale.low) for scale in found])
    least = np.array([scale.low for scale in found]) - margins
    most = np.array([scale.high for scale in found]) + margins
    if not ((lows * factors < least) | (np.isfinite(highs) & (highs * factors > most))).any():
        return []
    beyond, count = np.zeros(len(found)), np.zeros(len(found))
    with JournalReader(night.path) as reader:
        for chunk in reader.samples():
            values = np.where(np.isfinite(chunk.samples), chunk.samples, np.nan) * factors[:, None]
            beyond += ((values < least[:, None]) | (values > most[:, None])).sum(axis=1)
            count += np.isfinite(values).sum(axis=1)
    return [
        f"{scale.label}: {max(share, 1e-4):.2%} of the samples lie beyond {scale.low:g} to {scale.high:g} "
        f"{scale.unit} and were clipped, so that the rest keeps its resolution"
        for scale, share in zip(found, beyond / np.maximum(count, 1), strict=True)
        if share
    ]


def number(value: float, rounding: str = ROUND_FLOOR) -> str:
    """Write a number in at most eight characters without an exponent, rounded to that side.

    Raises:
        ValueError: it does not fit; numbers are never cut.

    """
    if abs(value) < 10**NUMBER:  # and no infinity, and a number
        exact = Decimal(repr(float(value)))
        for digits in range(NUMBER - 2, -1, -1):
            text = f"{exact.quantize(Decimal(1).scaleb(-digits), rounding):f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
            text = "0" if text == "-0" else text
            if len(text) <= NUMBER:
                return text
    raise ValueError(f"{value:g} does not fit into {NUMBER} characters")


def _scale(column: Column, values: Floats, low: float, high: float) -> ExportScale:
    """One channel's scale; all in µV or the channel's unit."""
    if column.voltage:
        low, high = _voltage_range(values, low, high)
        power, unit = _voltage_unit(max(abs(low), abs(high)))
    else:
        power, unit = _power_unit(column.unit, max(abs(low), abs(high)))
    ends = float(number(low * power, ROUND_FLOOR)), float(number(high * power, ROUND_CEILING))
    if ends[1] <= ends[0]:
        ends = float(number(ends[0] - 1, ROUND_FLOOR)), float(number(ends[1] + 1, ROUND_CEILING))
    return ExportScale(column, unit, column.factor * power, *ends)


def _voltage_range(values: Floats, low: float, high: float) -> tuple[float, float]:
    """In µV."""
    most = max(abs(low), abs(high))
    for half in (SMALL_HALF * 1e-3, SMALL_HALF):
        if 0 < most <= half:  # what is so small has a wrong unit: at least it is all there
            return -half, half
    if most <= LEAST_HALF_UV or not values.size:
        return -LEAST_HALF_UV, LEAST_HALF_UV
    middle = float(np.median(values))
    half = max(LEAST_HALF_UV, MADS * float(np.median(np.abs(values - middle))))
    return max(low, middle - half), min(high, middle + half)


def _voltage_unit(most_uv: float) -> tuple[float, str]:
    """The unit in which a range fits, and one µV in it."""
    if most_uv <= SMALL_HALF * 1e-3:
        return VOLTAGES[0]
    for power, unit in VOLTAGES[1:]:
        if most_uv * power <= MOST:
            return power, unit
    power, unit = _power_unit("V", most_uv * VOLTAGES[-1][0])
    return power * VOLTAGES[-1][0], unit


def _power_unit(unit: str, most: float) -> tuple[float, str]:
    """A power of ten in which a range fits, and the unit with it."""
    if most == 0 or LEAST <= most <= MOST:
        return 1.0, unit
    thousands = int(np.floor(np.log10(most) / 3)) * 3
    return float(f"1e{-thousands}"), f"10^{thousands}{unit}"[:UNIT]


def _parts(night: Night) -> dict[int, str]:
    """The staged channels, by position, and what each was in the derivation."""
    parts: dict[int, str] = {}
    for turn, pick in enumerate(night.picks):
        name = f"staged as {pick.label}" if turn == 0 else f"to fall back on, as {pick.label}"
        parts.setdefault(pick.plus, name)
        if pick.minus is not None:
            parts.setdefault(pick.minus, f"{name}, subtracted")
    return parts


def _is_no_electrode(channel: Channel) -> bool:
    """Whether it declares no unit and has a name that is not EEG's."""
    silent = not channel.unit.strip() or channel.unit.strip().casefold() in ("none", "n/a", "nan")
    return silent and _NO_ELECTRODE.match(channel.label) is not None


def _free(label: str, taken: set[str]) -> str:
    """The label, shortened in its middle, and numbered where that is not enough."""
    tail = LABEL // 2
    short = label if len(label) <= LABEL else f"{label[: LABEL - tail - 1].rstrip()}~{label[-tail:].lstrip()}"
    count = 1
    name = short
    while name in taken:
        count += 1
        mark = f"#{count}"
        name = f"{short[: LABEL - len(mark)].rstrip()}{mark}"
    return name


def printable_ascii(text: str) -> str:
    """Printable ASCII, as near as it comes: no control characters, no accents."""
    plain = unicodedata.normalize("NFKD", text.replace("µ", "u").replace("μ", "u"))
    kept = (one for one in plain if not unicodedata.combining(one))
    return " ".join("".join(one if " " <= one <= "~" else "_" for one in kept).split())
