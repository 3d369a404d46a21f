"""XDF files of the lab streaming layer, read by pyxdf; gaps come from their clock-synced times.

pyxdf reads a file whole, so a night takes the memory its samples take (16 float32 channels at 256 Hz: 0.5 GB,
twice that while it is read). Its dejittering would smooth times over gaps, so it stays off.
"""

from __future__ import annotations

import gzip
import math
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyxdf

from streamer.errors import RecordingError, SourceError
from streamer.messages import Channel, Item
from streamer.sources.recordings import UNKNOWN_START, read_head
from streamer.timeline import Timeline

BLOCK_S = 60.0  # samples turned into float64 at once


class XdfRecording:
    """Every numeric stream of a regular rate in an XDF file; one stream is replayed at a time.

    A file that ends in the middle of a sample, as one left by a crash does, is read up to there.
    """

    def __init__(self, path: Path) -> None:
        """Load the file.

        Raises:
            RecordingError: it is missing, damaged, no XDF, or has no stream of a regular rate.

        """
        read_head(path)
        self._path = path
        self.remarks: list[str] = []
        loaded, header = _load(path)
        self._streams = [stream for stream in loaded if _regular(stream)]
        if not self._streams:
            raise RecordingError(
                f"{path} holds no stream of samples at a regular rate; record the EEG stream too"
            )
        self.name = path.stem
        self.channels = tuple(channel for stream in self._streams for channel in _channels(stream))
        self._owner = [n for n, stream in enumerate(self._streams) for _ in _channels(stream)]
        self.rates_hz = tuple(_rate(self._streams[owner]) for owner in self._owner)
        self.started = _started(header)
        longest = max(self._streams, key=lambda stream: len(stream["time_stamps"]))
        self.duration_s: float | None = float(longest["time_stamps"][-1] - longest["time_stamps"][0])

    def together(self, index: int) -> tuple[int, ...]:
        """The channels of the same stream."""
        return tuple(other for other, owner in enumerate(self._owner) if owner == self._owner[index])

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Chunks of the picked channels, and gaps where the stream's times jump."""
        stream = self._streams[self._owner[picked[0]]]
        first = self._owner.index(self._owner[picked[0]])
        columns = [index - first for index in picked]
        rate_hz = _rate(stream)
        timeline = Timeline(rate_hz)
        times, samples = stream["time_stamps"], stream["time_series"]
        size = max(1, int(BLOCK_S * rate_hz))
        try:
            for at in range(0, len(times), size):
                part = samples[at : at + size, columns].T.astype(np.float64)
                yield from timeline.push(times[at : at + size], part)
            yield from timeline.flush()
        except SourceError as error:
            raise RecordingError(f"{self._path}: {error.args[0].split(';')[0]}; it is damaged") from error


def _load(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    try:
        with gzip.open(path) if path.suffix.lower() in (".gz", ".xdfz") else path.open("rb") as file:
            streams, header = pyxdf.load_xdf(file, dejitter_timestamps=False)
    # What pyxdf raises for a damaged file depends on the byte at which it stumbles.
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
        raise RecordingError(f"{path} is no whole XDF file ({error}); copy it again") from error
    return list(streams), header or {}


def _regular(stream: dict[str, Any]) -> bool:
    """Whether this is a stream of numbers at a nominal rate, with samples."""
    numeric = stream["info"]["channel_format"][0] != "string"
    return numeric and 0 < _rate(stream) < math.inf and len(stream["time_stamps"]) > 0


def _rate(stream: dict[str, Any]) -> float:
    return float(stream["info"]["nominal_srate"][0])


def _channels(stream: dict[str, Any]) -> list[Channel]:
    """Labels and units from desc/channels/channel, or the stream's name and a number where there are none."""
    info = stream["info"]
    count = int(info["channel_count"][0])
    name = _text(info, "name")
    described = _first(_first(info, "desc"), "channels")
    entries = described.get("channel") if isinstance(described, dict) else None
    if not isinstance(entries, list) or len(entries) != count:
        return [Channel(f"{name} {n}", "") for n in range(count)]
    return [
        Channel(_text(entry, "label") or f"{name} {n}", _text(entry, "unit"))
        for n, entry in enumerate(entries)
    ]


def _first(tree: Any, key: str) -> Any:
    """The first element of that name in pyxdf's picture of the XML, None where there is none."""
    found = tree.get(key) if isinstance(tree, dict) else None
    return found[0] if isinstance(found, list) and found else None


def _text(tree: Any, key: str) -> str:
    found = _first(tree, key)
    return found.strip() if isinstance(found, str) else ""


def _started(header: dict[str, Any]) -> float:
    """When the recorder says it began; XDF states it to the second at best."""
    try:
        when = datetime.fromisoformat(_text(header.get("info"), "datetime"))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return UNKNOWN_START
