"""Keeps the last 30 s as samples and spectrogram, up to date at every second."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from streamer.asks import Ask, Results, alone
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, RATE_HZ, Floats, Gap, Item, Window
from streamer.spectrogram import BINS, FRAME_S, columns, frames

COLUMNS = EPOCH_S - FRAME_S + 1  # 29 frames fit into 30 s


class Windows:
    """Cuts a 100 Hz stream into windows of 30 s: one every `hop_s`, and one at the end of every epoch.

    Each ring buffer has twice its length and is written in two places, so that the last 30 s are always one
    slice. The first window comes after 30 s. Lost samples are NaN.
    """

    def __init__(self, hop_s: int) -> None:
        if not 1 <= hop_s <= EPOCH_S:
            raise ValueError(f"hop_s is {hop_s}, not a whole number from 1 to {EPOCH_S}")
        self._hop_s = hop_s
        self.reset()

    def reset(self) -> None:
        """Start anew with a stream whose first sample has index 0."""
        self._samples: Floats = np.full(2 * EPOCH_SAMPLES, np.nan)
        self._columns = np.full((2 * COLUMNS, BINS), np.nan, dtype=np.float32)
        self._index = 0  # 100 Hz index of the next sample

    def push(self, item: Item) -> Iterator[Window]:
        """Take the next chunk or gap; yield each window that it completes.

        Iterate to the end before the next push.
        """
        return alone(self.steps(item))

    def steps(self, item: Item) -> Iterator[Window | Ask]:
        """As `push`, asking for what can be done together with other streams."""
        if item.start != self._index:
            raise ValueError(f"item starts at sample {item.start}, expected {self._index}")
        lost = isinstance(item, Gap)
        while self._index < item.stop:
            begin, stop = self._index, min(self._due(), item.stop)
            values: Floats | float = (
                np.nan if isinstance(item, Gap) else item.samples[0, begin - item.start : stop - item.start]
            )
            self._write(stop - begin, values)
            self._index = stop
            yield from self._fill(begin // RATE_HZ + 1, stop // RATE_HZ, lost)
            if stop % RATE_HZ == 0:
                yield from self._window(item.arrived)

    def _due(self) -> int:
        """100 Hz index of the next possible end of a window, or of the epoch, where the ring ends."""
        seconds = self._index // RATE_HZ
        return RATE_HZ * (seconds + min(self._hop_s - seconds % self._hop_s, EPOCH_S - seconds % EPOCH_S))

    def _write(self, count: int, values: Floats | float) -> None:
        """Write up to one epoch of samples into both halves; it never crosses the ring's end."""
        at = self._index % EPOCH_SAMPLES
        self._samples[at : at + count] = values
        self._samples[at + EPOCH_SAMPLES : at + EPOCH_SAMPLES + count] = values

    @property
    def _end(self) -> int:
        """Position one past the newest sample, in the ring's upper half."""
        return (self._index - 1) % EPOCH_SAMPLES + 1 + EPOCH_SAMPLES

    def _fill(self, first: int, last: int, lost: bool) -> Generator[Ask, None, None]:
        """Compute the columns that end with the seconds `first` to `last`, both included."""
        first = max(first, FRAME_S, last - COLUMNS + 1)
        if first > last:
            return
        # One place is the usual case, and costs more as an array.
        slots = last % COLUMNS if first == last else np.arange(first, last + 1) % COLUMNS
        found: Results | float = np.nan
        if not lost:
            at = self._end - self._index % RATE_HZ  # the last whole second
            ask = Ask(columns, frames(self._samples[at - (last - first + FRAME_S) * RATE_HZ : at]))
            yield ask
            found = ask.answer
        self._columns[slots] = self._columns[slots + COLUMNS] = found

    def _window(self, arrived: float) -> Iterator[Window]:
        """After a complete second, yield a window if one is due."""
        seconds, at = self._index // RATE_HZ, self._end
        if seconds < EPOCH_S or (seconds % self._hop_s and seconds % EPOCH_S):
            return
        first = seconds % COLUMNS + 1  # the oldest of the last 29 columns
        yield Window(
            end=self._index,
            epoch=None if seconds % EPOCH_S else seconds // EPOCH_S - 1,
            samples=self._samples[at - EPOCH_SAMPLES : at].astype(np.float32),
            spectrogram=self._columns[first : first + COLUMNS].copy(),
            arrived=arrived,
        )
