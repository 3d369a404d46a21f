"""Keeps the last 30 s as samples and spectrogram, up to date at every second.

The spectrogram that the network sees has frames of 2 s with a Hamming taper, 1 s apart, in dB.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from streamer.asks import Ask, Results, alone
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, RATE_HZ, Floats, Gap, Item, Window

FRAME_S = 2
FRAME_SAMPLES = FRAME_S * RATE_HZ
FFT_POINTS = 256
FRAMES = EPOCH_SAMPLES // RATE_HZ - 1  # frames in an epoch
BINS = FFT_POINTS // 2  # without DC: 0.39 Hz, 0.78 Hz ... 50 Hz
FLOOR_UV = 1.0  # added to |X|, so that a band without power has 0 dB instead of minus infinity
HAMMING: Floats = np.hamming(FRAME_SAMPLES)


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
        self._columns = np.full((2 * FRAMES, BINS), np.nan, dtype=np.float32)
        self._index = 0  # 100 Hz index of the next sample

    def push(self, item: Item) -> Iterator[Window]:
        """Take the next chunk or gap; yield each window that it completes.

        Iterate to the end before the next push.
        """
        return alone(self.steps(item))

    def steps(self, item: Item) -> Iterator[Window | Ask]:
        """As `push`; yield an `Ask` where the work of several streams can be done in one call."""
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
        first = max(first, FRAME_S, last - FRAMES + 1)
        if first > last:
            return
        # One place is the usual case, and costs more as an array.
        slots = last % FRAMES if first == last else np.arange(first, last + 1) % FRAMES
        found: Results | float = np.nan
        if not lost:
            at = self._end - self._index % RATE_HZ  # the last whole second
            ask = Ask(columns, frames(self._samples[at - (last - first + FRAME_S) * RATE_HZ : at]))
            yield ask
            found = ask.answer
        self._columns[slots] = self._columns[slots + FRAMES] = found

    def _window(self, arrived: float) -> Iterator[Window]:
        """After a complete second, yield a window if one is due."""
        seconds, at = self._index // RATE_HZ, self._end
        if seconds < EPOCH_S or (seconds % self._hop_s and seconds % EPOCH_S):
            return
        first = seconds % FRAMES + 1  # the oldest of the last 29 columns
        yield Window(
            end=self._index,
            epoch=None if seconds % EPOCH_S else seconds // EPOCH_S - 1,
            samples=self._samples[at - EPOCH_SAMPLES : at].astype(np.float32),
            spectrogram=self._columns[first : first + FRAMES].copy(),
            arrived=arrived,
        )


def columns(frames: Floats) -> NDArray[np.float32]:
    """Compute columns of the spectrogram: (n, 200) µV -> (n, 128) dB re 1 µV, `20 log10(|X| + 1)`.

    A frame with a lost sample (NaN) becomes a column of NaN. A column is the same to the bit however many
    frames are given, because each row is transformed and summed separately.
    """
    magnitude = np.abs(np.fft.rfft(frames * HAMMING, FFT_POINTS))[:, 1:]
    out: NDArray[np.float32] = (20.0 * np.log10(magnitude + FLOOR_UV)).astype(np.float32)
    return out


def spectrogram(samples: Floats) -> NDArray[np.float32]:
    """Compute every column of a signal: (n,) µV -> (n // 100 - 1, 128) dB; the first is of seconds 0 to 2."""
    return columns(frames(samples))


def frames(samples: Floats) -> Floats:
    """Cut a signal into frames of 2 s that begin at whole seconds: (n,) -> (n // 100 - 1, 200)."""
    seconds = samples[: samples.shape[0] // RATE_HZ * RATE_HZ].reshape(-1, RATE_HZ)
    return np.concatenate([seconds[:-1], seconds[1:]], axis=1)
