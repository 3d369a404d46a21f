"""Finds the damaged chunks of an XDF file, so that pyxdf reads only sound ones.

pyxdf continues after a damaged chunk without an error. Samples after it that have no time of their own would
then get the times of the lost ones.
"""

from __future__ import annotations

import math
import struct
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from mmap import mmap

import numpy as np

MAGIC = b"XDF:"
BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
FILE, STREAM, SAMPLES, CLOCK, MARK, FOOTER = 1, 2, 3, 4, 5, 6
_WIDTHS = {"double64": 8, "float32": 4, "int64": 8, "int32": 4, "int16": 2, "int8": 1}
HEAD = 16  # a chunk's head may be cut in so many bytes at a file's end
CHAIN = 4  # so many chunks in a row show that sound ones begin
SEARCHED = 4 << 20  # bytes searched for that, if no boundary comes before
_LENGTHS = {1: "<B", 4: "<I", 8: "<Q"}


@dataclass(slots=True)
class _Stream:
    width: int  # bytes of a sample's values; 0 for strings
    channels: int
    timed: bool = True  # the next sample's time is known


@dataclass(slots=True)
class Sound:
    """The sound parts of a file.

    Attributes:
        spans: (start, stop) in bytes, in order, without the magic number.
        remarks: what was left out.

    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def keep(self, start: int, stop: int) -> None:
        """Add a sound chunk."""
        if self.spans and self.spans[-1][1] == start:
            self.spans[-1] = (self.spans[-1][0], stop)
        else:
            self.spans.append((start, stop))


def sound(data: bytes | mmap) -> Sound:
    """Find the sound stretches of a whole file, which begins with the magic."""
    found = Sound()
    streams: dict[int, _Stream] = {}
    lost: Counter[str] = Counter()
    at = len(MAGIC)
    while at < len(data):
        head = _head(data, at)
        fault = "no chunk" if head is None else _fault(data, head, streams)
        if head is not None and not fault and head.tag == SAMPLES and _overrun(data, head.stop):
            fault = "samples before damaged bytes"
        if head is not None and not fault:
            found.keep(at, head.stop)
            at = head.stop
            continue
        if head is not None and _plausible(data, head.stop):  # it alone is damaged
            lost[fault] += 1
            at = head.stop
        else:
            at = _resume(data, at, head, found)
        if head is None or head.tag in (SAMPLES, 0) or head.stop != at:
            for stream in streams.values():
                stream.timed = False
    found.remarks += [f"{count} damaged chunks left out: {fault}" for fault, count in lost.items()]
    return found


@dataclass(frozen=True, slots=True)
class _Chunk:
    tag: int
    begin: int  # of what follows the tag
    stop: int


def _head(data: bytes | mmap, at: int) -> _Chunk | None:
    """Read the head of the chunk at `at`; its stated end may lie behind the file."""
    form = _LENGTHS.get(data[at])
    begin = at + 1 + data[at] + 2
    if form is None or begin > len(data):
        return None
    length = struct.unpack_from(form, data, at + 1)[0]
    (tag,) = struct.unpack_from("<H", data, begin - 2)
    if length < 2 or not FILE <= tag <= FOOTER:
        return None
    return _Chunk(tag, begin, begin - 2 + length)


def _plausible(data: bytes | mmap, at: int) -> bool:
    """Whether a chunk begins at `at`, or the file ends there."""
    if at >= len(data):
        return at == len(data)
    head = _head(data, at)
    return head is not None and head.stop <= len(data)


def _overrun(data: bytes | mmap, at: int) -> bool:
    """Whether no chunk begins where this one ends: then it may lack bytes, or have too many."""
    return at < len(data) - HEAD and _head(data, at) is None


def _chained(data: bytes | mmap, at: int) -> bool:
    """Whether several chunks follow each other from here, or all up to the end: that is not chance."""
    for _ in range(CHAIN):
        head = _head(data, at)
        if head is None or head.stop > len(data):
            return False
        if head.stop == len(data):
            return True
        at = head.stop
    return True


def _resume(data: bytes | mmap, at: int, head: _Chunk | None, found: Sound) -> int:
    """Find where sound chunks begin again after one whose length cannot be trusted."""
    mark = data.find(BOUNDARY, at)
    ends = mark + len(BOUNDARY) if mark >= 0 else len(data)
    for place in range(at + 1, min(ends, at + SEARCHED)):
        if data[place] in _LENGTHS and _chained(data, place):
            ends, mark = place, place
            break
    if mark >= 0:
        found.remarks.append(f"{ends - at} damaged bytes left out, from byte {at} on")
        return ends
    left = len(data) - at
    if head is not None and head.stop > len(data):
        found.remarks.append(
            f"the file ends within a chunk, as if it had been cut: its last {left} bytes are left out"
        )
    else:
        found.remarks.append(f"it is damaged from byte {at} on: the last {left} bytes are left out")
    return len(data)


def _fault(data: bytes | mmap, chunk: _Chunk, streams: dict[int, _Stream]) -> str:
    """Return what is wrong with a chunk; "" if it is sound."""
    if chunk.stop > len(data):
        return "cut short"
    if chunk.tag == MARK:
        return "" if data[chunk.begin : chunk.stop] == BOUNDARY else "a boundary"
    if chunk.tag == FILE:
        return "" if _xml(data[chunk.begin : chunk.stop]) is not None else "the file's header"
    if chunk.stop - chunk.begin < 4:
        return "too short"
    (number,) = struct.unpack_from("<I", data, chunk.begin)
    if chunk.tag == STREAM:
        return _describe(data[chunk.begin + 4 : chunk.stop], number, streams)
    stream = streams.get(number)
    if stream is None:
        return "of a stream that nothing describes"
    if chunk.tag == SAMPLES:
        return _samples_fault(data, chunk.begin + 4, chunk.stop, stream)
    if chunk.tag == CLOCK:
        body = data[chunk.begin + 4 : chunk.stop]
        whole = len(body) == 16 and all(map(math.isfinite, struct.unpack("<dd", body)))
        return "" if whole else "what the clocks said"
    return "" if _xml(data[chunk.begin + 4 : chunk.stop]) is not None else "a stream's footer"


def _xml(content: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(content.decode("utf-8", "replace"))
    except ElementTree.ParseError:
        return None


def _describe(content: bytes, number: int, streams: dict[int, _Stream]) -> str:
    """Note the form of a stream's samples; return what is wrong with its description, or ""."""
    info = _xml(content)
    if info is None or info.tag != "info":
        return "a stream's header"
    form = (info.findtext("channel_format") or "").strip()
    try:
        channels, rate = (
            int(info.findtext("channel_count") or ""),
            float(info.findtext("nominal_srate") or ""),
        )
    except ValueError:
        return "a stream's header"
    known = form in _WIDTHS or form == "string"
    if (
        number in streams
        or not known
        or info.find("name") is None
        or not 0 < channels < 100_000
        or not rate >= 0
    ):
        return "a stream's header"
    streams[number] = _Stream(_WIDTHS.get(form, 0) * channels, channels)
    return ""


