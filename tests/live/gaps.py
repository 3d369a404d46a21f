"""A band that was off for a minute, an hour, 20 hours: what that costs, and how long it holds the others up.

`python -m tests.live.gaps SECONDS` measures one of them: the whole engine with two sleepers at a hop of 1 s.
One has samples again after the loss, which is a single item; the other's come in real time all the while.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import numpy as np

from streamer.channels import Wanted as Label
from streamer.clock import Clock, SystemClock
from streamer.commands.driving import spare_garbage
from streamer.live.engine import Engine
from streamer.messages import EPOCH_S, Chunk, Gap, Item, StreamInfo
from streamer.news import News
from streamer.payloads import EventPayload, StagePayload
from streamer.settings import validate
from streamer.sources.settings import LslSettings, SourceSettings
from streamer.sources.source import Source
from tools.bench.figures import Figures, resident_mb
from tools.bench.signals import RATE_HZ, seconds_of_eeg
from tools.bench.streams import CHANNELS, NOISE_S, Headband

BEFORE_S = 40  # of samples, in front of the loss and behind it
TICK_S = 0.005
LEAST = 3  # stages of the other, one a second


class Interrupted:
    """EEG, and after `go` a loss of `lost_s` and EEG again; then it ends."""

    info: StreamInfo

    def __init__(self, lost_s: int, go: asyncio.Event, clock: Clock) -> None:
        self.remarks: deque[str] = deque()
        self._lost_s = lost_s
        self._go = go
        self._clock = clock

    async def __aenter__(self) -> Self:
        """It is as if it had been recording since before the loss."""
        started = self._clock.wall() - self._lost_s - 2 * BEFORE_S
        self.info = StreamInfo("interrupted", RATE_HZ, CHANNELS, started)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing is held open."""

    async def __aiter__(self) -> AsyncIterator[Item]:
        """All of it, as fast as it is taken."""
        for chunk in seconds_of_eeg(BEFORE_S):
            yield self._moved(chunk, 0)
        await self._go.wait()
        stop = (BEFORE_S + self._lost_s) * RATE_HZ
        yield Gap(BEFORE_S * RATE_HZ, stop, "off", self._clock.monotonic())
        for chunk in seconds_of_eeg(BEFORE_S):
            yield self._moved(chunk, stop)

    def _moved(self, chunk: Chunk, by: int) -> Chunk:
        samples = np.repeat(chunk.samples, len(CHANNELS), axis=0)
        return Chunk(chunk.start + by, samples, self._clock.monotonic())


class _Listener:
    """Knows when the one has begun, when the other has come to its end, and how late stages came."""

    def __init__(self) -> None:
        self.name, self.wants, self.prompt = "the bench", (StagePayload, EventPayload), True
        self.present, self.ended, self.armed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.late_ms: list[float] = []
        self.stages = 0  # of the one with the loss

    def hear(self, stream: str, news: News) -> None:
        """Note how late the other's stages are, and the end."""
        if isinstance(news, EventPayload):
            if stream == "off" and news.event == "session_ended":
                self.ended.set()
        elif isinstance(news, StagePayload):
            if stream == "off":
                self.stages += 1
                if self.stages >= BEFORE_S - EPOCH_S:  # all of those before the loss
                    self.armed.set()
            elif news.latency_ms is not None:
                self.present.set()
                self.late_ms.append(news.latency_ms)


async def interrupted(lost_s: int, folder: Path) -> Figures:
    """Have one sleeper come back while the other goes on."""
    listener, go = _Listener(), asyncio.Event()
    noise = np.random.default_rng(0).standard_normal((len(CHANNELS), RATE_HZ * NOISE_S)) * 20

    def source(settings: SourceSettings, channel: Label, clock: Clock) -> Source:
        assert isinstance(settings, LslSettings)
        return (
            Interrupted(lost_s, go, clock)
            if settings.name == "off"
            else Headband(noise, BEFORE_S, 0.0, clock)
        )

    streams = [{"name": name, "hop_s": 1, "source": {"kind": "lsl", "name": name}} for name in ("off", "on")]
    settings = validate(
        {"node": f"bench-{os.getpid()}", "session_dir": str(folder), "stream": streams}, "bench"
    )
    engine = Engine(settings, SystemClock(), listener, sources=source, begun=spare_garbage)
    running = asyncio.create_task(engine.run())
    await listener.present.wait()
    await listener.armed.wait()
    await asyncio.sleep(2.0)
    listener.late_ms.clear()
    before_mb, stages, began = resident_mb(), listener.stages, time.perf_counter()
    go.set()
    took_s, held_s, most_mb = 0.0, 0.0, before_mb
    while not listener.ended.is_set() or len(listener.late_ms) < LEAST:
        asked = time.perf_counter()
        await asyncio.sleep(TICK_S)
        held_s = max(held_s, time.perf_counter() - asked - TICK_S)
        took_s = took_s or (time.perf_counter() - began if listener.ended.is_set() else 0.0)
        most_mb = max(most_mb, resident_mb())
    engine.stop()
    await running
    return {
        "windows": listener.stages - stages,
        "took_s": took_s,
        "growth_mb": most_mb - before_mb,
        "loop_held_max_ms": held_s * 1000,
        "other_late_max_ms": max(listener.late_ms, default=0.0),
    }


def main() -> None:
    """One length, in a process of its own: a line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("lost_s", type=int)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(interrupted(asked.lost_s, Path(folder)))))


if __name__ == "__main__":
    main()
