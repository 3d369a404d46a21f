"""How many sleepers a core carries with p99 latency held, and what each of them costs in time and memory.

Every point is a process of its own on a core of its own: the whole engine with N devices of four channels at
256 Hz, whose samples come in real time and as often as LSL's do, each at a moment of its own. It records to
disk and publishes to mosquitto. The devices give noise like EEG; what they cost by themselves is measured
first, in the same process, and is not the engine's. All else is what runs at night. Two cores are two such
processes at the same time, because Python runs on one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamer.channels import Wanted as Label
from streamer.clock import Clock, SystemClock
from streamer.commands.driving import spare_garbage
from streamer.live.engine import Engine
from streamer.messages import EPOCH_S, Channel, Chunk, StreamInfo
from streamer.news import News
from streamer.payloads import EventPayload, StagePayload
from streamer.settings import Settings, validate
from streamer.sources.settings import SourceSettings
from streamer.sources.source import TOGETHER_S, Source
from tools.bench.figures import Asked, Figures, Wanted, resident_mb
from tools.bench.signals import NOISE_S, RATE_HZ, noise_like_eeg
from tools.mosquitto import mosquitto

HOPS_S = (1, 5, 30)
SHARES = (0.5, 0.7, 0.85)  # of a core, each by the time that fewer streams take: more take more each
FULL = 0.7  # the share at which latency has to hold
LIMIT_MS = 100.0  # p99 of what arrives to what is published
FIRST = 100  # streams from which the rest is estimated
MEMORY = (1, 16)  # streams between which a slope is drawn
TURN_S = 0.005  # between two moments at which devices wake
BEFORE_S = 29  # recorded before we looked: the first window comes a second later
LONG_BEFORE_S = 1800  # likewise for memory, which grows until SQLite's cache is full
PIECE_S, PAUSE_S = 30, 0.5  # how that is handed over: slowly enough for nothing to pile up
APART_S = 0.1  # between two devices at the start, on average
PRESENT_MS, PATIENCE_S = 5000.0, 180.0
SETTLE_S = 5.0
MEASURE_S = 20.0
PORT = 18841
CHANNELS = tuple(Channel(label, "uV") for label in ("TP9", "AF7", "AF8", "TP10"))
CORES = sorted(os.sched_getaffinity(0))[-2:]
NAMES = {1: "one_core", 2: "two_cores"}
WANTED: Wanted = {"stream_mb": ("<=", 5.0)} | {
    f"hop{hop_s}_{NAMES[count]}_load70_p99_ms": ("<=", LIMIT_MS)
    for hop_s in HOPS_S
    for count in range(1, len(CORES) + 1)
}


@dataclass(frozen=True, slots=True)
class Point:
    """What one process did."""

    streams: int
    load: float  # of one core, 0..1, all of it
    devices: float  # of that, what the bench's own devices take where nobody but a loop hears them
    stages: int
    p50_ms: float
    p99_ms: float
    thinned: bool  # the engine found that it could not keep up
    rss_mb: float

    @property
    def held(self) -> bool:
        """Whether everything came, and in time."""
        return self.p99_ms <= LIMIT_MS and not self.thinned


def measure(asked: Asked) -> Figures:
    """Find both: memory, then for each hop what one core carries, and two; takes some forty minutes."""
    with mosquitto(PORT):
        found = _memory()
        for hop_s in HOPS_S:
            for count in range(1, len(CORES) + 1):
                found |= capacity(hop_s, CORES[:count], _run)
    return found


def _memory() -> Figures:
    """What the engine takes, and each stream of it: the slope between two counts."""
    points = [_run(count, EPOCH_S, CORES[:1], LONG_BEFORE_S)[0] for count in MEMORY]
    slope, fixed = np.polyfit(MEMORY, [point.rss_mb for point in points], 1)
    return {"fixed_mb": float(fixed), "stream_mb": float(slope)}


def capacity(hop_s: int, cores: Sequence[int], run: Callable[..., list[Point]]) -> Figures:
    """More and more streams, by the load that fewer make, until latency is lost."""
    name = f"hop{hop_s}_{NAMES[len(cores)]}"
    point = _worst(run(FIRST, hop_s, cores))
    found: Figures = {f"{name}_ms_per_stream_s": 1000 * (point.load - point.devices) / FIRST}
    most = 0
    for share in SHARES:
        count = max(1, round(share * point.streams / point.load))
        point = _worst(run(count, hop_s, cores))
        if share == FULL:
            found[f"{name}_load70_streams"] = count * len(cores)
            found[f"{name}_load70_load"] = point.load
            found[f"{name}_load70_p50_ms"] = point.p50_ms
            found[f"{name}_load70_p99_ms"] = point.p99_ms
        if point.held:
            most = count * len(cores)
        elif share >= FULL:
            break
    return found | {f"{name}_streams_held": most}


def _worst(points: Sequence[Point]) -> Point:
    """Several processes as one: the mean load, the worst latency."""
    return Point(
        streams=points[0].streams,
        load=statistics.fmean(point.load for point in points),
        devices=statistics.fmean(point.devices for point in points),
        stages=sum(point.stages for point in points),
        p50_ms=max(point.p50_ms for point in points),
        p99_ms=max(point.p99_ms for point in points),
        thinned=any(point.thinned for point in points),
        rss_mb=max(point.rss_mb for point in points),
    )


def point(count: int, hop_s: int, device: str) -> Figures:
    """Measure so many streams on one core, their network on a device."""
    with mosquitto(PORT):
        command = [*_command(count, hop_s, BEFORE_S, CORES[-1]), "--device", device]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _command(count: int, hop_s: int, before_s: float, core: int) -> list[str]:
    return [sys.executable, "-m", "tools.bench.streams", *map(str, (count, hop_s, before_s, core))]


def _run(count: int, hop_s: int, cores: Sequence[int], before_s: float = BEFORE_S) -> list[Point]:
    """One process of `count` streams on each of these cores, at the same time."""
    processes = [
        subprocess.Popen(_command(count, hop_s, before_s, core), stdout=subprocess.PIPE, text=True)
        for core in cores
    ]
    said = [process.communicate()[0] for process in processes]
    points = [Point(**json.loads(one.splitlines()[-1])) for one in said]
    for core, point in zip(cores, points, strict=True):  # at once: the whole search takes long
        print(
            f"hop {hop_s} s, core {core}: {count} streams, {point.load:.0%}, of it the devices "
            f"{point.devices:.1%}, p50 {point.p50_ms:.1f} ms, "
            f"p99 {point.p99_ms:.1f} ms{', thinned' if point.thinned else ''}",
            file=sys.stderr,
        )
    return points


class Wheel(SystemClock):
    """Wakes all who sleep a little late and together: one timer for a thousand devices."""

    def __init__(self) -> None:
        self._due: dict[int, list[asyncio.Future[None]]] = {}  # by the turn in which they wake

    async def sleep(self, seconds: float) -> None:
        """Wait, up to `TURN_S` longer than asked."""
        loop = asyncio.get_running_loop()
        turn = math.ceil((loop.time() + seconds) / TURN_S)
        if turn not in self._due:
            self._due[turn] = []
            loop.call_at(turn * TURN_S, self._wake, turn)
        woken: asyncio.Future[None] = loop.create_future()
        self._due[turn].append(woken)
        await woken

    def _wake(self, turn: int) -> None:
        for woken in self._due.pop(turn):
            if not woken.done():
                woken.set_result(None)


class Headband:
    """Noise like EEG, in real time.

    `arrived` is when a sample was due, however late it is taken: a device does not wait.
    """

    info: StreamInfo

    def __init__(self, noise: NDArray[np.float64], before_s: float, wait_s: float, clock: Clock) -> None:
        self.remarks: deque[str] = deque()
        self._noise = noise
        self._before_s = before_s
        self._wait_s = wait_s
        self._clock = clock
        self._missing: Callable[[], int] = lambda: 0

    def wait_for(self, missing: Callable[[], int]) -> None:
        """See `Patient`."""
        self._missing = missing

    async def __aenter__(self) -> Self:
        """Begin at a moment of its own."""
        await self._clock.sleep(self._wait_s)
        self.info = StreamInfo("bench", RATE_HZ, CHANNELS, self._clock.wall() - self._before_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """What was recorded since the last look, as streamer/sources/lsl.py does it."""
        began, start = self._clock.monotonic() - self._before_s, 0
        while True:
            stop = min(int((self._clock.monotonic() - began) * RATE_HZ), start + PIECE_S * RATE_HZ)
            at = start % (RATE_HZ * NOISE_S // 2)
            yield Chunk(start, self._noise[:, at : at + stop - start], began + stop / RATE_HZ)
            some = math.ceil(TOGETHER_S * RATE_HZ)
            wanted = stop + min(self._missing() or some, some)
            wait_s = began + wanted / RATE_HZ - self._clock.monotonic()
            await self._clock.sleep(PAUSE_S if stop - start == PIECE_S * RATE_HZ else max(0.0, wait_s))
            start = stop


class _Listener:
    """Collects what the engine says of its own latency, while it is told to."""

    def __init__(self) -> None:
        self.name, self.wants, self.prompt = "the bench", (StagePayload, EventPayload), True
        self.open = False
        self.ms: list[float] = []
        self.thinned = False
        self._behind: set[str] = set()  # streams that have not yet got to the present
        self._news = asyncio.Event()

    async def all_present(self, streams: set[str]) -> None:
        """Wait until all have got to the present, and nothing is left out; but not for ever."""
        self._behind = streams
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while self._behind or self.thinned:
                    self._news.clear()
                    await self._news.wait()

    def hear(self, stream: str, news: News) -> None:
        """Note a stage, or whether the machine keeps up."""
        if isinstance(news, StagePayload):
            self._staged(stream, news)
        elif isinstance(news, EventPayload):
            self._happened(news)

    def _staged(self, stream: str, payload: StagePayload) -> None:
        """Note the time from the last sample's arrival to this publication."""
        if payload.latency_ms is None:
            return
        if payload.latency_ms < PRESENT_MS:
            self._behind.discard(stream)
            self._news.set()
        if self.open:
            self.ms.append(payload.latency_ms)

    def _happened(self, payload: EventPayload) -> None:
        """Note whether the machine cannot keep up."""
        if "least_hop_s" in payload.data:
            self.thinned = bool(payload.data["least_hop_s"])
            self._news.set()


