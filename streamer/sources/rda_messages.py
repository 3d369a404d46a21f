"""Decodes the messages of BrainVision RDA, the remote data access of Brain Products' Recorder.

Each begins with 24 bytes, little endian: an identity of 16, the size of the whole message, and its kind. All
sizes and counts in a message are checked before they are used. Names and texts are in the code page of
Recorder's Windows; newer versions write UTF-8.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamer.channels import check_rate
from streamer.errors import SourceError
from streamer.messages import Floats
from streamer.sources.files import decode_text

IDENTITY = bytes.fromhex("8e45584396c9864caf4a98bbf6c91450")
HEADER = struct.Struct("<16sII")  # identity, size of the whole message in bytes, kind
START, DATA16, STOP, DATA32 = 1, 2, 3, 4  # other kinds do not concern samples
MOST_BYTES = 8 << 20  # of a message: a second of 1,024 channels at 1,024 Hz is half of it
MOST_CHANNELS = 1024
UNITS = 1e-9, 1e6  # µV per unit that an amplifier may state
NAME, TEXT = 64, 200  # characters kept of a channel's name, and of a marker
_START = struct.Struct("<Id")  # channels, sampling interval in µs
_DATA = struct.Struct("<III")  # number of the block, points, markers
_MARKER = struct.Struct("<IIIi")  # its size in bytes, position in the block, length, channel


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The start of an acquisition."""

    rate_hz: float
    names: tuple[str, ...]
    resolutions: Floats  # (channels,) µV per unit

    def like(self, other: Start) -> bool:
        """Whether another acquisition has the same channels at the same rate; resolutions may differ."""
        return (self.rate_hz, self.names) == (other.rate_hz, other.names)


@dataclass(frozen=True, slots=True)
class RdaMark:
    """A marker in a block."""

    position: int  # sample of the block, from 0
    kind: str  # such as "Stimulus"
    text: str  # such as "S  1"
    channel: int  # number from 0; -1: all


@dataclass(frozen=True, slots=True, eq=False)
class RdaBlock:
    """Consecutive samples."""

    number: int  # of the block since the acquisition began; 32 bits
    samples: Floats  # (channels, n) µV; n may be 0
    marks: tuple[RdaMark, ...] = ()

    @property
    def points(self) -> int:
        """How many samples."""
        return int(self.samples.shape[1])


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of an acquisition; the connection stays open."""


def read_header(data: bytes) -> tuple[int, int]:
    """Return the kind of a message, and how many bytes follow its header.

    Raises:
        SourceError: it is no RDA message, or its size is impossible.

    """
    identity, size, kind = HEADER.unpack(data)
    if identity != IDENTITY:
        raise SourceError(
            f"what answers does not speak BrainVision RDA (it begins with {data[:8].hex(' ')}); "
            "is it the host and port of Recorder's remote data access?"
        )
    if not HEADER.size <= size <= MOST_BYTES:
        raise _malformed(f"one of {size} bytes; {HEADER.size} to {MOST_BYTES} are possible")
    return kind, size - HEADER.size


def read_body(kind: int, body: bytes, start: Start | None) -> Start | RdaBlock | Stop | None:
    """Decode a message; None for kinds without samples, such as a change of state.

    Args:
        kind: from its header.
        body: the bytes after the header.
        start: of the current acquisition, if there is one.

    Raises:
        SourceError: it is malformed, or holds samples before any start.
        SignalError: the rate is outside 50-1024 Hz.

    """
    if kind == START:
        return _start(body)
    if kind == STOP:
        return Stop()
    if kind not in (DATA16, DATA32):
        return None
    if start is None:
        raise _malformed("samples before a start")
    return _block(body, np.dtype("<i2" if kind == DATA16 else "<f4"), start)


def _start(body: bytes) -> Start:
    if len(body) < _START.size:
        raise _malformed(f"a start of {len(body)} bytes")
    count, interval_us = _START.unpack_from(body)
    if not 1 <= count <= MOST_CHANNELS or len(body) < _START.size + 9 * count:  # a name has one byte or more
        raise _malformed(f"a start of {len(body)} bytes for {count} channels")
    if not (math.isfinite(interval_us) and interval_us > 0):
        raise _malformed(f"a sampling interval of {interval_us:g} µs")
    rate_hz = round(1e6 / interval_us, 6)
    check_rate(rate_hz, "the BrainVision RDA stream")
    resolutions = np.frombuffer(body, "<f8", count, _START.size).astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((resolutions >= UNITS[0]) & (resolutions <= UNITS[1])))
    if bad.size:
        raise _malformed(f"a resolution of {resolutions[bad[0]]:g} µV of channel {bad[0]}")
    names = body[_START.size + 8 * count :].split(b"\0")
    if len(names) <= count:  # each ends with a zero, so that something, or nothing, follows the last
        raise _malformed(f"{len(names) - 1} names for {count} channels")
    return Start(rate_hz, tuple(decode_text(name)[:NAME] for name in names[:count]), resolutions)


def _block(body: bytes, form: np.dtype[np.generic], start: Start) -> RdaBlock:
    count = len(start.names)
    if len(body) < _DATA.size:
        raise _malformed(f"a block of {len(body)} bytes")
    number, points, marks = _DATA.unpack_from(body)
    end = _DATA.size + points * count * form.itemsize
    if end > len(body):
        raise _malformed(f"a block of {len(body)} bytes for {points} samples of {count} channels")
    values = np.frombuffer(body, form, points * count, _DATA.size).reshape(points, count)
    samples = values.T.astype(np.float64) * start.resolutions[:, None]
    samples[~np.isfinite(samples)] = np.nan
    return RdaBlock(number, samples, tuple(_marks(body, end, marks, points, count)))


def _marks(body: bytes, at: int, count: int, points: int, channels: int) -> Iterator[RdaMark]:
    if count * (_MARKER.size + 2) > len(body) - at:
        raise _malformed(f"{count} markers in {len(body) - at} bytes")
    for _ in range(count):
        left = len(body) - at
        size = _MARKER.unpack_from(body, at)[0] if left >= _MARKER.size else left + 1
        if not _MARKER.size + 2 <= size <= left:
            raise _malformed(f"a marker of {size} bytes in {left}")
        _, position, _, channel = _MARKER.unpack_from(body, at)
        kind, _, rest = body[at + _MARKER.size : at + size].partition(b"\0")
        text = rest.partition(b"\0")[0]
        where = channel if 0 <= channel < channels else -1
        yield RdaMark(min(position, points), decode_text(kind)[:NAME], decode_text(text)[:TEXT], where)
        at += size


def _malformed(what: str) -> SourceError:
    return SourceError(f"a BrainVision RDA message makes no sense: {what}; connect to Recorder itself")
