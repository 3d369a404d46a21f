"""A house to test in: a band that is worn when the test says so, a clock that runs in steps, an engine."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.journal import JournalReader
from streamer.live.engine import Engine
from streamer.messages import Channel, Chunk, StreamInfo
from streamer.news import NightPayload, SummaryPayload
from streamer.payloads import AlarmPayload
from streamer.settings import validate
from tests.fakes import FakeClock, FakeSource, Witness, settle
from tests.paths import eeg

RATE = 100
EVENING = 1_767_222_000.0  # 2025-12-31 23:00 UTC
PIECE_S = 300  # of samples that come together
EEG = eeg(PIECE_S, RATE).astype(np.float32)  # as they are recorded
PATIENCE_S = 100  # with threads and subprocesses of a busy machine


class SteppedClock(FakeClock):
    """Time that goes in steps: whoever is due in one is woken once, however often it would have looked."""

    async def go(self, seconds: float, step: float = 30.0) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            due = []
            while self._sleepers and self._sleepers[0][0] <= self.now:
                due.append(heapq.heappop(self._sleepers)[2])
            for woken in due:
                if not woken.done():
                    woken.set_result(None)
            await settle(6)


class Listener(Witness):
    """Hears what a house hears."""

    wants = (*Witness.wants, SummaryPayload, NightPayload, AlarmPayload)

    def __init__(self) -> None:
        super().__init__()
        self.summaries: list[SummaryPayload] = []
        self.nights: list[NightPayload] = []
        self.alarms: list[AlarmPayload] = []
        self.scored = 0  # stages that are not `no_signal`, which comes by the clock

    def staged(self, stream, payload) -> None:
        super().staged(stream, payload)
        self.scored += payload.stage != "no_signal"

    def hear(self, stream, news) -> None:
        kinds = {SummaryPayload: self.summaries, NightPayload: self.nights, AlarmPayload: self.alarms}
        kinds.get(type(news), []).append(news)
        super().hear(stream, news)

    def texts(self, name: str) -> list[str]:
        return [event.text for event in self.events if event.event == name]

    def count(self, name: str) -> int:
        return self.event_names().count(name)


class House:
    """One sleeper's house; `run` is one life of the engine's process."""

    def __init__(self, folder: Path, night=None, wall: float = EVENING, launch=None, **more) -> None:
        self.clock = SteppedClock(wall)
        self.folder = folder
        self.heard = Listener()
        self.launched: list[Sequence[Path]] = []
        self.band: FakeSource | None = None
        self.at = 0  # of the band's clock, in samples
        self.near = asyncio.Event()  # the band can be reached
        self.near.set()
        self.given: list[NDArray[np.float32]] = []  # samples of a head, piece by piece, since the beginning
        self.lost: list[int] = []  # samples between the last that a band gave and the opening of the next
        self._launch = launch or self.launch
        stream = {"name": "anna", "source": {"kind": "lsl"}, **more.pop("stream", {})}
        self.settings = validate(
            {
                "node": "house",
                "session_dir": str(folder),
                "stream": [stream],
                "night": {"zone": "UTC", **(night or {})},
                **more,
            },
            "test",
        )

    def source(self, *_):
        """What opens the band: it is there at once, and gives what the test hands it."""
        return Band(self)

    async def launch(self, paths: Sequence[Path]) -> str:
        """Writes no report, but leaves what one leaves."""
        self.launched.append(paths)
        with JournalReader(paths[0]) as reader:
            session = reader.meta.session
        stem = paths[0].stem
        for name, text in ((f"{stem}.html", "<p>night"), (f"{stem}.json", json.dumps({"session": session}))):
            (self.folder / name).write_text(text, encoding="utf-8")
        return json.dumps({"html": f"{stem}.html", "png": f"{stem}.png", "trend": None})

    @asynccontextmanager
    async def run(self, kill: bool = False) -> AsyncIterator[Engine]:
        """The engine, until the block ends; `kill`: without a word, as by a power cut."""
        engine = Engine(self.settings, self.clock, self.heard, None, 1800.0, self.source, self._launch)
        running = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            if kill:
                running.cancel()
            else:
                engine.stop()
            ticking = asyncio.create_task(self._tick())
            await asyncio.wait([running], timeout=60)
            ticking.cancel()
            assert running.done()
            if not running.cancelled():
                running.result()

    async def _tick(self) -> None:
        while True:
            self.clock.now += 0.1
            await self.clock.go(0.1, 0.1)
            await asyncio.sleep(0.01)

    async def wear(self, hours: float, worn: bool = True, piece_s: int = PIECE_S) -> None:
        """Let time pass with a band that sends, from a head or from a table.

        No piece is given before the one before it is scored: the engine has come as far as the clock.
        """
        for _ in range(round(hours * 3600 / piece_s)):
            scored = self.heard.scored
            samples = np.roll(EEG, 997 * len(self.given), axis=1)[:, : piece_s * RATE] * worn
            await self.until(lambda: self.band is not None and self.band.open)  # before time goes on
            await self.clock.go(piece_s)
            assert self.band.open
            self.band.give(Chunk(self.at, samples, self.clock.now))
            self.at += samples.shape[1]
            self.band.gave = self.clock.now
            if worn:
                self.given.append(samples)
            await self.band.taken()
            if self.heard.sessions and self.recording:
                await self._scored(scored + piece_s // 30)

    async def _scored(self, count: int) -> None:
        """Wait for so many stages, or for the end of the night, which may come in between."""
        await self.until(lambda: self.heard.scored >= count or not self.recording)

    @property
    def recording(self) -> bool:
        return self.heard.count("session_started") > self.heard.count("session_ended")

    async def silence(self, hours: float) -> None:
        """Let time pass without a sample."""
        await self.clock.go(hours * 3600, 60)

    async def until(self, condition, patience_s: float = PATIENCE_S) -> None:
        """Wait for what threads and subprocesses do; the clock stands still."""
        async with asyncio.timeout(patience_s):
            while not condition():  # noqa: ASYNC110 - a subprocess, a thread and a client set no event
                await asyncio.sleep(0.005)

    async def said(self, name: str, count: int = 1) -> None:
        """Wait until so many events of a name were told, and let the clock of waits and watches go on."""
        await self.passing(lambda: self.heard.count(name) >= count)

    async def passing(self, condition) -> None:
        """Wait for something that itself waits for the clock: seconds go by meanwhile."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.clock.go(1, 1)
                await asyncio.sleep(0.005)


class Band(FakeSource):
    """A band that is open from entering to leaving."""

    def __init__(self, house: House) -> None:
        super().__init__(StreamInfo("band", RATE, (Channel("EEG Fpz-Cz", "uV"),), house.clock.wall()))
        self.open = False
        self.gave: float | None = None  # when it gave last, by the steady clock
        self._house = house

    async def __aenter__(self):
        await self._house.near.wait()
        self.info = replace(self.info, started=self._house.clock.wall())
        before, self._house.band, self._house.at = self._house.band, self, 0
        if before is not None and before.gave is not None:
            self._house.lost.append(round((self._house.clock.now - before.gave) * RATE))
        self.open = True
        return self

    async def __aexit__(self, *exception) -> None:
        self.open = False
        await super().__aexit__(*exception)

    async def taken(self) -> None:
        """Wait until everything was taken, or the band was let go."""
        while self.open and not self._items.empty():
            await settle(1)
        await settle()
