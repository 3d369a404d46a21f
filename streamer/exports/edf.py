"""Writes EDF+C, or EDF+D if there are gaps: every channel at its own rate, stages as annotations.

It is written here, record by record, because neither edfio nor pyedflib writes discontinuous files, and
because a night may not fit in memory. Records without any sample are left out (that makes it EDF+D). In a
record with some lost samples, these repeat the last value, under an annotation `BAD_gap`.

MNE 1.13 joins the pieces of an EDF+D without a warning, so that everything after the first gap is too early;
pyedflib refuses such files. For them there is EDF+C, in which every gap is filled and annotated. Labels and
scales of the
channels: `signals.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final

import edfio
import numpy as np

from streamer.errors import UsageError
from streamer.exports.notes import Note, list_notes
from streamer.exports.signals import DIGITAL, ExportScale, choose_scales, format_number, to_ascii
from streamer.host import private
from streamer.journal import JournalReader
from streamer.messages import UNSCORED, Floats
from streamer.night.session import Night, Progress

# EDF knows the years 1985 to 2084; a computer without a clock may have recorded in 1970.
NO_DATE: Final = date(1985, 1, 1)  # stands for an unknown date in EDF
YEARS: Final = range(1985, 2085)

NIGHT_S = 12 * 3600  # after so long, rounding of the record's length must not shift a sample
LONGEST_RECORD_S = 10
LIST_BYTES = 256  # for annotations in a record; more if the night needs it
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True, slots=True)
class Plan:
    """The layout of the file, known before the first byte is written."""

    night: Night
    scales: tuple[ExportScale, ...]
    per_record: int  # samples of each channel
    starts: tuple[int, ...]  # sample index of each record
    lists: tuple[bytes, ...]  # time-stamped annotation list of each record
    list_bytes: int
    later_s: int  # start of the file after the start of the session; lost samples at the start are left out
    remarks: tuple[str, ...]

    @property
    def continuous(self) -> bool:
        """Whether no record is left out."""
        return _is_continuous(self.starts, self.per_record)


def write_edf(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write EDF+C, or EDF+D if whole records are lost; times in the header are UTC.

    Returns:
        Remarks on the channels for the user.

    Raises:
        UsageError: the session has no samples.

    """
    return list(_write(night, path, progress, fill=False).remarks)


def write_continuous(night: Night, path: Path, progress: Progress, *, stages: bool = True) -> list[str]:
    """Write EDF+C in which gaps repeat the last value, else like `write_edf`.

    BIDS needs it without `stages`.
    """
    return list(_write(night, path, progress, fill=True, stages=stages).remarks)


def is_discontinuous(path: Path) -> bool:
    """Whether a file written here is EDF+D."""
    with path.open("rb") as file:
        return file.read(197)[192:] == b"EDF+D"


def choose_samples_per_record(rate_hz: float) -> int:
    """Choose the samples per record, so that the record's length in seconds fits into eight characters.

    That is a whole number of seconds if the rate allows it, else the shortest length of at least a second
    whose rounding does not shift any sample of a night.
    """
    ratio = Fraction(rate_hz).limit_denominator(LONGEST_RECORD_S)
    if abs(float(ratio) - rate_hz) < 1e-9 * rate_hz:
        return ratio.numerator
    allowed = 0.25 / (NIGHT_S * rate_hz)
    best, least = ratio.numerator, math.inf
    for count in range(max(1, round(rate_hz)), round(LONGEST_RECORD_S * rate_hz) + 1):
        error = abs(float(_seconds(count, rate_hz)) * rate_hz / count - 1)
        if error < least:
            best, least = count, error
        if error <= allowed:
            break
    return best


def _seconds(count: int, rate_hz: float) -> str:
    return format_number(count / rate_hz, ROUND_HALF_EVEN)


def _write(night: Night, path: Path, progress: Progress, fill: bool, stages: bool = True) -> Plan:
    plan = _plan(night, fill, stages)
    with open(path, "wb", opener=private.opener) as file:
        file.write(_header(plan))
        for number_, (record, _) in enumerate(_records(night, plan.per_record, fill)):
            for scale, values in zip(plan.scales, record, strict=True):
                file.write(scale.digital(values).tobytes())
            file.write(plan.lists[number_].ljust(plan.list_bytes, b"\0"))
            progress((number_ + 1) / len(plan.starts))
    return plan


