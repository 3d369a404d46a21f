"""Records a source's items as they come, and queues them for the pipeline, joined to seconds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from streamer.clock import Clock
from streamer.journal import Journal
from streamer.messages import RATE_HZ, Chunk, Gap, Item, Marker
from streamer.resampler import find_ratio, needed_index, ready_index
from streamer.sources.source import SampleStream, keep_together

MARKERS = 1000  # that wait to be published; with more, the oldest are dropped
AHEAD_BYTES = 16 << 20  # of samples: half an hour of 4 channels at 256 Hz


class Intake:
    """`async with Intake(...) as intake` starts recording; `intake.next()` returns the recorded items.

    Recording does not wait for the pipeline, which may have to read back a whole night first. Small pieces
    are joined to chunks of about a second (see `Gather`). A device is read ahead of the pipeline up to
    `AHEAD_BYTES`, and then has to buffer on its own; a recorded file is not read ahead, and waits for the
    disk.

    Args:
        given: the opened source; iterated once.
        journal: records every item.
        live: the source is a device, which cannot wait.
        clock: for the arrival times of samples.
        hear: called with each item as it comes, before the pipeline gets it; must not block. Without it a
            device may hold samples back until a second is complete.

    Attributes:
        heard: monotonic time of the last samples' arrival, in seconds.
        markers: the markers received; whoever publishes one removes it.

    """

    def __init__(
        self,
        given: SampleStream,
        journal: Journal,
        live: bool,
        clock: Clock,
        hear: Callable[[Item], None] | None = None,
    ) -> None:
        self.info = given.info
        self.heard = clock.monotonic()
        self.markers: deque[Marker] = deque(maxlen=MARKERS)
        self._given = given
        self._hear = hear
        self._journal = journal
        self._live = live
        self._clock = clock
        self._gather = Gather(given.info.rate_hz)
        if live and hear is None:
            keep_together(given, self._gather.missing)
        self._items: deque[Item] = deque()  # recorded, and not yet given
        self._woken = False
        self._bytes = 0  # of their samples
        self._came = asyncio.Event()  # an item, or the end
        self._went = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many recorded items wait for the pipeline."""
        return len(self._items) + len(self._gather)

    async def next(self) -> Item | None:
        """Return the next item, of about a second; None when the source has ended, or after `wake`.

        Raises:
            SourceError, RecordingError: as raised by the source, after all its items.
            JournalError: the journal is closed.

        """
        while not self._items:
            if self._task.done():
                self._task.result()
                return None
            if self._woken:
                return None
            self._came.clear()
            await self._came.wait()
        return self._take()

    def wake(self) -> None:
        """End a wait for the next item, now and later."""
        self._woken = True
        self._came.set()

    async def end(self) -> list[Item]:
        """Stop recording; return the items that the pipeline has not taken yet."""
        self._task.cancel()
        await asyncio.wait([self._task])
        return [self._take() for _ in range(len(self._items))]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="intake")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._record()
        finally:
            self._items.extend(self._gather.flush())

    async def _record(self) -> None:
        async for item in self._given:
            if isinstance(item, Marker):
                self.markers.append(item)
                continue
            self._journal.record(item)
            if self._hear is not None:
                self._hear(item)
            if isinstance(item, Chunk):
                self.heard = item.arrived or self._clock.monotonic()
            ready = self._gather.push(item)
            if not ready and self._live:  # nineteen of twenty pieces
                continue
            self._items.extend(ready)
            self._bytes += sum(map(_nbytes, ready))
            self._came.set()
            while self._items and self._bytes >= (AHEAD_BYTES if self._live else 0):
                self._went.clear()
                await self._went.wait()
            if not self._live:
                await self._journal.room()

    def _take(self) -> Item:
        item = self._items.popleft()
        self._bytes -= _nbytes(item)
        self._went.set()
        return item

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # mark it as retrieved; `next` raises it
        self._came.set()


def _nbytes(item: Item) -> int:
    return item.samples.nbytes if isinstance(item, Chunk) else 0


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
