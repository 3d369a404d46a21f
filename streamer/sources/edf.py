"""EDF, EDF+ and BDF files, continuous or not: the header checked first, the samples read a minute at a time.

No library reads the samples: its parser and the one that checks the header here could disagree on a value
such as `-32767.0`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.messages import Chunk, Gap, Item
from streamer.sources import edf_times
from streamer.sources.edf_header import Header, SignalHeader, rate_of, read_header
from streamer.sources.files import make_distinct

SLAB_S, SLAB_BYTES = 60.0, 64 << 20  # read at once, at most


class EdfRecording:
    """An EDF or BDF file. Channels whose ranges define no scale are left out, with a remark."""

    def __init__(self, path: Path) -> None:
        """Check the header against the file.

        Raises:
            RecordingError: the file is missing, cut short, damaged or no EDF.

        """
        self._path = path
        self._header = read_header(path)
        self._signals = [one for one in self._header.signals if one.scale is not None and one.samples > 0]
        self.remarks = list(_left_out(self._header))
        if not self._signals:
            why = self.remarks[0] if self.remarks else "it has no signals, only annotations"
            raise RecordingError(f"{path} holds nothing to stage: {why}; give the recording itself")
        self._onsets, said = edf_times.read_onsets(path, self._header)
        self.remarks += said
        self._header, said = edf_times.correct_pace(self._header, self._onsets)
        self.remarks += said
        self.name = path.stem
        self.channels = make_distinct((one.label, one.unit) for one in self._signals)
        self.rates_hz = tuple(rate_of(signal.samples, self._header.record) for signal in self._signals)
        self.started = self._header.started
        self.duration_s: float | None = edf_times.span_s(self._header, self._onsets)

    def together(self, index: int) -> tuple[int, ...]:
        """Return the channels that have the rate of channel `index`."""
        rate = self.rates_hz[index]
        return tuple(other for other, its in enumerate(self.rates_hz) if its == rate)

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Yield chunks of at most about a minute, and a gap where the records' times show a loss."""
        header, signals = self._header, [self._signals[index] for index in picked]
        size = signals[0].samples
        starts, remarks = edf_times.starts(self._path, header, self._onsets, self.rates_hz[picked[0]], size)
        self.remarks += remarks
        at_once = max(1, int(min(SLAB_S / header.record_s, SLAB_BYTES // header.record_bytes)))
        index = 0  # of the next sample to be given out
        for first in range(0, header.records, at_once):
            records = self._read(first, min(first + at_once, header.records))
            samples = np.stack([_physical(records, signal, header.width) for signal in signals])
            begun = 0
            for number, start in enumerate(starts[first : first + len(records)]):
                expected = index + (number - begun) * size
                if edf_times.UNPLACED < start <= expected:
                    continue
                if number > begun:
                    yield Chunk(index, samples[:, begun * size : number * size])
                index, begun = expected, number
                if start == edf_times.UNPLACED:
                    begun += 1
                else:
                    yield Gap(index, int(start), "interrupted in the recording")
                    index = int(start)
            if begun < len(records):
                yield Chunk(index, samples[:, begun * size :])
                index += (len(records) - begun) * size

    def _read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Records `first` to `stop` as bytes: (records, bytes of a record)."""
        header = self._header
        with self._path.open("rb") as file:
            file.seek(header.size + first * header.record_bytes)
            data = file.read((stop - first) * header.record_bytes)
        if len(data) != (stop - first) * header.record_bytes:
            raise RecordingError(
                f"{self._path} became shorter while it was read; copy it before replaying it"
            )
        return np.frombuffer(data, np.uint8).reshape(stop - first, header.record_bytes)


def _physical(records: NDArray[np.uint8], signal: SignalHeader, width: int) -> NDArray[np.float64]:
    """The values of one signal in its own unit: (records, bytes) -> (n,)."""
    assert signal.scale is not None
    own = records[:, signal.offset : signal.offset + signal.samples * width].reshape(-1, width)
    digital = own[:, -1].view(np.int8).astype(np.int32)  # the last byte has the sign
    for place in reversed(range(width - 1)):
        digital = (digital << 8) | own[:, place]
    return signal.scale.physical(digital)


def _left_out(header: Header) -> Iterator[str]:
    for signal in header.signals:
        if signal.fault:
            yield f"signal {signal.number} {signal.label!r} is left out: {signal.fault}"
