"""Joins the small pieces of a device into chunks of a second."""

from __future__ import annotations

import numpy as np

from streamer.messages import RATE_HZ, Chunk, Gap, Item
from streamer.resampler import find_ratio, needed_index, ready_index


class Gather:
    """Joins some twenty pieces a second to one chunk a second: a tenth of the work, and no later scores.

    Windows end on whole seconds, so the pieces in between produce no output, and the output does not depend
    on how the stream was cut. A piece that completes a second of the resampler's output is passed on at once
    with all before it; so are a gap, and the first piece of the stream or after a gap. (If a device marks
    samples as NaN, the samples before them may wait for the next second.)

    Args:
        rate_hz: the device's sampling rate.

    Raises:
        SignalError: the rate is outside 50 to 1024 Hz.

    """

    def __init__(self, rate_hz: float) -> None:
        self._ratio = find_ratio(rate_hz)
        self._held: list[Chunk] = []
        self._next = 0  # start of the next piece
        self._enough = 0  # sample index at which the next second is complete
        self._resumed = True  # the next piece is the first one, or the first after a loss

    def __len__(self) -> int:
        return len(self._held)

    def missing(self) -> int:
        """Return how many samples are missing from the next second; 0: the next item is passed on at once."""
        return 0 if self._resumed else max(self._enough - self._next, 0)

    def push(self, item: Item) -> list[Item]:
        """Take the next piece; return the items that are ready."""
        stop = item.stop
        if stop < self._enough and item.start == self._next and isinstance(item, Chunk) and not self._resumed:
            self._next = stop
            self._held.append(item)
            return []
        if isinstance(item, Gap):
            self._resumed = True
            return [*self.flush(), item]
        if self._held and item.start != self._next:
            return [*self.flush(), item]  # passed on as it is, not joined
        self._held.append(item)
        self._next = stop
        self._resumed = False
        if stop >= self._enough:
            seconds = max(ready_index(stop, self._ratio), 0) // RATE_HZ
            self._enough = needed_index((seconds + 1) * RATE_HZ, self._ratio)
        return self.flush()

    def flush(self) -> list[Item]:
        """Return the held samples, at the end of the stream."""
        held, self._held = self._held, []
        if len(held) <= 1:
            return [*held]
        samples = np.concatenate([chunk.samples for chunk in held], axis=1)
        return [Chunk(held[0].start, samples, held[-1].arrived)]
