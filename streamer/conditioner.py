"""Resamples one channel to 100 Hz and band-passes it, causally.

Training data pass through the same code, so that training and serving cannot differ.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from streamer.asks import Ask, finished
from streamer.filters import BUTTERWORTH, lfilter
from streamer.messages import Chunk, Floats, Gap, Item
from streamer.resampler import Resampler, grid_index

BAND_HZ = (0.3, 35.0)  # AASM's recommended display band for EEG
ORDER = 2  # of each edge; `BUTTERWORTH` is the filter of both at 100 Hz


class BandPass:
    """A causal Butterworth band-pass that starts from the first sample's value.

    Starting from something longer, such as the first chunk's mean, would make the output depend on how the
    input is cut (by 5 µV, measured).
    """

    def __init__(self) -> None:
        # One section at a time: for one second of samples, the setup of `sosfilt` alone takes twice as long.
        self._sections = [(section[:3], section[3:]) for section in BUTTERWORTH]
        self.reset()

    def reset(self) -> None:
        """Start anew at the next sample."""
        self._state = [np.zeros(2) for _ in self._sections]
        self._offset: float | None = None

    def push(self, samples: Floats) -> Floats:
        """Filter: (n,) µV -> (n,) µV."""
        if samples.shape[0] == 0:
            return samples
        if self._offset is None:
            self._offset = float(samples[0])
        filtered: Floats = samples - self._offset
        for number, (numerator, denominator) in enumerate(self._sections):
            filtered, self._state[number] = lfilter(numerator, denominator, filtered, self._state[number])
        return filtered


class Conditioner:
    """(1, n) µV at the device's rate -> (1, m) µV at 100 Hz, band-passed; gaps in 100 Hz samples.

    A gap of at most `bridge_s` is filled by a straight line (it still counts as lost); a longer one restarts
    the filters. Output sample k lies at k / 100 s of the input's clock, and comes out `delay_s` later.
    """

    def __init__(self, rate_hz: float, bridge_s: float = 0.2) -> None:
        self._rate_hz = rate_hz
        self._bridge = int(bridge_s * rate_hz)  # samples
        self._resampler = Resampler(rate_hz)
        self._band = BandPass()
        self.delay_s = self._resampler.delay_s
        self.reset()

    def reset(self) -> None:
        """Start anew with a stream whose first sample has index 0."""
        self._resampler.reset()
        self._band.reset()
        self._next = 0  # index of the next input sample
        self._last = 0.0  # the last sample, µV
        self._running = False  # False: nothing has been filtered since the start or the last long gap
        self._pending: Gap | None = None  # a short gap, to be filled once the next sample is known

    def push(self, item: Item) -> list[Item]:
        """Take the next chunk or gap, which must begin where the last one ended.

        Return the filtered items.
        """
        return finished(self.steps(item))

    def steps(self, item: Item) -> Generator[Ask, None, list[Item]]:
        """As `push`; yield an `Ask` where the work of several streams can be done in one call."""
        if item.start != self._next:
            raise ValueError(f"item starts at sample {item.start}, expected {self._next}")
        if isinstance(item, Gap):
            self._next = item.stop
            if self._running and self._pending is None and item.stop - item.start <= self._bridge:
                self._pending = item
                return []
            return self._give_up(item)
        if item.stop == item.start:
            return []
        self._next = item.stop
        samples = item.samples[0]
        if self._pending is not None:
            samples = self._bridged(self._pending, samples)
            self._pending = None
        self._running = True
        self._last = float(samples[-1])
        return self._chunk((yield from self._resampler.steps(samples)), item.arrived)

    def restart(self) -> list[Item]:
        """Restart the filters, as after a long gap, because another channel follows.

        Return what was held back.
        """
        return self._give_up(Gap(self._next, self._next, ""))

    def flush(self) -> list[Item]:
        """End of the stream: return what the resampler held back, or a gap at the end."""
        pending, self._pending = self._pending, None
        if pending is not None:
            return self._give_up(pending)
        return self._chunk(self._resampler.flush(), 0.0)

    def _bridged(self, gap: Gap, samples: Floats) -> Floats:
        steps = gap.stop - gap.start
        line = self._last + (samples[0] - self._last) * np.arange(1, steps + 1) / (steps + 1)
        return np.concatenate([line, samples])

    def _give_up(self, gap: Gap) -> list[Item]:
        """End the filters before a gap; return what they held back, and the gap in 100 Hz samples."""
        before = self._pending
        self._pending = None
        out = self._chunk(self._resampler.flush(), gap.arrived) if self._running else []
        start = self._resampler.next_index
        self._resampler.reset(gap.stop)
        self._band.reset()
        self._running = False
        stop = grid_index(gap.stop, self._rate_hz)
        reason = gap.reason if before is None else before.reason
        return [*out, Gap(start, stop, reason, gap.arrived)] if stop > start else out

    def _chunk(self, samples: Floats, arrived: float) -> list[Item]:
        if samples.shape[0] == 0:
            return []
        filtered = self._band.push(samples)
        return [Chunk(self._resampler.next_index - samples.shape[0], filtered[None, :], arrived)]
