"""Reads and checks the header of an EDF or BDF file.

All readers take its values from here, so that a value is used as it was checked. If the fields of a signal
are wrong, that signal is left out; if those of the file are wrong, the file is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.sources.files import UNKNOWN_START, decode_text, read_head

BDF_VERSION = b"\xffBIOSEMI"
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
# Bytes per signal: label, transducer, unit, physical and digital range, filter, samples, reserved.
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
LABEL, UNIT, RANGES, SAMPLES = 0, 2, slice(3, 7), 8
_NUMBER = re.compile(r"[+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Scale:
    """How a signal's digital values become physical ones."""

    gain: float
    offset: float

    def physical(self, digital: NDArray[np.int32]) -> NDArray[np.float64]:
        """Any shape of digital values -> the same of physical ones, in the signal's unit."""
        return (digital + np.float64(self.offset)) * np.float64(self.gain)


@dataclass(frozen=True, slots=True)
class SignalHeader:
    """One signal's place in a record."""

    number: int  # in the file, from 1
    label: str
    unit: str
    samples: int  # per record
    offset: int  # bytes from the record's start
    annotations: bool
    scale: Scale | None  # None: annotations, or ranges that define none
    fault: str = ""  # what is wrong with the ranges


@dataclass(frozen=True, slots=True)
class Header:
    """The checked values of the header."""

    size: int  # bytes of the header
    records: int
    record: Fraction  # length of one, s; exact
    record_bytes: int
    width: int  # bytes per sample: 2 in EDF, 3 in BDF
    discontinuous: bool
    started: float
    signals: tuple[SignalHeader, ...]

    @property
    def record_s(self) -> float:
        """Length of a record, s."""
        return float(self.record)


def is_edf(head: bytes) -> bool:
    """Whether these are the first bytes of an EDF or BDF file."""
    return head[:8] == BDF_VERSION or (len(head) >= 8 and head[:8].rstrip(b" \0") == b"0")


def read_header(path: Path) -> Header:
    """Read the header, and check it against the file's length.

    A file whose header counts -1 records is still being written: its whole records are read.

    Raises:
        RecordingError: the file is missing, cut short, damaged or no EDF.

    """
    head = read_head(path)
    if not is_edf(head):
        raise RecordingError(f"{path} is not an EDF or BDF file{_what(head)}; give the recorder's own file")
    if len(head) < 256:
        raise RecordingError(f"{path} is cut short within its header; copy it again from the recorder")
    count = _whole(path, head[252:256], "number of signals", 1, 9999)
    raw = read_head(path, 256 * (count + 1))
    if len(raw) < 256 * (count + 1):
        raise RecordingError(f"{path} is cut short within its header; copy it again from the recorder")
    if _whole(path, head[184:192], "header length", 0, 10**8) != len(raw):
        raise RecordingError(f"{path}: its header's length and number of signals ({count}) disagree")
    width = 3 if head[:8] == BDF_VERSION else 2
    signals = _signals(path, raw, count, width)
    record_s = _seconds(path, head[244:252], annotations_only=all(signal.annotations for signal in signals))
    record_bytes = sum(signal.samples for signal in signals) * width
    records = _whole_records(path, head, len(raw), record_bytes, record_s)
    discontinuous = head[192:197] in (b"EDF+D", b"BDF+D")
    record = _record(head[244:252], record_s, [one.samples for one in signals if not one.annotations])
    return Header(len(raw), records, record, record_bytes, width, discontinuous, _started(head), signals)


def number_of(field: bytes) -> float | None:
    """A header field as a number: plain decimals, perhaps with a comma or an exponent; else None."""
    text = text_of(field)
    value = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def text_of(field: bytes) -> str:
    """A header field without its padding."""
    return decode_text(field.strip(b" \0"))


def rate_of(samples: int, record: Fraction) -> float:
    """Return samples per second. The fraction keeps 256 Hz exact for records of 0.1 s and the like."""
    return float(samples / record)


def _record(field: bytes, record_s: float, samples: Sequence[int]) -> Fraction:
    """The exact length of a record.

    A field of eight characters may have been cut or rounded, as 1/128 s is to `0.007812`. Then the length is
    taken that fits the field and gives the rate with the smallest denominator.
    """
    text = text_of(field).replace(",", ".")
    most = max(samples, default=0)
    try:
        stated = Fraction(text)
    except ValueError:
        stated = Fraction(record_s).limit_denominator(10**9)
    if len(text) < 8 or not re.fullmatch(r"\d+\.\d+", text) or not most or (most / stated).denominator == 1:
        return stated
    last = Fraction(1, 10 ** len(text.partition(".")[2]))
    return most / _plainest(most / (stated + last), most / (stated - last / 2))


