"""The label, unit and scale of each recorded channel, for EDF and BIDS.

EDF has 16 characters for a label, and 8 for a number without an exponent. So labels are shortened such that
no two become equal, and a range that does not fit is written in another power of ten of its unit. No number
is cut off.
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
LEAST_HALF_UV = 3276.7  # usual physical range of a voltage: steps of 0.1 µV
SMALL_HALF = 3.2767  # range of smaller signals, in µV, and of even smaller ones in nV
MADS = 30.0  # range of larger signals in median absolute deviations: drift widens it, a rail does not
THIN = 16  # every 16th sample is used for the median
RESERVED = ("EDF Annotations", "BDF Annotations")
VOLTAGES = ((1e3, "nV"), (1.0, "uV"), (1e-3, "mV"), (1e-6, "V"))  # one µV in each
MOST = 9_999_999  # fits into eight characters with a sign
LEAST = 1e-3  # smaller values would have too few digits after the point
# Labels of other channels that devices send; without a declared unit these are not voltages.
_NO_ELECTRODE = re.compile(
    r"(.*[ _])?(acc|gyr|mag|bat|time|stamp|pack|count|index|marker|trig|event|status|temp|light|ppg|spo2"
    r"|heart|flag|sample|quality|unix)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Column:
    """One recorded channel, as exports write it."""

    label: str  # unique, at most 16 characters
    source: str  # the device's label
    voltage: bool
    factor: float  # source units to µV; 1 if it is not a voltage
    unit: str  # if it is not a voltage, else ""
    staged: str  # how it was used for staging, or ""


@dataclass(frozen=True, slots=True)
class ExportScale:
    """How one channel's values are converted to 16 bits."""

    column: Column
    unit: str
    factor: float  # source units to `unit`
    low: float  # physical minimum in `unit`, as written in the header
    high: float

    @property
    def label(self) -> str:
        """The channel's label."""
        return self.column.label

    def digital(self, values: Floats) -> NDArray[np.int16]:
        """Convert (n,) source units to (n,) digital values; clips to the range, NaN becomes the minimum."""
        step = (self.high - self.low) / (2 * DIGITAL)
        scaled = np.rint((np.nan_to_num(values * self.factor, nan=self.low) - self.low) / step) - DIGITAL
        digital: NDArray[np.int16] = np.clip(scaled, -DIGITAL, DIGITAL).astype("<i2")
        return digital


def describe_columns(night: Night) -> tuple[tuple[Column, ...], list[str]]:
    """All recorded channels in order, and remarks on their units for the user.

    The unit in the settings applies to the staged channels, and to others that declare the same unit as
    these.
    """
    channels, told = night.meta.info.channels, night.signal.unit
    parts = _parts(night)
    declared = {channels[index].unit for index in parts}
    found, also = [], []
    for index, (channel, label) in enumerate(zip(channels, make_labels(channels), strict=True)):
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
                unit="" if factor is not None else to_ascii(unit)[:UNIT].strip(),
                staged=parts.get(index, ""),
            )
        )
    said = f"{', '.join(also)}: taken as {told}, because they declare the same unit as the staged channel"
    return tuple(found), [said] if also else []


def make_labels(channels: Sequence[Channel]) -> list[str]:
    """Make a label for each channel: printable ASCII, at most 16 characters, no two equal."""
    plain = [to_ascii(channel.label) or f"channel {number}" for number, channel in enumerate(channels, 1)]
    taken = set(RESERVED)
    out: dict[int, str] = {}
    for fits in (True, False):  # first those that need no change, so that they keep their label
        for number, label in enumerate(plain):
            if number in out or (fits and (len(label) > LABEL or label in taken)):
                continue
            out[number] = _free(label, taken)
            taken.add(out[number])
    return [out[number] for number in range(len(plain))]


def choose_scales(night: Night) -> tuple[tuple[ExportScale, ...], list[str]]:
    """Choose each channel's range around its median, so that railed samples do not coarsen the signal.

    Returns:
        One scale per channel, and remarks for the user.

    """
    found, remarks = describe_columns(night)
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
                f"{column.label}: {share:.2%} of the samples are not numbers; the last value is repeated"
            )
    return tuple(out), [*_clipped(night, out, lows, highs), *remarks]


def _clipped(night: Night, found: Sequence[ExportScale], lows: Floats, highs: Floats) -> list[str]:
    """Return a remark for each channel with samples beyond its range; they are counted."""
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


