"""A scripted LSL outlet that says which sample is which: `python -m tests.outlet '{"name": "a", ...}'`.

The last channel counts the samples that the device took, sent or not, so that a test can hold indices against
the truth. It waits for a listener, prints "sent" when all has been sent, and stays until stdin is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pylsl

from streamer.clock import SystemClock
from streamer.sources import devicetime
from streamer.sources.lsl import LslSource
from streamer.sources.settings import LslSettings

ROOT = Path(__file__).parent.parent
TICK_S = 0.05  # of the wall clock between two sendings


@dataclass(frozen=True, slots=True)
class Script:
    """What the outlet does, and how it lies about it."""

    name: str
    rate_hz: float = 256.0  # the true one
    said_hz: float | None = None  # the nominal one
    labels: tuple[str, ...] = ("AF7", "TP9", "count")
    kind: str = "EEG"
    source_id: str = "outlet"
    first: int = 0  # number of the first sample
    seconds: float = 60.0
    speed: float = 100.0  # of the device, times real time
    begun: float | None = None  # LSL time of sample 0; None: now
    chunk: int = 32  # samples sent together
    dropped: float = 0.0  # share of chunks that are never sent
    jitter_s: float = 0.0  # s.d. of a time
    drift: float = 0.0  # the device's seconds are so much longer
    burst: int = 1  # samples that have the time of the last of them
    pause_s: tuple[float, float] | None = None  # of the device's time; nothing is sent
    mute: bool = False  # until a line comes from stdin, listened to

    @property
    def stop(self) -> int:
        """Number one past the last sample."""
        return self.first + int(self.seconds * self.rate_hz)


def sent(script: Script) -> np.ndarray:
    """The numbers of the samples that leave, in whole chunks."""
    numbers = np.arange(script.first, script.stop)
    chunks = numbers // script.chunk
    kept = np.random.default_rng(1).random(chunks[-1] + 1) >= script.dropped
    kept[chunks[0]] = True
    if script.pause_s is not None:
        seconds = np.arange(chunks[-1] + 1) * script.chunk / script.rate_hz
        kept &= (seconds < script.pause_s[0]) | (seconds >= script.pause_s[1])
    return numbers[kept[chunks]]


def times(script: Script, numbers: np.ndarray) -> np.ndarray:
    """Seconds since sample 0 as the device tells them."""
    shown = numbers // script.burst * script.burst + script.burst - 1
    jitter = np.random.default_rng(2).normal(0, script.jitter_s, script.stop)[numbers]
    return shown / script.rate_hz * (1 + script.drift) + jitter


def open_outlet(script: Script) -> pylsl.StreamOutlet:
    """An outlet with labels and units."""
    info = pylsl.StreamInfo(
        script.name,
        script.kind,
        len(script.labels),
        script.rate_hz if script.said_hz is None else script.said_hz,
        pylsl.cf_double64,
        script.source_id,
    )
    channels = info.desc().append_child("channels")
    for label in script.labels:
        entry = channels.append_child("channel")
        entry.append_child_value("label", label)
        entry.append_child_value("unit", "microvolts")
    return pylsl.StreamOutlet(info)


def play(script: Script) -> None:
    """Send everything on an absolute schedule."""
    outlet = open_outlet(script)
    while not outlet.wait_for_consumers(0.2):
        pass
    if script.mute:
        sys.stdin.readline()
    numbers = sent(script)
    begun = pylsl.local_clock()
    stamps = (begun if script.begun is None else script.begun) + times(script, numbers)
    rows = np.stack([20 * np.sin(numbers / 9.0)] * (len(script.labels) - 1) + [numbers], axis=1)
    due = begun + (numbers - script.first) / script.rate_hz / script.speed
    at = 0
    while at < len(numbers):
        ready = int(np.searchsorted(due, pylsl.local_clock()))
        for begin in range(at, ready, script.chunk):
            part = slice(begin, min(begin + script.chunk, ready))
            outlet.push_chunk(np.ascontiguousarray(rows[part]), list(stamps[part]))
        at = max(at, ready)
        time.sleep(TICK_S)
    print("sent", flush=True)
    sys.stdin.read()


class Hurried(SystemClock):
    """The host's clock as it would go for a device that is played faster than in real time, once told so."""

    def __init__(self) -> None:
        self._since = super().monotonic(), 0.0
        self._speed = 1.0

    def monotonic(self) -> float:
        real, shown = self._since
        return shown + (super().monotonic() - real) * self._speed

    def hurry(self, speed: float) -> None:
        """From now on."""
        self._since = super().monotonic(), self.monotonic()
        self._speed = speed

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._speed)


PATIENCE = {name: getattr(devicetime, name) for name in ("SLACK_S", "WATCH_S", "PAUSE_S")}
_hurried: list[float] = []  # the speed of each source that is open; all have the same


@contextmanager
def hurried(speed: float) -> Iterator[None]:
    """What a device's clock is allowed, as many times longer as the device is faster."""
    _hurried.append(speed)
    assert len(set(_hurried)) == 1
    try:
        for name, seconds in PATIENCE.items():
            setattr(devicetime, name, seconds * speed)
        yield
    finally:
        _hurried.pop()
        for name, seconds in PATIENCE.items() if not _hurried else ():
            setattr(devicetime, name, seconds)


@asynccontextmanager
async def source(speed: float = 1.0, **settings: Any) -> AsyncIterator[LslSource]:
    """A source that is open; from now on the host's clock, and its patience, go as fast as the device."""
    clock = Hurried()
    wanted = {"resolve_s": 20.0, **settings}
    wanted["silence_s"] = min(600.0, wanted.get("silence_s", 10.0) * speed)
    with hurried(speed):
        async with LslSource(LslSettings(**wanted), clock) as opened:
            clock.hurry(speed)
            yield opened


@contextmanager
def playing(script: Script) -> Iterator[subprocess.Popen[str]]:
    """Such an outlet in a process of its own, killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.outlet", json.dumps(asdict(script))],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


if __name__ == "__main__":
    play(Script(**json.loads(sys.argv[1])))