def _plainest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction with the smallest denominator from `low` to `high`, both positive."""
    whole = low.numerator // low.denominator
    if whole == low:
        return low
    if whole + 1 <= high:
        return Fraction(whole + 1)
    return whole + 1 / _plainest(1 / (high - whole), 1 / (low - whole))


def _signals(path: Path, raw: bytes, count: int, width: int) -> tuple[SignalHeader, ...]:
    columns: list[list[bytes]] = []
    at = 256
    for size in _FIELDS:
        columns.append([raw[at + i * size : at + (i + 1) * size] for i in range(count)])
        at += size * count
    out = []
    offset = 0
    for i in range(count):
        label, unit = text_of(columns[LABEL][i]), text_of(columns[UNIT][i])
        samples = _whole(path, columns[SAMPLES][i], f"samples per record of signal {i + 1}", 0, 10**7)
        annotations = label in _ANNOTATIONS
        scale, fault = (None, "") if annotations else _scale([column[i] for column in columns[RANGES]])
        out.append(SignalHeader(i + 1, label, unit, samples, offset, annotations, scale, fault))
        offset += samples * width
    return tuple(out)


def _scale(fields: list[bytes]) -> tuple[Scale | None, str]:
    """The scale that a signal's physical and digital range define, or what is wrong with them."""
    numbers = [number_of(field) for field in fields]
    for field, number in zip(fields, numbers, strict=True):
        if number is None:
            return None, f"its range is not a number: {text_of(field)!r}"
    low, high, least, most = (number for number in numbers if number is not None)
    gain = (high - low) / (most - least) if most != least else math.nan
    offset = high / gain - most if gain else math.nan
    if not math.isfinite(gain) or not math.isfinite(offset):
        return None, f"its range {low:g} to {high:g} for {least:g} to {most:g} is not a scale"
    return Scale(gain, offset), ""


def _whole_records(path: Path, head: bytes, header_bytes: int, record_bytes: int, record_s: float) -> int:
    """Return the number of records, on which header and file must agree."""
    promised = _whole(path, head[236:244], "number of records", -1, 10**8)
    held = (path.stat().st_size - header_bytes) // record_bytes if record_bytes else 0
    if promised > held:
        raise RecordingError(
            f"{path} is cut short: its header promises {promised} records of {record_s:g} s, it holds {held} "
            "whole ones; copy it again, or set the count in its header to -1 to use what is there"
        )
    if 0 <= promised < held:
        raise RecordingError(
            f"{path}: its header counts {promised} records, it holds {held}; set the count in its header "
            "right, or to -1 to use all"
        )
    if held == 0:
        raise RecordingError(f"{path} has no samples, only a header; copy it again from the recorder")
    return held


def _seconds(path: Path, field: bytes, *, annotations_only: bool) -> float:
    """Return the length of a record; zero is allowed in a file of annotations alone."""
    value = number_of(field)
    if value is not None and (value > 0 or (value == 0 and annotations_only)):
        return value
    raise RecordingError(f"{path}: its header gives {text_of(field)!r} as the length of a record; repair it")


def _whole(path: Path, field: bytes, what: str, least: int, most: int) -> int:
    value = number_of(field)
    if value is None or value != round(value) or not least <= value <= most:
        raise RecordingError(
            f"{path}: its header gives {text_of(field)!r} as {what}; it is damaged or no EDF"
        )
    return round(value)


def _started(head: bytes) -> float:
    """Return the start as Unix time: the header's local time taken as UTC, or UNKNOWN_START."""
    clock = re.sub(r"[^0-9]", ".", head[176:184].decode("latin-1").strip())
    date = re.sub(r"[^0-9]", ".", head[168:176].decode("latin-1").strip())
    stated = re.match(rb"Startdate (\d\d-[A-Za-z]{3}-\d{4}) ", head[88:168])
    spellings = [(f"{date} {clock}", "%d.%m.%y %H.%M.%S")]
    if stated is not None:
        spellings.insert(0, (f"{stated[1].decode()} {clock}", "%d-%b-%Y %H.%M.%S"))
    for text, pattern in spellings:
        try:
            when = datetime.strptime(text, pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
        if when.year < 1985 and pattern.startswith("%d.%m.%y"):  # EDF's years run from 1985 to 2084
            when = when.replace(year=when.year + 100)
        return when.timestamp()
    return UNKNOWN_START


def _what(head: bytes) -> str:
    """Name the kind of file that this is instead, if its first bytes show it."""
    for start, name in ((b"PK", "a zip archive"), (b"\x1f\x8b", "a gzip archive"), (b"XDF:", "an XDF file")):
        if head.startswith(start):
            return f" but {name}"
    return " but text" if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in head) else ""
