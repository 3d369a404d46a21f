"""Waits for a signal between two nights; nothing is recorded meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import replace

from streamer.clock import Clock
from streamer.frontend import FrontEnd, Graded
from streamer.live.intake import Gather
from streamer.messages import RATE_HZ, Chunk, Gap, Item, Marker, StreamInfo
from streamer.settings import SignalSettings
from streamer.sources.source import Source, keep_together

HOP_S = 10  # between two checks of the signal
LOOK_S = 30  # of signal in each check
GONE_S = 300.0  # after so long without a signal, the next one belongs to another night


class Arrival:
    """Waits for the next night's signal, over any number of connections to the device.

    Args:
        signal: the `[stream.signal]` table.
        worker: the thread for the signal processing.
        clock: time.
        begin_s: a night begins when the signal has been there for so long without interruption.
        still_worn: the band was on when the last night ended, so its signal must first end.

    """

    def __init__(
        self, signal: SignalSettings, worker: Executor, clock: Clock, begin_s: float, still_worn: bool
    ) -> None:
        self._signal = signal
        self._worker = worker
        self._clock = clock
        self._begin_s = begin_s
        self._still_worn = still_worn
        self._worn_at = clock.monotonic()  # when a signal was seen last
        self._at_once = False

    def begin(self) -> None:
        """Note that the lights went off: the next signal begins a night, however short."""
        self._at_once, self._still_worn = True, False

    async def of(self, source: Source) -> Arrived | None:
        """Read a device until a night's signal is there; None if it ends before.

        Raises:
            UsageError, SignalError: it cannot be staged.
            SourceError: what the device raises.

        """
        iterator = aiter(source)
        front, gather = FrontEnd(source.info, self._signal, HOP_S), Gather(source.info.rate_hz)
        keep_together(source, gather.missing)
        loop, kept = asyncio.get_running_loop(), deque[Item]()
        began_s: float | None = None  # of the stream: since then the signal is there
        async for item in iterator:
            if isinstance(item, Marker):  # it belongs to no night
                continue
            for piece in gather.push(item):
                kept.append(piece)
                looks = await loop.run_in_executor(self._worker, _looks, front, piece)
                for end_s, worn in looks:
                    began_s = self._since(began_s, end_s, worn)
                    if began_s is not None and (self._at_once or end_s - began_s >= self._begin_s):
                        return self._arrived(source, iterator, kept, gather, began_s)
                _forget(kept, began_s, source.info.rate_hz)
        return None

    def _since(self, began_s: float | None, end_s: float, worn: bool) -> float | None:
        """Return since when there is a signal that may begin a night, after one more check."""
        now = self._clock.monotonic()
        if not worn:
            return None
        if self._still_worn and now - self._worn_at >= GONE_S:
            self._still_worn = False
        self._worn_at = now
        if self._still_worn:
            return None
        return max(0.0, end_s - LOOK_S) if began_s is None else began_s

    def _arrived(
        self,
        source: Source,
        iterator: AsyncIterator[Item | Marker],
        kept: deque[Item],
        gather: Gather,
        began_s: float,
    ) -> Arrived:
        kept.extend(gather.flush())
        _forget(kept, began_s, source.info.rate_hz)
        while isinstance(kept[0], Gap):  # a night begins with a sample
            kept.popleft()
        first = kept[0]
        assert isinstance(first, Chunk)
        rate_hz, now = source.info.rate_hz, self._clock.monotonic()
        early = max(0, round(began_s * rate_hz) - first.start)
        first = kept[0] = replace(first, start=first.start + early, samples=first.samples[:, early:])
        taken = (first.arrived or now) - first.samples.shape[1] / rate_hz  # its first sample, steady s
        info = replace(source.info, started=self._clock.wall() - (now - taken))
        return Arrived(info, source, iterator, list(kept), first.start)


class Arrived:
    """A source whose index 0 is a night's first sample: first the samples kept, then live items."""

    def __init__(
        self,
        info: StreamInfo,
        source: Source,
        iterator: AsyncIterator[Item | Marker],
        kept: list[Item],
        first: int,
    ) -> None:
        self.info = info
        self.remarks = source.remarks
        self._source = source
        self._iterator = iterator
        self._kept = kept
        self._first = first

    def wait_for(self, missing: Callable[[], int]) -> None:
        """See `Patient`."""
        keep_together(self._source, missing)

    async def __aiter__(self) -> AsyncIterator[Item | Marker]:
        """Items in order, once."""
        for early in self._kept:
            yield self._moved(early)
        self._kept = []
        async for item in self._iterator:
            yield self._moved(item)

    def _moved(self, item: Item | Marker) -> Item | Marker:
        if isinstance(item, Marker):
            return replace(item, at=max(0, item.at - self._first))
        if isinstance(item, Gap):
            return replace(item, start=item.start - self._first, stop=item.stop - self._first)
        return replace(item, start=item.start - self._first)


def _looks(front: FrontEnd, item: Item) -> list[tuple[float, bool]]:
    """On the worker: return where each check of the signal ended, s, and whether the band was worn."""
    return [(one.window.end / RATE_HZ, one.usable) for one in front.push(item) if isinstance(one, Graded)]


def _forget(kept: deque[Item], began_s: float | None, rate_hz: float) -> None:
    """Drop samples that belong to no night."""
    least = kept[-1].stop - LOOK_S * 2 * rate_hz if began_s is None else began_s * rate_hz
    while kept and kept[0].stop <= least:
        kept.popleft()
