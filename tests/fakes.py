"""Small real classes that stand in for devices, time and people."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Self

from streamer.messages import Item, StreamInfo
from streamer.news import MqttStatus, News, Opened
from streamer.payloads import EventPayload, StagePayload
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource


class FakeClock:
    """Time that passes only when told to; sleepers wake in order."""

    def __init__(self, wall: float = 1.0e9) -> None:
        self.now = 0.0
        self._wall = wall
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self._wall + self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking who is due on the way, and let everyone who can run do so."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)  # work may have taken it further
            if not woken.done():
                woken.set_result(None)
            await settle()
        self.now = max(self.now, end)
        await settle()


async def settle(turns: int = 20) -> None:
    """Let every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


def none_left(prefix: str) -> None:
    """Fail if a thread of such a name stays; it was told to end, and nobody waits for it."""
    for thread in threading.enumerate():
        if thread.name.startswith(prefix):
            thread.join(60)
            assert not thread.is_alive(), thread.name


class Inline(Executor):
    """A worker whose work is done when it is handed over: threads without their chance."""

    def submit(self, work, /, *args, **kwargs):
        done = Future()
        done.set_result(work(*args, **kwargs))
        return done


class WatchedRunner:
    """A real runner that notes how many windows it is given at a time, and takes its time over them."""

    def __init__(self, real: Any, clock: FakeClock | None = None) -> None:
        self.cost_s = 0.0  # of one window
        self.passes: list[int] = []
        self._real = real
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def step(self, given: Any, past: Any) -> Any:
        self._note(given)
        return self._real.step(given, past)

    def together(self, given: Any, pasts: Any) -> Any:
        self._note(given)
        return self._real.together(given, pasts)

    def _note(self, given: Any) -> None:
        self.passes.append(len(given.raw))
        if self._clock is not None:
            self._clock.now += self.cost_s * len(given.raw)


class FakeSource:
    """Gives what the test hands it, when the test hands it."""

    def __init__(self, info: StreamInfo) -> None:
        self.info = info
        self.remarks: deque[str] = deque()
        self.closed = False
        self._items: asyncio.Queue[Item | Exception | None] = asyncio.Queue()

    def give(self, *items: Item | Exception | None) -> None:
        """Hand over items; None ends the stream, an exception breaks it."""
        for item in items:
            self._items.put_nowait(item)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.closed = True

    async def __aiter__(self) -> AsyncIterator[Item]:
        while (item := await self._items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


class HeldNight(SimulatedSource):
    """A simulated night that begins once something has happened, with which a thread may be late."""

    def __init__(self, settings: SimulatedSettings, happened: Callable[[], object]) -> None:
        super().__init__(settings)
        self._happened = happened

    async def __aiter__(self) -> AsyncIterator[Item]:
        while not self._happened():  # noqa: ASYNC110 - in a thread
            await asyncio.sleep(0.001)
        async for item in super().__aiter__():
            yield item


def held(happened: Callable[[], object]) -> Callable[..., HeldNight]:
    """What opens such a night, for an engine."""
    return lambda asked, *_: HeldNight(asked, happened)


class Witness:
    """Remembers everything that an engine says, and wakes who waits for it."""

    name = "the witness"
    wants: tuple[type, ...] = (Opened, StagePayload, EventPayload, MqttStatus)
    prompt = True

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.stages: list[StagePayload] = []
        self.events: list[EventPayload] = []
        self.sessions: list[Path] = []
        self.brokers: list[MqttStatus] = []

    def hear(self, stream: str, news: News) -> None:
        if isinstance(news, Opened):
            self.sessions.append(news.session)
        elif isinstance(news, MqttStatus):
            self.brokers.append(news)
        elif isinstance(news, StagePayload):
            self.staged(stream, news)
        elif isinstance(news, EventPayload):
            self.events.append(news)
        self._news.set()

    def staged(self, stream: str, payload: StagePayload) -> None:
        self.stages.append(payload)

    async def until(self, condition: Callable[[], object], seconds: float = 90) -> None:
        """Wait until something that was said makes `condition` true."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def event_names(self) -> list[str]:
        return [event.event for event in self.events]
