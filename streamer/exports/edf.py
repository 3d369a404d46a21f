"""EDF+C, or EDF+D where there are gaps: every recorded channel at its native rate, stages as annotations.

Written here, record by record, because neither edfio nor pyedflib writes discontinuous files, and because a
night need not fit in memory. Records without a single real sample are left out, which is what EDF+D is for.
In a record that is partly real the rest holds the last value, under an annotation `BAD_gap`.

MNE 1.13 joins the pieces of an EDF+D without a word, so that all after the first gap is early, and pyedflib
refuses it. For them there is EDF+C with every gap held so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer import private
from streamer.exports.notes import Note, notes
from streamer.journal import JournalReader
from streamer.messages import Channel, Floats
from streamer.session import Night, Progress
from streamer.units import is_voltage, microvolts_per

LEAST_HALF_UV = 3276.7  # physical range: 0.1 µV steps where that is enough
MADS = 30.0  # else so many median absolute deviations: drift widens the range, a rail does not
THIN = 16  # every so many samples are looked at for the median
DIGITAL = 32767


@dataclass(frozen=True, slots=True)
class Scale:
    """How one channel's values become 16 bits."""

    label: str
    unit: str
    factor: float  # source units to `unit`
    low: float  # physical minimum, in `unit`, as the header can say it
    high: float

    def digital(self, values: Floats) -> NDArray[np.int16]:
        """(n,) source units -> (n,) digital; beyond the range is clipped, not a number is the minimum."""
        step = (self.high - self.low) / (2 * DIGITAL)
        scaled = np.rint((np.nan_to_num(values * self.factor, nan=self.low) - self.low) / step) - DIGITAL
        digital: NDArray[np.int16] = np.clip(scaled, -DIGITAL, DIGITAL).astype("<i2")
        return digital


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes where, known before the first byte is written."""

    night: Night
    scales: tuple[Scale, ...]
    per_record: int  # samples of each channel
    starts: tuple[int, ...]  # sample index of each record
    lists: tuple[bytes, ...]  # time-stamped annotation lists of each record
    list_bytes: int
    clipped: tuple[str, ...]  # remarks

    @property
    def continuous(self) -> bool:
        """Whether no record was left out."""
        return all(b - a == self.per_record for a, b in zip(self.starts, self.starts[1:], strict=False))


def write_edf(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write EDF+C, or EDF+D where whole records are missing; times in the header are UTC.

    Returns:
        Which channels were clipped, and a word on EDF+D.

    """
    plan = _write(night, path, progress, fill=False)
    if plan.continuous:
        return list(plan.clipped)
    return [*plan.clipped, "EDF+D: MNE and pyedflib do not read its gaps; for them: --to edfc"]


