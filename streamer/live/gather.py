"""Joins the small pieces of a device into chunks of a second."""

from __future__ import annotations

import numpy as np

from streamer.messages import RATE_HZ, Chunk, Gap, Item
from streamer.resampler import find_ratio, needed_index, ready_index


class Gather:
    """Twenty pieces a second in, one chunk a second out: a tenth of the work, and no score is later.

    A window ends on a whole second, so nothing can come of the pieces in between; and what comes of a stream
    does not depend on how it was cut. A piece that completes a second of the resampler's output leaves at
    once with all before it; so does a gap, and the first piece of all and after a gap. (Where a device marks
    samples as not a number, what they cut short may wait for the next second.)

    Args:
        rate_hz: of the device.

    Raises:
        SignalError: the rate is outside 50 to 1024 Hz.

    """

    def __init__(self, rate_hz: float) -> None:
        self._ratio = find_ratio(rate_hz)
        self._held: list[Chunk] = []
        self._next = 0  # index that the next piece has to begin with
        self._enough = 0  # index with which another second is complete
        self._resumed = True  # the next piece says that samples come, and tells the loss before it

    def __len__(self) -> int:
        return len(self._held)

    def missing(self) -> int:
        """How many samples complete the next second; 0: whatever comes next is passed on at once."""
        return 0 if self._resumed else max(self._enough - self._next, 0)

    def push(self, item: Item) -> list[Item]:
        """Take the next piece; return what is ready."""
        stop = item.stop
        if stop < self._enough and item.start == self._next and isinstance(item, Chunk) and not self._resumed:
            self._next = stop
            self._held.append(item)
            return []
        if isinstance(item, Gap):
            self._resumed = True
            return [*self.flush(), item]
        if self._held and item.start != self._next:
            return [*self.flush(), item]  # not for us to judge
        self._held.append(item)
        self._next = stop
        self._resumed = False
        if stop >= self._enough:
            seconds = max(ready_index(stop, self._ratio), 0) // RATE_HZ
            self._enough = needed_index((seconds + 1) * RATE_HZ, self._ratio)
        return self.flush()

    def flush(self) -> list[Item]:
        """End of the stream: return what is held."""
        held, self._held = self._held, []
        if len(held) <= 1:
            return [*held]
        samples = np.concatenate([chunk.samples for chunk in held], axis=1)
        return [Chunk(held[0].start, samples, held[-1].arrived)]
