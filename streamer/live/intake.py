"""Records what a source sends at once, and keeps it until the pipeline has time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from streamer.clock import Clock
from streamer.journal import Journal
from streamer.live.gather import Gather
from streamer.messages import Chunk, Item, Marker
from streamer.sources.source import SampleStream, keep_together

MARKERS = 1000  # that wait to be said; the oldest give way
AHEAD_BYTES = 16 << 20  # of samples: half an hour of 4 channels at 256 Hz


class Intake:
    """`async with Intake(...) as intake` records from now on; `intake.next()` gives what was recorded.

    What reaches the host does not wait for the pipeline, which may be reading a whole night back first: it is
    recorded when it comes, and small pieces are kept together, since nothing would come of each alone. A
    device is read ahead of the pipeline up to `AHEAD_BYTES`, and then left to its own buffer; a recording is
    not read ahead at all, and waits for the disk, too.

    Args:
        given: open; iterated once.
        journal: takes every item.
        live: a device, which cannot wait.
        clock: tells when samples came.
        hear: told each item as it comes, before the pipeline has it; must not wait. Without it a device
            may keep samples together until a second is complete.

    Attributes:
        heard: when the last ones did, monotonic seconds.
        markers: that came among them; whoever says them takes them out.

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
        """The next item, of a second or so, or None when the source has ended, or after `wake`.

        Raises:
            SourceError, RecordingError: what the source raised, after all that it gave before.
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
        """Have nobody wait for a next item, now or later."""
        self._woken = True
        self._came.set()

    async def end(self) -> list[Item]:
        """Stop recording; return what the pipeline has not taken yet."""
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
            if not ready and self._live:  # as nineteen of twenty pieces
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
            task.exception()  # is heard by whoever asks for the next item, if anybody does
        self._came.set()


def _nbytes(item: Item) -> int:
    return item.samples.nbytes if isinstance(item, Chunk) else 0