def _plan(night: Night, fill: bool, stages: bool) -> Plan:
    per_record = choose_samples_per_record(night.meta.info.rate_hz)
    starts = tuple(start for _, start in _records(night, per_record, fill))
    if not starts:
        raise UsageError(f"{night.path} has no samples; export its stages with --to annotations")
    found, remarks = choose_scales(night)
    remarks += undated(night)
    rate = night.meta.info.rate_hz
    # The header has whole seconds, and the first record must begin within that second.
    fraction = night.started - math.floor(night.started)
    later_s = math.floor(fraction + starts[0] / rate)
    zero_s = fraction - later_s  # time of sample 0, on the file's clock
    begins = [_onset(begin_s) + b"\x14\x14\0" for begin_s in _begins_s(starts, per_record, rate, zero_s)]
    said = [
        # In the record in which it lies or, if that is lost, in the one before.
        (max(0, bisect_right(starts, note.onset_s * rate + 1e-6) - 1), _stamped(note, zero_s))
        for note in list_notes(night, stages=stages)
        if _is_within(note, starts[0] / rate)
    ]
    lists = _spread(begins, said)
    longest = max(len(one) for one in lists)
    return Plan(night, found, per_record, starts, lists, longest + longest % 2, later_s, tuple(remarks))


def _is_within(note: Note, begin_s: float) -> bool:
    """Whether a note lies in the file, which begins with the first sample that is not lost."""
    return note.kind not in ("gap", UNSCORED) or note.onset_s + (note.duration_s or 0.0) > begin_s + 1e-6


def _begins_s(starts: Sequence[int], per_record: int, rate_hz: float, zero_s: float) -> list[float]:
    """The time of each record; in a continuous file each must begin exactly where the one before ends."""
    if _is_continuous(starts, per_record):
        length_s = Decimal(_seconds(per_record, rate_hz))
        return [zero_s + starts[0] / rate_hz + float(count * length_s) for count in range(len(starts))]
    return [zero_s + start / rate_hz for start in starts]


def _is_continuous(starts: Sequence[int], per_record: int) -> bool:
    return all(b - a == per_record for a, b in pairwise(starts))


def _spread(begins: Sequence[bytes], said: Sequence[tuple[int, bytes]]) -> tuple[bytes, ...]:
    """Distribute annotations over the records; if there are many at once, some move to later records.

    All records reserve as many bytes as the longest list. An annotation has its own time, whatever its
    record.
    """
    room = LIST_BYTES
    while True:
        lists, at = list(begins), 0
        for wanted, text in said:
            at = max(at, wanted)
            while at < len(lists) and len(lists[at]) + len(text) > room:
                at += 1
            if at == len(lists):
                break
            lists[at] += text
        else:
            return tuple(lists)
        room *= 2


def _records(night: Night, per_record: int, fill: bool) -> Iterator[tuple[Floats, int]]:
    """Yield the records that have samples, or with `fill` all: (channels, n) in source units; start."""
    channels = len(night.meta.info.channels)
    record = np.full((channels, per_record), np.nan)
    start: int | None = None
    with JournalReader(night.path) as reader:
        for chunk in reader.samples():
            at = chunk.start
            if fill and start is None:
                start = 0
            while at < chunk.stop:
                if start is not None and at >= start + per_record:
                    yield _held(record), start
                    # The grid of records continues with the signal, and starts anew after a gap.
                    start = start + per_record if fill or at == start + per_record else None
                    held = record[:, -1]
                    record = np.full((channels, per_record), np.nan)
                    if fill:
                        record[:, 0] = held
                    continue
                if start is None:
                    start = at
                stop = min(chunk.stop, start + per_record)
                part = chunk.samples[:, at - chunk.start : stop - chunk.start]
                record[:, at - start : stop - start] = np.where(np.isfinite(part), part, np.nan)
                at = stop
    if start is not None:
        yield _held(record), start