def format_number(value: float, rounding: str = ROUND_FLOOR) -> str:
    """Write a number in at most eight characters without an exponent.

    Raises:
        ValueError: it does not fit.

    """
    if abs(value) < 10**NUMBER:  # also false for infinity and NaN
        exact = Decimal(repr(float(value)))
        for digits in range(NUMBER - 2, -1, -1):
            text = f"{exact.quantize(Decimal(1).scaleb(-digits), rounding):f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
            text = "0" if text == "-0" else text
            if len(text) <= NUMBER:
                return text
    raise ValueError(f"{value:g} does not fit into {NUMBER} characters")


def _scale(column: Column, values: Floats, low: float, high: float) -> ExportScale:
    """Choose one channel's scale from its values and extremes, in µV or the channel's unit."""
    if column.voltage:
        low, high = _voltage_range(values, low, high)
        power, unit = _voltage_unit(max(abs(low), abs(high)))
    else:
        power, unit = _power_unit(column.unit, max(abs(low), abs(high)))
    ends = float(format_number(low * power, ROUND_FLOOR)), float(format_number(high * power, ROUND_CEILING))
    if ends[1] <= ends[0]:
        ends = (
            float(format_number(ends[0] - 1, ROUND_FLOOR)),
            float(format_number(ends[1] + 1, ROUND_CEILING)),
        )
    return ExportScale(column, unit, column.factor * power, *ends)


def _voltage_range(values: Floats, low: float, high: float) -> tuple[float, float]:
    """The range of a voltage, µV."""
    most = max(abs(low), abs(high))
    for half in (SMALL_HALF * 1e-3, SMALL_HALF):
        if 0 < most <= half:  # so small only with a wrong unit; keep the resolution
            return -half, half
    if most <= LEAST_HALF_UV or not values.size:
        return -LEAST_HALF_UV, LEAST_HALF_UV
    middle = float(np.median(values))
    half = max(LEAST_HALF_UV, MADS * float(np.median(np.abs(values - middle))))
    return max(low, middle - half), min(high, middle + half)


def _voltage_unit(most_uv: float) -> tuple[float, str]:
    """The factor from µV, and the unit, in which a range fits."""
    if most_uv <= SMALL_HALF * 1e-3:
        return VOLTAGES[0]
    for power, unit in VOLTAGES[1:]:
        if most_uv * power <= MOST:
            return power, unit
    power, unit = _power_unit("V", most_uv * VOLTAGES[-1][0])
    return power * VOLTAGES[-1][0], unit


def _power_unit(unit: str, most: float) -> tuple[float, str]:
    """The factor, and the unit with a power of ten, in which a range fits."""
    if most == 0 or LEAST <= most <= MOST:
        return 1.0, unit
    thousands = int(np.floor(np.log10(most) / 3)) * 3
    return float(f"1e{-thousands}"), f"10^{thousands}{unit}"[:UNIT]


def _parts(night: Night) -> dict[int, str]:
    """How each staged channel was used, by its position."""
    parts: dict[int, str] = {}
    for turn, pick in enumerate(night.picks):
        name = f"staged as {pick.label}" if turn == 0 else f"fallback, as {pick.label}"
        parts.setdefault(pick.plus, name)
        if pick.minus is not None:
            parts.setdefault(pick.minus, f"{name}, subtracted")
    return parts


def _is_no_electrode(channel: Channel) -> bool:
    """Whether a channel declares no unit and has a label that is not EEG's."""
    silent = not channel.unit.strip() or channel.unit.strip().casefold() in ("none", "n/a", "nan")
    return silent and _NO_ELECTRODE.match(channel.label) is not None


def _free(label: str, taken: set[str]) -> str:
    """Shorten a label in its middle, and number it if another channel has that label."""
    tail = LABEL // 2
    short = label if len(label) <= LABEL else f"{label[: LABEL - tail - 1].rstrip()}~{label[-tail:].lstrip()}"
    count = 1
    name = short
    while name in taken:
        count += 1
        mark = f"#{count}"
        name = f"{short[: LABEL - len(mark)].rstrip()}{mark}"
    return name


def to_ascii(text: str) -> str:
    """Convert text to similar printable ASCII: no control characters, no accents."""
    plain = unicodedata.normalize("NFKD", text.replace("µ", "u").replace("μ", "u"))
    kept = (one for one in plain if not unicodedata.combining(one))
    return " ".join("".join(one if " " <= one <= "~" else "_" for one in kept).split())
