"""Reads the annotation lists of an EDF+ or BDF+ file: the annotations, and when each record begins."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.messages import Floats
from streamer.sources.devicetime import LEAP_S
from streamer.sources.edf_header import Header, read_header, text_of
from streamer.sources.excursions import Excursions
from streamer.sources.pace import SNAP, TOLERANCE, nominal_near, rate_said

# One list: onset, [0x15 duration], 0x14, texts each ended by 0x14, then 0.
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14\x00")
# A record's first list says when it begins: it has no duration, and its first text is empty.
_BEGIN = re.compile(rb"([+-]\d+(?:\.\d*)?)\x14\x14")
NOT_WHEN = "the file says that it was interrupted, but not when; it is read without interruptions"
FEW = 10  # fewer distances between records do not show a rate
MOSTLY = 0.9  # share of the distances that must agree
OFF_MOST = 0.1  # of the declared length; records that are further apart than that show losses, not a rate
RESOLUTION_S = 1e-6  # of the times in files
JUMP_S = 0.05  # in a continuous file a record that is less late than this does not show a loss
UNPLACED = -1  # instead of a sample index: when the record was taken is not known

Annotation = tuple[float, float | None, str]  # onset s, duration s or None, text


def read_annotations(path: Path) -> list[Annotation]:
    """Return every annotation of an EDF+ or BDF+ file: (onset s from sample 0, duration s or None, text).

    Raises:
        RecordingError: the file is missing, cut short, damaged or no EDF.

    """
    header = read_header(path)
    out: list[Annotation] = []
    zero: float | None = None
    for record, onset, found in _records(path, header, range(header.records)):
        if zero is None and onset is not None:  # a fraction of a second where the start is not a whole one
            zero = onset if header.discontinuous else onset - record * header.record_s
        out += [one for one in found if one[2]]
    zero = zero or 0.0
    return sorted(((start - zero, length, text) for start, length, text in out), key=lambda item: item[0])


def read_onsets(path: Path, header: Header) -> tuple[Floats, list[str]]:
    """Return when each record begins, (records,) s, NaN for a record that does not say it; and remarks.

    Excursions of the clock are undone.
    """
    out = np.full(header.records, math.nan)
    for record, onset, _ in _records(path, header, range(header.records)):
        if onset is not None:
            out[record] = onset
    known = np.flatnonzero(np.isfinite(out))
    typical = float(np.median(np.diff(out[known]) / np.diff(known))) if known.size > FEW else math.nan
    apart_s = typical if abs(typical / header.record_s - 1) < OFF_MOST else header.record_s
    excursions = Excursions(apart_s, JUMP_S, JUMP_S, single=True)
    out[known] = excursions.undo(out[known], known)
    return out, excursions.remarks()


def correct_pace(header: Header, onsets: Floats) -> tuple[Header, list[str]]:
    """Correct the header's record length by the records' own times; also return a remark on it.

    If nearly all records follow each other at one distance, close to the declared length but not equal to it,
    the declared rate is wrong. An error of 2.4 % is 11 minutes a night.
    """
    steps = np.diff(onsets)
    steps = steps[np.isfinite(steps)]
    if steps.size < FEW:
        return header, []
    typical = float(np.median(steps))
    samples = max(one.samples for one in header.signals if not one.annotations)
    alike = np.abs(steps - typical) <= max(header.record_s / samples / 4, RESOLUTION_S)
    off = typical / header.record_s - 1
    if np.mean(alike) < MOSTLY or not 1e-6 < abs(off) < OFF_MOST:
        return header, []
    told = abs(off) > TOLERANCE
    if not told and not header.discontinuous:
        return header, []
    read_hz = nominal_near(samples / float(np.mean(steps[alike])), SNAP)
    record = samples / Fraction(read_hz).limit_denominator(10**6)
    return replace(header, record=record), [
        rate_said(float(samples / header.record), read_hz)
    ] if told else []


def span_s(header: Header, onsets: Floats) -> float:
    """Return the seconds from the first record's begin to the last one's end."""
    whole_s = header.records * header.record_s
    samples = max(one.samples for one in header.signals if not one.annotations)
    if np.isnan(onsets).all():
        return whole_s
    if not header.discontinuous and _continuous(onsets, header.record_s, header.record_s / samples)[0]:
        return whole_s
    span = float(onsets[-1] - onsets[0]) + header.record_s
    return span if span >= whole_s else whole_s


def starts(
    path: Path, header: Header, onsets: Floats, rate_hz: float, per_record: int
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the sample index at which each record starts, and remarks on what was assumed or left out.

    A record without a time is placed if exactly the missing records fit between its neighbours; otherwise it
    is `UNPLACED`. A file that declares itself continuous is read as continuous, unless its records' times
    show a loss.

    Raises:
        RecordingError: the records' times leap by more than a day, or go back, in a file that says that it
            was interrupted.

    """
    count = header.records
    continuous = np.arange(count, dtype=np.int64) * per_record
    if not header.discontinuous:
        gone_on, remarks = _continuous(onsets, header.record_s, 1 / rate_hz)
        if gone_on:
            return continuous, remarks
    elif np.isnan(onsets).all():
        return continuous, [NOT_WHEN]
    onsets = onsets.copy()
    remarks = _filled(onsets, header.record_s, 1 / rate_hz)
    placed = np.flatnonzero(np.isfinite(onsets))
    known = onsets[placed]
    _check(path, count, placed, known, np.diff(known) > LEAP_S + header.record_s, "more than a day after")
    out = np.full(count, UNPLACED, dtype=np.int64)
    out[placed] = np.rint((known - known[0]) * rate_hz).astype(np.int64)
    if not header.discontinuous:  # small differences are rounding
        out = _without_rounding(out, per_record, round(JUMP_S * rate_hz))
    # One sample may come from rounding.
    overlaps = np.diff(out[placed]) < per_record - 1
    _check(path, count, placed, known, overlaps, "before the end of")
    return out, remarks