async def carry(count: int, hop_s: int, before_s: float, folder: Path, device: str) -> Point:
    """Run so many streams in this process, and measure once each has had its first window."""
    rng = np.random.default_rng()
    noise = noise_like_eeg(rng, len(CHANNELS), NOISE_S)
    starting_s = max(hop_s, count * APART_S)
    # Drawn, not every tenth of a second: a hundred of a thousand devices would complete each second at once.
    waits = iter(rng.uniform(0, starting_s, count))

    wheel = Wheel()
    devices = await _devices(count, noise, wheel)

    def headband(settings: SourceSettings, channel: Label, clock: Clock) -> Source:
        return Headband(noise, before_s, float(next(waits)), wheel)

    listener = _Listener()
    engine = Engine(
        _settings(count, hop_s, folder, device),
        SystemClock(),
        listener,
        sources=headband,
        begun=spare_garbage,
    )
    running = asyncio.create_task(engine.run())
    await listener.all_present({f"s{n}" for n in range(count)})
    await asyncio.sleep(SETTLE_S)
    spent_s, began = time.process_time(), time.perf_counter()
    listener.open = True
    await asyncio.sleep(max(MEASURE_S, hop_s))
    listener.open = False
    load = (time.process_time() - spent_s) / (time.perf_counter() - began)
    rss_mb = resident_mb()
    engine.stop()
    await running
    p50_ms, p99_ms = np.percentile(listener.ms, (50, 99)) if listener.ms else (float("inf"),) * 2
    return Point(
        count, load, devices, len(listener.ms), float(p50_ms), float(p99_ms), listener.thinned, rss_mb
    )


