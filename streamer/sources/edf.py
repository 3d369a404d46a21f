"""EDF, EDF+ and BDF files, continuous or not: the header checked first, the samples read lazily by edfio.

edfio reads discontinuous files record by record but keeps the records' times to itself, and it holds a whole
BDF in memory. So the times are read here, and samples go through edfio in slabs of whole records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import edfio
import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.messages import Channel, Chunk, Gap, Item
from streamer.sources.edf_header import Header, rate_of, read_header, text_of
from streamer.timeline import LEAP_S

SLAB_S = 60.0  # read at once
# One time-stamped annotation list: onset, [0x15 duration], 0x14, texts each ended by 0x14, then 0.
_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14\x00")


class EdfRecording:
    """An EDF or BDF file. Channels whose ranges define no scale are left out."""

    def __init__(self, path: Path) -> None:
        """Check the header against the file.

        Raises:
            RecordingError: the file is missing, cut short, damaged or no EDF.

        """
        self._path = path
        self.remarks: list[str] = []
        self._header = read_header(path)
        ordinary = [signal for signal in self._header.signals if not signal.annotations]
        # Positions in edfio's list, which leaves the annotation signals out.
        self._positions = [i for i, signal in enumerate(ordinary) if signal.usable and signal.samples > 0]
        self._signals = [ordinary[i] for i in self._positions]
        if not self._signals:
            raise RecordingError(f"{path} holds no signals, only annotations; give the recording itself")
        self.name = path.stem
        self.channels = tuple(Channel(signal.label, signal.unit) for signal in self._signals)
        self.rates_hz = tuple(rate_of(signal.samples, self._header.record_s) for signal in self._signals)
        self.started = self._header.started
        self.duration_s: float | None = self._header.records * self._header.record_s
        if self._header.discontinuous:
            first, last = (onset for onset, _ in _records(path, self._header, (0, self._header.records - 1)))
            self.duration_s = last - first + self._header.record_s

    def together(self, index: int) -> tuple[int, ...]:
        """The channels with the same rate."""
        rate = self.rates_hz[index]
        return tuple(other for other, its in enumerate(self.rates_hz) if its == rate)

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Chunks of at most about a minute, and the gaps between an EDF+D's records."""
        per_record = self._signals[picked[0]].samples
        starts = self._starts(self.rates_hz[picked[0]], per_record)
        at_once = max(1, int(SLAB_S / self._header.record_s))
        index = 0
        for first in range(0, self._header.records, at_once):
            samples = self._slab(first, min(first + at_once, self._header.records), picked)
            last = 0
            for record in range(samples.shape[1] // per_record):
                lost = int(starts[first + record]) - (index + (record - last) * per_record)
                if lost <= 0:
                    continue
                if record > last:
                    yield Chunk(index, samples[:, last * per_record : record * per_record])
                    index += (record - last) * per_record
                yield Gap(index, index + lost, "interrupted in the recording")
                index, last = index + lost, record
            yield Chunk(index, samples[:, last * per_record :])
            index += samples.shape[1] - last * per_record

    def _starts(self, rate_hz: float, per_record: int) -> NDArray[np.int64]:
        """Sample index at which each record starts."""
        count = self._header.records
        if not self._header.discontinuous:
            return np.arange(count, dtype=np.int64) * per_record
        onsets = np.array([onset for onset, _ in _records(self._path, self._header, range(count))])
        leaps = np.flatnonzero(np.diff(onsets) > LEAP_S + self._header.record_s)
        if leaps.size:
            record = int(leaps[0]) + 1
            raise RecordingError(
                f"{self._path}: record {record + 1} of {count} starts at {onsets[record]:g} s, more than a "
                "day after the one in front of it; repair its times, for example with EDFbrowser"
            )
        starts: NDArray[np.int64] = np.rint((onsets - onsets[0]) * rate_hz).astype(np.int64)
        back = np.flatnonzero(np.diff(starts) < per_record - 1)  # one sample may come from rounding
        if back.size:
            record = int(back[0]) + 1
            raise RecordingError(
                f"{self._path}: record {record + 1} of {count} starts at {onsets[record]:g} s, before the "
                "one in front of it ends; repair its times, for example with EDFbrowser"
            )
        return starts

    def _slab(self, first: int, stop: int, picked: Sequence[int]) -> NDArray[np.float64]:
        """Records `first` to `stop` of the picked channels, physical values: (channels, n)."""
        header = self._header
        with self._path.open("rb") as file:
            file.seek(len(header.raw) + first * header.record_bytes)
            data = file.read((stop - first) * header.record_bytes)
        if len(data) != (stop - first) * header.record_bytes:
            raise RecordingError(
                f"{self._path} became shorter while it was read; copy it before replaying it"
            )
        small = header.raw[:236] + b"%-8d" % (stop - first) + header.raw[244:] + data
        signals: Sequence[edfio.EdfSignal | edfio.BdfSignal]
        if header.width == 2:
            signals = edfio.read_edf(small, header_encoding="latin-1").signals
        else:
            signals = edfio.read_bdf(BytesIO(small), header_encoding="latin-1").signals
        return np.stack([signals[self._positions[index]].data for index in picked])


def read_annotations(path: Path) -> list[tuple[float, float | None, str]]:
    """Every annotation of an EDF+ or BDF+ file: (onset s, duration s or None, text), onset from sample 0.

    Raises:
        RecordingError: the file is missing, cut short, damaged or no EDF.

    """
    header = read_header(path)
    out: list[tuple[float, float | None, str]] = []
    zero: float | None = None
    for onset, found in _records(path, header, range(header.records)):
        zero = onset if zero is None else zero  # a fraction of a second where the start is not a whole one
        out += [(start - zero, length, text) for start, length, text in found if text]
    return sorted(out, key=lambda item: item[0])


def _records(
    path: Path, header: Header, wanted: Iterable[int]
) -> Iterator[tuple[float, list[tuple[float, float | None, str]]]]:
    """For each wanted record its onset in seconds, and its annotations; the first of them is that onset."""
    places = [signal for signal in header.signals if signal.annotations]
    with path.open("rb") as file:
        for record in wanted:
            found: list[tuple[float, float | None, str]] = []
            for place in places:
                file.seek(len(header.raw) + record * header.record_bytes + place.offset)
                found += _annotation_lists(file.read(place.samples * header.width))
            if places and not found:
                raise RecordingError(
                    f"{path}: record {record + 1} does not say when it starts; the file is damaged"
                )
            if places:
                yield found[0][0], found


def _annotation_lists(data: bytes) -> Iterator[tuple[float, float | None, str]]:
    for onset, duration, texts in _TAL.findall(data):
        for text in texts.split(b"\x14"):
            yield float(onset), float(duration) if duration else None, text_of(text)