def _continuous(onsets: Floats, record_s: float, period_s: float) -> tuple[bool, list[str]]:
    """Whether an EDF+C file is read as continuous, and a remark if its records' times contradict that."""
    placed = np.flatnonzero(np.isfinite(onsets))
    late = np.diff(onsets[placed]) - np.diff(placed) * record_s
    least = max(JUMP_S, 2 * period_s)
    if not (np.abs(late) > least).any():
        return True, []
    if placed.size == onsets.size and late.min() >= -least and late.max() <= LEAP_S:
        return False, []
    return True, ["its records' times go back or leap, and are not believed: it says that it is continuous"]


def _without_rounding(starts: NDArray[np.int64], per_record: int, least: int) -> NDArray[np.int64]:
    """The same starts, where fewer than `least` missing samples count as rounding and not as a loss."""
    lost = np.diff(starts) - per_record
    lost[np.abs(lost) < least] = 0
    return np.concatenate([[0], np.cumsum(per_record + lost)])


def _filled(onsets: Floats, record_s: float, tolerance_s: float) -> list[str]:
    """Set the times of records that have none, if their neighbours show them; return remarks on others."""
    known = np.flatnonzero(np.isfinite(onsets))
    missing = np.flatnonzero(np.isnan(onsets))
    if not missing.size:
        return []
    after = np.searchsorted(known, missing)
    for record, place in zip(missing, after, strict=True):
        if 0 < place < known.size:
            before, behind = known[place - 1], known[place]
            room = onsets[behind] - onsets[before]
            if abs(room - (behind - before) * record_s) <= tolerance_s:
                onsets[record] = onsets[before] + (record - before) * record_s
    lost = np.flatnonzero(np.isnan(onsets))
    if not lost.size:
        return []
    return [
        f"{lost.size} of {onsets.size} records do not say when they begin and are left out "
        f"(the first is record {lost[0] + 1})"
    ]


def _check(
    path: Path,
    count: int,
    placed: NDArray[np.int64],
    onsets: Floats,
    wrong: NDArray[np.bool_],
    where: str,
) -> None:
    at = np.flatnonzero(wrong)
    if at.size:
        record = int(placed[at[0] + 1])
        raise RecordingError(
            f"{path}: record {record + 1} of {count} starts at {onsets[at[0] + 1]:g} s, {where} the one in "
            "front of it; repair its times, for example with EDFbrowser"
        )


def _records(
    path: Path, header: Header, wanted: Iterable[int]
) -> Iterator[tuple[int, float | None, list[Annotation]]]:
    """Yield each wanted record: its number, its onset in s if it has one, its annotations."""
    places = [signal for signal in header.signals if signal.annotations]
    if not places:
        return
    with path.open("rb") as file:
        for record in wanted:
            lists = []
            for place in places:
                file.seek(header.size + record * header.record_bytes + place.offset)
                lists.append(file.read(place.samples * header.width))
            begin = _BEGIN.match(lists[0])
            yield record, float(begin[1]) if begin else None, [one for data in lists for one in _lists(data)]


def _lists(data: bytes) -> Iterator[Annotation]:
    for onset, duration, texts in _TAL.findall(data):
        for text in texts.split(b"\x14"):
            yield float(onset), float(duration) if duration else None, text_of(text)