def _held(record: Floats) -> Floats:
    """Repeat the last value over lost samples; a channel without any sample stays NaN."""
    for row in record:
        missing = np.isnan(row)
        if missing.any() and not missing.all():
            last = np.maximum.accumulate(np.where(missing, 0, np.arange(row.size)))
            row[:] = row[last]
            row[np.isnan(row)] = row[np.flatnonzero(~np.isnan(row))[0]]
    return record


def _header(plan: Plan) -> bytes:
    info = plan.night.meta.info
    begin = edf_start(plan.night, plan.later_s)
    count = len(plan.scales) + 1
    # This field has two-digit years; the recording field has all four digits.
    date = begin.strftime("%d.%m.%y")
    # In English, whatever the locale.
    stated = f"Startdate {begin.day:02d}-{MONTHS[begin.month - 1]}-{begin.year}"
    stated = "Startdate X" if begin.date() == NO_DATE else stated
    device = "_".join(info.name.split()) or "X"
    recording = f"{stated} X sleepstream {device}"
    rows = [
        _text("0", 8),
        _text(f"X X X {'_'.join(plan.night.meta.stream.split()) or 'X'}", 80),
        _text(recording, 80),
        _text(date, 8),
        _text(begin.strftime("%H.%M.%S"), 8),
        _text(str(256 * (count + 1)), 8),
        _text("EDF+C" if plan.continuous else "EDF+D", 44),
        _text(str(len(plan.starts)), 8),
        _text(_seconds(plan.per_record, info.rate_hz), 8),
        _text(str(count), 4),
    ]
    scales = plan.scales
    rows += [_text(scale.label, 16) for scale in scales] + [_text("EDF Annotations", 16)]
    rows += [_text("", 80)] * count
    rows += [_text(scale.unit, 8) for scale in scales] + [_text("", 8)]
    rows += [_text(format_number(scale.low), 8) for scale in scales] + [_text("-1", 8)]
    rows += [_text(format_number(scale.high), 8) for scale in scales] + [_text("1", 8)]
    rows += [_text(str(-DIGITAL), 8)] * len(scales) + [_text("-32768", 8)]
    rows += [_text(str(DIGITAL), 8)] * count
    rows += [_text("", 80)] * count
    rows += [_text(str(plan.per_record), 8)] * len(scales) + [_text(str(plan.list_bytes // 2), 8)]
    rows += [_text("", 32)] * count
    return b"".join(rows)


def _text(text: str, width: int) -> bytes:
    """A header field: printable ASCII, cut and filled to its width."""
    return to_ascii(text).encode("ascii")[:width].ljust(width)


def _onset(seconds: float) -> bytes:
    return f"{seconds:+.6f}".rstrip("0").rstrip(".").encode("ascii")


def _stamped(note: Note, zero_s: float) -> bytes:
    text = note.text.replace("\x14", " ").replace("\x15", " ").replace("\0", " ").encode("utf-8", "replace")
    length = b"" if note.duration_s is None else b"\x15" + _onset(note.duration_s).lstrip(b"+")
    return _onset(note.onset_s + zero_s) + length + b"\x14" + text + b"\x14\0"


def write_annotations(night: Night, path: Path, progress: Progress) -> list[str]:
    """Write an EDF+ without signals: stages, lights, marks and gaps. It starts with sample 0, in UTC."""
    begin = edf_start(night)
    fraction = timedelta(seconds=night.started - math.floor(night.started))
    edfio.Edf(
        [],
        recording=edfio.Recording(startdate=None if begin.date() == NO_DATE else begin.date()),
        starttime=(begin + fraction).time(),
        annotations=[edfio.EdfAnnotation(one.onset_s, one.duration_s, one.text) for one in list_notes(night)],
    ).write(path)
    return undated(night)


def edf_start(night: Night, later_s: int = 0) -> datetime:
    """The night's start plus `later_s`, UTC, in whole seconds; in 1985 if EDF cannot hold the date."""
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(night.started) + later_s)
    return begin if begin.year in YEARS else datetime.combine(NO_DATE, begin.time(), UTC)


def undated(night: Night) -> list[str]:
    """Return a remark if EDF cannot hold the date."""
    if edf_start(night).timestamp() == math.floor(night.started):
        return []
    return [f"it began {night.started:.0f} s after 1970, a date that EDF cannot hold: written without a date"]