def write_continuous(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write EDF+C, the last value held in every gap; else as `write_edf`."""
    return list(_write(night, path, progress, fill=True).clipped)


def _write(night: Night, path: Path, progress: Progress, fill: bool) -> Plan:
    plan = _plan(night, fill)
    with open(path, "wb", opener=private.opener) as file:
        file.write(_header(plan))
        for number, (record, _) in enumerate(_records(night, plan.per_record, fill)):
            for scale, values in zip(plan.scales, record, strict=True):
                file.write(scale.digital(values).tobytes())
            file.write(plan.lists[number].ljust(plan.list_bytes, b"\0"))
            progress((number + 1) / len(plan.starts))
    return plan


def samples_per_record(rate_hz: float) -> int:
    """Samples in a record of about a second: of a whole number of seconds where the rate allows it."""
    ratio = Fraction(rate_hz).limit_denominator(10)
    return ratio.numerator if abs(float(ratio) - rate_hz) < 1e-6 * rate_hz else round(rate_hz)


def _plan(night: Night, fill: bool) -> Plan:
    per_record = samples_per_record(night.meta.info.rate_hz)
    starts = tuple(start for _, start in _records(night, per_record, fill))
    scales, clipped = _scales(night)
    fraction = night.started - int(night.started)
    rate = night.meta.info.rate_hz
    lists = [_onset(fraction + start / rate) + b"\x14\x14\0" for start in starts]
    for note in notes(night):
        # In the record that it falls into or, where that was lost, in the one before.
        at = max(0, bisect_right(starts, note.onset_s * rate + 1e-6) - 1)
        if lists:
            lists[at] += _stamped(note, fraction)
    longest = max((len(one) for one in lists), default=16)
    return Plan(night, scales, per_record, starts, tuple(lists), longest + longest % 2, clipped)


def _records(night: Night, per_record: int, fill: bool) -> Iterator[tuple[Floats, int]]:
    """Each record with any real sample, or each at all: (channels, n) in source units, where it starts."""
    channels = len(night.meta.info.channels)
    record = np.full((channels, per_record), np.nan)
    start = 0 if fill else None
    with JournalReader(night.path) as reader:
        for chunk in reader.samples():
            at = chunk.start
            while at < chunk.stop:
                if start is not None and at >= start + per_record:
                    yield _held(record), start
                    # The grid goes on where the signal does, and begins anew after a loss.
                    start = start + per_record if fill or at == start + per_record else None
                    held = record[:, -1]
                    record = np.full((channels, per_record), np.nan)
                    if fill:
                        record[:, 0] = held
                    continue
                if start is None:
                    start = at
                stop = min(chunk.stop, start + per_record)
                record[:, at - start : stop - start] = chunk.samples[:, at - chunk.start : stop - chunk.start]
                at = stop
    if start is not None:
        yield _held(record), start


def _held(record: Floats) -> Floats:
    """Hold the last value over what is missing; what nobody knows at all stays NaN."""
    for row in record:
        missing = np.isnan(row)
        if missing.any() and not missing.all():
            last = np.maximum.accumulate(np.where(missing, 0, np.arange(row.size)))
            row[:] = row[last]
            row[np.isnan(row)] = row[np.flatnonzero(~np.isnan(row))[0]]
    return record


def _scales(night: Night) -> tuple[tuple[Scale, ...], tuple[str, ...]]:
    """Ranges from the middle of each channel, so that an electrode on the rail cannot coarsen its signal."""
    thin: list[NDArray[np.float64]] = []
    lows: list[Floats] = []
    highs: list[Floats] = []
    with JournalReader(night.path) as reader:
        for chunk in reader.samples():
            thin.append(chunk.samples[:, ::THIN])
            lows.append(np.nanmin(chunk.samples, axis=1, initial=np.inf))
            highs.append(np.nanmax(chunk.samples, axis=1, initial=-np.inf))
    scales, remarks = [], []
    for number, channel in enumerate(night.meta.info.channels):
        values = np.concatenate([part[number] for part in thin]) if thin else np.zeros(1)
        low = min((float(one[number]) for one in lows), default=0.0)
        high = max((float(one[number]) for one in highs), default=0.0)
        scale, beyond = _scale(channel, values[np.isfinite(values)], low, high)
        scales.append(scale)
        if beyond:
            remarks.append(
                f"{scale.label}: {beyond:.2%} of the samples lie beyond {scale.low:g} to {scale.high:g} "
                f"{scale.unit} and were clipped, so that the rest keeps its resolution"
            )
    return tuple(scales), tuple(remarks)


def _scale(channel: Channel, values: Floats, low: float, high: float) -> tuple[Scale, float]:
    """One channel's scale, and the share of its samples that it clips."""
    volts = is_voltage(channel.unit)
    factor = microvolts_per(channel.unit) if volts else 1.0
    values, low, high = values * factor, low * factor, high * factor
    if not np.isfinite([low, high]).all():
        low = high = 0.0
    if volts and values.size:
        middle = float(np.median(values))
        half = max(LEAST_HALF_UV, MADS * float(np.median(np.abs(values - middle))))
        low, high = (
            (-LEAST_HALF_UV, LEAST_HALF_UV)
            if max(abs(low), abs(high)) <= LEAST_HALF_UV
            else (max(low, middle - half), min(high, middle + half))
        )
    low, high = float(_number(low)), float(_number(high))
    if high <= low:
        low, high = low - 1, low + 1
    margin = 1e-6 * (high - low)
    beyond = float(np.mean((values < low - margin) | (values > high + margin))) if values.size else 0.0
    unit = "uV" if volts else channel.unit
    return Scale(channel.label, unit, factor, low, high), beyond


def _header(plan: Plan) -> bytes:
    info = plan.night.meta.info
    begin = datetime.fromtimestamp(int(info.started), UTC)
    count = len(plan.scales) + 1
    # Two-digit years end in 2084; the recording's own field says all four.
    date = begin.strftime("%d.%m.%y")
    device = "_".join(info.name.split()) or "X"
    recording = f"Startdate {begin.strftime('%d-%b-%Y').upper()} X sleepstream {device}"
    rows = [
        _text("0", 8),
        _text(f"X X X {'_'.join(plan.night.meta.stream.split()) or 'X'}", 80),
        _text(recording, 80),
        _text(date, 8),
        _text(begin.strftime("%H.%M.%S"), 8),
        _text(str(256 * (count + 1)), 8),
        _text("EDF+C" if plan.continuous else "EDF+D", 44),
        _text(str(len(plan.starts)), 8),
        _text(_number(plan.per_record / info.rate_hz), 8),
        _text(str(count), 4),
    ]
    scales = plan.scales
    rows += [_text(scale.label, 16) for scale in scales] + [_text("EDF Annotations", 16)]
    rows += [_text("", 80)] * count
    rows += [_text(scale.unit, 8) for scale in scales] + [_text("", 8)]
    rows += [_text(_number(scale.low), 8) for scale in scales] + [_text("-1", 8)]
    rows += [_text(_number(scale.high), 8) for scale in scales] + [_text("1", 8)]
    rows += [_text(str(-DIGITAL), 8)] * len(scales) + [_text("-32768", 8)]
    rows += [_text(str(DIGITAL), 8)] * count
    rows += [_text("", 80)] * count
    rows += [_text(str(plan.per_record), 8)] * len(scales) + [_text(str(plan.list_bytes // 2), 8)]
    rows += [_text("", 32)] * count
    return b"".join(rows)


def _text(text: str, width: int) -> bytes:
    """A header field: printable ASCII, cut and filled to its width."""
    plain = text.replace("µ", "u").replace("μ", "u").encode("ascii", "replace")[:width]
    return plain.ljust(width)


def _number(value: float) -> str:
    """Write a number in at most eight characters, as exactly as they allow."""
    for digits in range(8, 0, -1):
        text = np.format_float_positional(value, precision=digits, unique=False, fractional=False, trim="-")
        if len(text) <= 8:
            return text
    return f"{value:.0f}"[:8]


def _onset(seconds: float) -> bytes:
    return f"{seconds:+.6f}".rstrip("0").rstrip(".").encode("ascii")


def _stamped(note: Note, fraction: float) -> bytes:
    text = note.text.replace("\x14", " ").replace("\x15", " ").replace("\0", " ").encode("utf-8")
    length = b"" if note.duration_s is None else b"\x15" + _onset(note.duration_s).lstrip(b"+")
    return _onset(note.onset_s + fraction) + length + b"\x14" + text + b"\x14\0"