async def _devices(count: int, noise: NDArray[np.float64], clock: Clock) -> float:
    """What so many devices take by themselves, as a share of a core."""

    async def listen(wait_s: float) -> None:
        async with Headband(noise, 0, wait_s, clock) as device:
            async for _ in device:
                pass

    tasks = [asyncio.create_task(listen(TOGETHER_S * number / count)) for number in range(count)]
    await asyncio.sleep(2 * TOGETHER_S)
    spent_s, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(SETTLE_S)
    load = (time.process_time() - spent_s) / (time.perf_counter() - began)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return load


def _settings(count: int, hop_s: int, folder: Path, device: str) -> Settings:
    streams = [{"name": f"s{n}", "hop_s": hop_s, "source": {"kind": "lsl"}} for n in range(count)]
    node = f"bench-{os.getpid()}"
    shared = {"node": node, "session_dir": str(folder), "mqtt": {"port": PORT}, "model": {"device": device}}
    return validate({**shared, "stream": streams}, "bench")


def main() -> None:
    """One point, in a process of its own: a line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("streams", type=int)
    parser.add_argument("hop_s", type=int)
    parser.add_argument("before_s", type=float)
    parser.add_argument("core", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the network")
    asked = parser.parse_args()
    os.sched_setaffinity(0, {asked.core})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        carried = carry(asked.streams, asked.hop_s, asked.before_s, Path(folder), asked.device)
        print(json.dumps(asdict(asyncio.run(carried))))


if __name__ == "__main__":
    main()
