"""What the tests of the journal share: two clocks, a stream, and samples that tell their own index."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np

from streamer.journal import Journal, JournalReader, Meta
from streamer.messages import Channel, Chunk, StreamInfo
from streamer.payloads import EpochPayload, EventPayload, QualityPayload, utc

INFO = StreamInfo("fake", 256.0, (Channel("AF7", "uV"), Channel("AF8", "uV")), 1_700_000_000.0)
META = Meta("s1", "node", "sleeper", INFO, "abc", {"hop_s": 30}, {"sleepstream": "0.1.0"})


class HandClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class HastyClock(HandClock):
    """Time that flies: whatever waits for a clock is due at once."""

    def monotonic(self) -> float:
        self.now += 100.0
        return self.now


def chunk(start: int, n: int, arrived: float = 0.0) -> Chunk:
    """Samples that tell their own index."""
    index = np.arange(start, start + n, dtype=np.float64)
    return Chunk(start, np.stack([index, -index]), arrived)


def epoch(number: int) -> EpochPayload:
    start = utc(INFO.started + 30 * number)
    return EpochPayload(
        session="s1",
        seq=number,
        epoch=number,
        t_start=start,
        t_end=start + timedelta(seconds=30),
        stage="N2",
        smoothed="N2",
        probabilities=None,
        confidence=None,
        warmup=False,
        quality=QualityPayload(grade="good", lost_fraction=0.0),
    )


def event(number: int) -> EventPayload:
    return EventPayload(session="s1", seq=number, t=utc(INFO.started), event="mark", text=f"mark {number}")


def indices(path: Path) -> list[int]:
    with JournalReader(path) as reader:
        chunks = list(reader.samples())
    for block in chunks:
        assert block.samples[0].tolist() == [float(i) for i in range(block.start, block.stop)]
        assert (block.samples[1] == -block.samples[0]).all()
    return [i for block in chunks for i in range(block.start, block.stop)]


async def take(journal: Journal, n: int) -> list[int]:
    """Deliver n parcels, as a sink does; their ids."""
    taken: list[int] = []
    for _ in range(n):
        parcel = await journal.outbox.after(taken[-1] if taken else -1)
        taken.append(parcel.id)
    return taken
