"""The live loop of one sleeper: recorded items through the pipeline, and the watch for silence."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from streamer.clock import Allowance, Clock, suspended_s
from streamer.errors import SignalError
from streamer.journal import Journal
from streamer.live.batching import Lane
from streamer.live.intake import Intake
from streamer.live.ratewatch import ClockWatch, RateWatch
from streamer.messages import RATE_HZ, Chunk, Gap, Item, Score, Switch
from streamer.pipeline import Output, Pipeline
from streamer.sinks.publisher import Publisher

CLOCK_PAIR_S = 60.0
LONG = 3  # pieces of output of one item; so many come only from a long loss
AT_ONCE = 6  # so many events in a row are not held back
EVERY_S = 10.0  # of the stream, until one more may be published


class Stream:
    """The loop: next item, pipeline, publisher.

    The pipeline runs on the model's one thread, so that a score does not block the event loop; meanwhile
    `intake` records and keeps what arrives. `stop` takes effect only between two items: all that has arrived
    by then is scored and published.

    Args:
        intake: gives every item once it is recorded.
        pipeline: of this stream.
        journal: records readings of the clocks.
        publisher: publishes the output.
        lane: to the thread on which the pipeline runs.
        clock: time.
        silence_s: without samples for so long, the stage becomes `no_signal`.
        remarks: the source's remarks; see `Source`.
        mute: called with True when nothing has come for `silence_s`, and with False when samples come again.

    """

    def __init__(
        self,
        intake: Intake,
        pipeline: Pipeline,
        journal: Journal,
        publisher: Publisher,
        lane: Lane,
        clock: Clock,
        silence_s: float,
        remarks: deque[str] | None = None,
        mute: Callable[[bool], None] | None = None,
    ) -> None:
        self._intake = intake
        self._pipeline = pipeline
        self._journal = journal
        self._publisher = publisher
        self._lane = lane
        self._clock = clock
        self._silence_s = silence_s
        self._remarks: deque[str] = deque() if remarks is None else remarks
        self._mute = mute or (lambda _: None)
        self._live = lane.live  # a device's wrong unit does not end the night
        self._silent = True  # until the first sample
        self._losses = Losses(publisher)
        self._rate = RateWatch(intake.info.rate_hz)
        self._busy_since: float | None = None

    @property
    def stuck_s(self) -> float:
        """How long it has been busy with one item, s; 0 while it waits for the next."""
        return 0.0 if self._busy_since is None else self._clock.monotonic() - self._busy_since

    async def run(self, stop: asyncio.Event) -> None:
        """Drive the stream until its source ends or `stop` is set.

        Raises:
            SignalError: a recording's samples cannot be EEG in their declared unit.
            SourceError, RecordingError: raised by the source.

        """
        watchers = [
            asyncio.create_task(self._watch(), name="watchdog"),
            asyncio.create_task(self._listen(stop), name="stop"),
        ]
        if self._live:
            watchers.append(asyncio.create_task(self._watch_clocks(), name="clocks"))
        try:
            self._remark()
            if await self._pump(stop):
                await self._advance(None, stop)
        finally:
            self._losses.flush()
            self._remark()
            for watcher in watchers:
                watcher.cancel()
            await asyncio.wait(watchers)

    async def _pump(self, stop: asyncio.Event) -> bool:
        """Take items until there are no more (True) or `stop` is set (False)."""
        while not stop.is_set():
            item = await self._intake.next()
            if item is None:
                if stop.is_set():
                    break
                return True
            if not await self._take(item, stop):
                return False
        for left in await self._intake.end():
            if not await self._take(left, stop):
                break
        return False

    async def _listen(self, stop: asyncio.Event) -> None:
        """Wake the loop once `stop` is set; one task for all items."""
        await stop.wait()
        self._intake.wake()

    async def _take(self, item: Item, stop: asyncio.Event) -> bool:
        """Work on an item; False if `stop` came in the middle of a long one."""
        self._busy_since = self._clock.monotonic()
        if isinstance(item, Chunk):
            self._hear()
            self._check_rate(item)
        self._publisher.sampled(item)
        whole = await self._advance(item, stop)
        self._busy_since = None
        self._remark()
        return whole

    def _remark(self) -> None:
        """Publish the source's remarks."""
        while self._remarks:
            self._publisher.event("warning", self._remarks.popleft())
        while self._intake.markers:
            marker = self._intake.markers.popleft()
            data = {"kind": marker.kind, "description": marker.text, "channel": marker.channel or None}
            self._publisher.event("marker", marker.told, dict(data), marker.at / self._intake.info.rate_hz)

    async def _advance(self, item: Item | None, stop: asyncio.Event) -> bool:
        """Score an item, or what is left at the end (None), on the model's thread, and publish the output.

        An item is published piece by piece, however long it is, so that other streams get their turn. Once
        `stop` is set, only the epochs of a long loss are still published. Of a recording, which can be played
        again, not even those; then this returns False.
        """
        pieces = 0
        async for outputs in self._lane.outputs(self._pipeline, item, stop):
            for output in outputs:
                self._publish(output)
            self._busy_since = self._clock.monotonic()
            pieces += 1
            if pieces >= LONG and stop.is_set() and not self._live:
                return False
        return True

    def _publish(self, output: Output) -> None:
        if isinstance(output, Score):
            self._publisher.score(output)
            self._losses.passed(output.end / RATE_HZ)
        elif isinstance(output, Gap):
            self._losses.push(output)
        elif isinstance(output, Switch):
            self._publisher.switch(output)
        elif self._live:
            self._publisher.event("warning", output.text)
        else:
            raise SignalError(output.text)

    def _hear(self) -> None:
        if self._silent:
            self._silent = False
            self._mute(False)
            self._publisher.online(True)
            self._publisher.event("reconnected", "samples arrive")

    def _check_rate(self, chunk: Chunk) -> None:
        """Warn if a device's rate is not what it declares."""
        warning = self._rate.push(chunk.stop, chunk.arrived) if self._live else None
        if warning is not None:
            self._publisher.event("warning", warning)

    async def _watch_clocks(self) -> None:
        """Record both clocks now and then, and report when one was set or the computer slept."""
        clock = self._clock
        watch = ClockWatch(clock.wall(), clock.monotonic(), suspended_s())
        while True:
            self._journal.clock_pair()
            for warning in watch.look(clock.wall(), clock.monotonic(), suspended_s()):
                self._publisher.event("warning", warning)
            await clock.sleep(CLOCK_PAIR_S)

    async def _watch(self) -> None:
        """Report when no samples arrive: an old stage must not look like a live one."""
        while True:
            quiet = self._clock.monotonic() - self._intake.heard
            if quiet < self._silence_s:
                await self._clock.sleep(self._silence_s - quiet)
                continue
            self._mute(True)
            if not self._silent:
                self._silent = True
                self._publisher.online(False)
                self._publisher.no_signal()
                self._publisher.event("no_signal", f"no samples for {quiet:.0f} s")
            await self._clock.sleep(self._silence_s)


class Losses:
    """Limits the events about losses. The session file lists every loss in any case.

    Time is the stream's, so that a recording gives the same events at any speed.

    Args:
        publisher: publishes them.

    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._rate_hz = publisher.info.rate_hz
        self._allowance = Allowance(AT_ONCE, 1 / EVERY_S)
        self._held: Gap | None = None  # from the first to the last loss that was not reported yet
        self._lost = self._count = 0  # samples lost in it, and losses

    def push(self, gap: Gap) -> None:
        """Report a loss, now or together with later ones."""
        self._held = gap if self._held is None else replace(self._held, stop=gap.stop)
        self._lost += gap.stop - gap.start
        self._count += 1
        self.passed(gap.stop / self._rate_hz)

    def passed(self, at_s: float) -> None:
        """Report losses that were held back, if it is time at this second of the stream."""
        if self._held is not None and self._allowance.take(at_s):
            self.flush()

    def flush(self) -> None:
        """Report the losses that were held back."""
        held, self._held = self._held, None
        if held is not None:
            self._publisher.gap(held, self._lost, self._count)
        self._lost = self._count = 0