def _number(data: bytes | mmap, at: int, stop: int) -> tuple[int, int] | None:
    """Read a number with its size before it; return it and its end, None if it does not end by `stop`."""
    form = _LENGTHS.get(data[at]) if at < stop else None
    if form is None or at + 1 + data[at] > stop:
        return None
    return int(struct.unpack_from(form, data, at + 1)[0]), at + 1 + data[at]


def _samples_fault(data: bytes | mmap, at: int, stop: int, stream: _Stream) -> str:
    """Return what is wrong with a chunk of samples: its length, or no known time of its first sample."""
    found = _number(data, at, stop)
    if found is None:
        return "samples"
    count, at = found
    if count == 0:
        return "" if at == stop else "samples"
    stamped = _stamped(data, at, stop, count, stream) if stop - at >= count else None
    if stamped is None:
        return "samples"
    if not stamped and not stream.timed:
        return "samples without a time of their own behind others that are lost"
    stream.timed = True
    return ""


def _stamped(data: bytes | mmap, at: int, stop: int, count: int, stream: _Stream) -> bool | None:
    """Whether the first of these samples has a time; None if they do not fill the chunk exactly."""
    first = data[at]
    if stream.width and stop - at == count * (9 + stream.width):  # all have one, as recorders write it
        flags = np.frombuffer(data, np.uint8, stop - at, at)[:: 9 + stream.width]
        if (flags == 8).all():
            return True
    place = at
    for _ in range(count):
        if place >= stop or data[place] not in (0, 8):
            return None
        place += 1 + data[place]
        ended = place + stream.width if stream.width else _strings_end(data, place, stop, stream.channels)
        if ended is None or ended > stop:
            return None
        place = ended
    return first == 8 if place == stop else None


def _strings_end(data: bytes | mmap, at: int, stop: int, count: int) -> int | None:
    for _ in range(count):
        found = _number(data, at, stop)
        if found is None or sum(found) > stop:
            return None
        at = sum(found)
    return at
