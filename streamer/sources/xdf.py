"""Reads XDF files of the lab streaming layer with pyxdf; gaps come from the clock-synced times.

pyxdf loads a whole file: a night of 16 float32 channels at 256 Hz takes 0.5 GB, and twice that while it is
loaded. Its dejittering would smooth times over gaps, so it stays off.
"""

from __future__ import annotations

import math
import mmap
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyxdf

from streamer.errors import RecordingError
from streamer.messages import Item
from streamer.sources.devicetime import FileChecked
from streamer.sources.files import UNKNOWN_START, make_distinct, read_head
from streamer.sources.timeline import Timeline
from streamer.sources.xdf_chunks import MAGIC, sound
from streamer.sources.xdf_pieces import joined, text_in

SHOWN = 4  # labels of a stream, in a remark
BLOCK_S = 60.0  # samples turned into float64 at once


class XdfRecording:
    """All numeric streams with a regular rate in an XDF file; one of them is replayed at a time.

    The pieces of a restarted stream make one recording with gaps. Damaged chunks are left out. A file that
    ends in the middle of a chunk, as after a crash, is read up to there.
    """

    def __init__(self, path: Path) -> None:
        """Load the file.

        Raises:
            RecordingError: it is missing, damaged, no XDF, or has no stream of a regular rate.

        """
        read_head(path)
        self._path = path
        self.remarks: list[str] = []
        loaded, header = _load(path, self.remarks)
        self._streams, left_out = joined([stream for stream in loaded if _regular(stream)])
        self.remarks += left_out
        if not self._streams:
            raise RecordingError(
                f"{path} has no stream of samples at a regular rate; record the EEG stream too"
                + (f" ({'; '.join(self.remarks[:3])})" if self.remarks else "")
            )
        self.name = path.stem
        self._owner = [n for n, stream in enumerate(self._streams) for _ in stream.channels]
        self.channels = make_distinct(
            (one.label, one.unit) for stream in self._streams for one in stream.channels
        )
        self.rates_hz = tuple(self._streams[owner].rate_hz for owner in self._owner)
        self.started = _started(header)
        self.duration_s: float | None = max(stream.duration_s for stream in self._streams)
        self._tell_apart()

    def together(self, index: int) -> tuple[int, ...]:
        """Return the channels of the same stream."""
        return tuple(other for other, owner in enumerate(self._owner) if owner == self._owner[index])

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Yield chunks of the picked channels, and gaps where the stream's times jump."""
        stream = self._streams[self._owner[picked[0]]]
        first = self._owner.index(self._owner[picked[0]])
        columns = [index - first for index in picked]
        timeline = Timeline(stream.rate_hz, FileChecked(stream.rate_hz, self.remarks))
        size = max(1, int(BLOCK_S * stream.rate_hz))
        for times, samples in stream.blocks(size, columns):
            yield from timeline.push(times, samples)
        yield from timeline.flush()

    def _tell_apart(self) -> None:
        """Add remarks on how channels of streams with equal labels are named."""
        first = 0
        for stream in self._streams:
            labels = [channel.label for channel in self.channels[first : first + len(stream.channels)]]
            first += len(stream.channels)
            if len(self._streams) > 1 and labels != [channel.label for channel in stream.channels]:
                more = " ..." if len(labels) > SHOWN else ""
                self.remarks.append(
                    f"several streams have equal labels; in {stream.name!r}, of {stream.duration_s:.0f} s, "
                    f"they are {', '.join(labels[:SHOWN])}{more}"
                )


def _load(path: Path, remarks: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Load the file's streams and header, without damaged chunks.

    Raises:
        RecordingError: nothing of it can be read.

    """
    try:
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(0)
                return _loaded(path, BytesIO(_unpacked(file.read(), remarks)), remarks)
            return _loaded(path, file, remarks)
    # For damaged values pyxdf raises whatever the code that meets them raises.
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        RuntimeError,
        EOFError,
        struct.error,
        MemoryError,  # a length that is damaged may be any number
        OverflowError,
        AttributeError,  # XML of another shape
        TypeError,
        zlib.error,
        ElementTree.ParseError,
    ) as error:
        raise RecordingError(f"{path} is not a complete XDF file ({error}); copy it again") from error


def _loaded(
    path: Path, file: BufferedReader | BytesIO, remarks: list[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """As `_load`, of an open file."""
    if isinstance(file, BytesIO):
        data = file.getvalue()
        handed = _trusted(path, data, remarks)
    else:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            handed = _trusted(path, view, remarks)
    file.seek(0)
    whole = file if handed is None else BytesIO(handed)
    with np.errstate(all="ignore"):  # pyxdf computes rates, also from times that stand still
        streams, header = pyxdf.load_xdf(whole, dejitter_timestamps=False)
    return list(streams), header or {}


def _trusted(path: Path, data: bytes | mmap.mmap, remarks: list[str]) -> bytes | None:
    """Return the file without damaged chunks; None if there are none."""
    if data[: len(MAGIC)] != MAGIC:
        raise RecordingError(f"{path} is not an XDF file: it does not begin like one; copy it again")
    trusted = sound(data)
    remarks += trusted.remarks
    if trusted.spans == [(len(MAGIC), len(data))]:
        return None
    return MAGIC + b"".join(data[start:stop] for start, stop in trusted.spans)


def _unpacked(packed: bytes, remarks: list[str]) -> bytes:
    """Decompress a file; if it was cut, up to there."""
    unpacker = zlib.decompressobj(wbits=31)
    out = unpacker.decompress(packed)
    if not unpacker.eof:
        remarks.append("the compressed file was cut; it is read up to there")
    return out


def _regular(stream: dict[str, Any]) -> bool:
    """Whether a stream has samples, numbers at a nominal rate."""
    numeric = stream["info"]["channel_format"][0] != "string"
    rate = float(stream["info"]["nominal_srate"][0])
    return numeric and 0 < rate < math.inf and len(stream["time_stamps"]) > 0


def _started(header: dict[str, Any]) -> float:
    """Return when the recording began, Unix s, by the file's header; at best to the second."""
    try:
        when = datetime.fromisoformat(text_in(header.get("info"), "datetime"))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return UNKNOWN_START
