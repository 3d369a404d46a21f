"""The time-stamped annotation lists of an EDF+ or BDF+ file: what was noted, and when each record begins."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.devicetime import LEAP_S
from streamer.errors import RecordingError
from streamer.sources.edf_header import Header, read_header, text_of

# One list: onset, [0x15 duration], 0x14, texts each ended by 0x14, then 0.
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14\x00")
# A record's first list says when it begins: it has no duration, and its first text is empty.
_BEGIN = re.compile(rb"([+-]\d+(?:\.\d*)?)\x14\x14")
NOT_WHEN = "the file says that it was interrupted and not when; it is read as if it never was"
UNPLACED = -1  # instead of a sample index: nobody knows when the record was taken

Annotation = tuple[float, float | None, str]  # onset s, duration s or None, text


def read_annotations(path: Path) -> list[Annotation]:
    """Every annotation of an EDF+ or BDF+ file: (onset s, duration s or None, text), onset from sample 0.

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


def span_s(path: Path, header: Header) -> float:
    """From the first record's begin to the last one's end, as far as they say when they begin."""
    ends = [onset for _, onset, _ in _records(path, header, (0, header.records - 1))]
    first, last = ends[0], ends[-1]
    if first is None or last is None or not last - first >= 0:
        return header.records * header.record_s
    return last - first + header.record_s


def starts(
    path: Path, header: Header, rate_hz: float, per_record: int
) -> tuple[NDArray[np.int64], list[str]]:
    """Sample index at which each record starts, and what of that had to be guessed or given up.

    A record that does not say when it begins has its place where its neighbours leave room for it and for
    nothing else; otherwise it is `UNPLACED`.

    Raises:
        RecordingError: the records' times leap by more than a day, or go back.

    """
    count = header.records
    if not header.discontinuous:
        return np.arange(count, dtype=np.int64) * per_record, []
    onsets = np.array(
        [math.nan if onset is None else onset for _, onset, _ in _records(path, header, range(count))]
    )
    if np.isnan(onsets).all():
        return np.arange(count, dtype=np.int64) * per_record, [NOT_WHEN]
    remarks = _filled(onsets, header.record_s, 1 / rate_hz)
    placed = np.flatnonzero(np.isfinite(onsets))
    known = onsets[placed]
    _check(path, count, placed, known, np.diff(known) > LEAP_S + header.record_s, "more than a day after")
    out = np.full(count, UNPLACED, dtype=np.int64)
    out[placed] = np.rint((known - known[0]) * rate_hz).astype(np.int64)
    # One sample may come from rounding.
    overlaps = np.diff(out[placed]) < per_record - 1
    _check(path, count, placed, known, overlaps, "before the end of")
    return out, remarks


def _filled(onsets: NDArray[np.float64], record_s: float, tolerance_s: float) -> list[str]:
    """Give records without a time the one that their neighbours leave; what had to be given up is said."""
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
    onsets: NDArray[np.float64],
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
    """Each wanted record: its number, its onset in seconds if it says one, its annotations."""
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
