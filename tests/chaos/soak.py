"""A long simulated night through the whole engine, to see whether anything grows.

Looks at memory, open files, threads, tasks, and the latency of the stages, hour by hour of the night. After
the warm-up the memory of the process may grow by 2 %, and what Python holds of it (the heap) by 5 %; the
others may not grow, and latency has to stay flat. What is there for a moment is no leak: growth is what all
of the last third of the looks have beyond what the first third ever had. asyncio's own pool of threads fills
whenever no worker is idle, up to its bound: its workers are only held to that bound.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from pathlib import Path

import numpy as np

from streamer.clock import SystemClock
from streamer.live.engine import Engine
from streamer.news import News, Opened
from streamer.payloads import StagePayload
from streamer.settings import validate
from tests.mosquitto import free_port

WARMUP = 0.2  # share of the night
GROWTH = {"rss_mb": 0.02, "heap_mb": 0.05}  # of memory after it
PAGE = os.sysconf("SC_PAGE_SIZE")
POOL = re.compile(r"asyncio_\d+")  # a worker of `asyncio.to_thread`
WORKERS = min(32, (os.cpu_count() or 1) + 4)  # and its bound, which the library documents


@dataclass(frozen=True, slots=True)
class Look:
    """What one hour of the night left behind; files, threads and tasks by their names."""

    hour: float
    rss_mb: float
    heap_mb: float
    files: tuple[str, ...]
    threads: tuple[str, ...]
    tasks: tuple[str, ...]
    latency_p99_ms: float | None

    def told(self) -> dict[str, object]:
        """In numbers, for a line of output."""
        return {
            "hour": self.hour,
            "rss_mb": self.rss_mb,
            "heap_mb": self.heap_mb,
            "files": len(self.files),
            "threads": len(self.threads),
            "tasks": len(self.tasks),
            "latency_p99_ms": self.latency_p99_ms,
        }


class Observer:
    """Watches the engine from within its own process."""

    name = "the soak"
    wants: tuple[type, ...] = (Opened, StagePayload)
    prompt = True

    def __init__(self, every_s: float, tell: Callable[[Look], None]) -> None:
        self.looks: list[Look] = []
        self._tell = tell
        self._others = set(threading.enumerate())  # of what ran before us in this process
        self._every_s = every_s
        self._started = 0.0
        self._next_s = every_s
        self._latencies: list[float] = []

    def hear(self, stream: str, news: News) -> None:
        """Note when the night began, and how far it is."""
        if isinstance(news, Opened):
            self._started = news.info.started
        elif isinstance(news, StagePayload):
            self._staged(news)

    def _staged(self, payload: StagePayload) -> None:
        """Look around once an hour of the night."""
        if payload.latency_ms is not None:
            self._latencies.append(payload.latency_ms)
        at_s = payload.t_end.timestamp() - self._started
        if at_s < self._next_s:
            return
        self._next_s += self._every_s
        p99 = float(np.percentile(self._latencies, 99)) if self._latencies else None
        self._latencies.clear()
        self.looks.append(look(at_s / 3600, self._others, p99))
        self._tell(self.looks[-1])


def look(hour: float, others: set[threading.Thread], p99_ms: float | None = None) -> Look:
    """Look at this process from within its event loop, but not at the threads that were there before."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return Look(
        round(hour, 2),
        round(pages * PAGE / 1e6, 1),
        round(tracemalloc.get_traced_memory()[0] / 1e6, 2),
        _files(),
        tuple(sorted(one.name for one in threading.enumerate() if one not in others)),
        tuple(sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())),
        None if p99_ms is None else round(p99_ms, 1),
    )


def _files() -> tuple[str, ...]:
    """What is open in this process; a pipe or a socket without its number."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the folder itself, and what was closed meanwhile
            continue
        found.append(re.sub(r":\[\d+\]$", "", target))
    return tuple(sorted(found))


def judge(looks: list[Look]) -> list[str]:
    """What grew, in words; empty when nothing did."""
    after = [look for look in looks if look.hour >= WARMUP * looks[-1].hour]
    third = max(1, len(after) // 3)
    first, middle, last = after[:third], after[third:-third] or after[:third], after[-third:]
    found = []
    for name, most in GROWTH.items():
        size = [float(np.median([getattr(one, name) for one in part])) for part in (first, middle, last)]
        # Twice the smaller of the two steps: what leaks does so from third to third, a cache fills once.
        growth = 2 * min(size[1] - size[0], size[2] - size[1])
        if growth > most * size[0]:
            found.append(f"{name} grew by {growth / size[0]:.1%}")
    for name in ("files", "threads", "tasks"):
        before = reduce(or_, (_lasting(getattr(one, name)) for one in first))
        now = reduce(and_, (_lasting(getattr(one, name)) for one in last))
        if now.total() > before.total():
            new = ", ".join(sorted((now - before).elements()))
            found.append(f"{name} grew from {before.total()} to {now.total()}; new: {new}")
    found += _crowded(after)
    p99 = [[one.latency_p99_ms for one in part if one.latency_p99_ms is not None] for part in (first, last)]
    if all(p99) and np.median(p99[1]) > 2 * np.median(p99[0]) + 5:
        found.append(f"latency p99 grew from {np.median(p99[0]):.0f} to {np.median(p99[1]):.0f} ms")
    return found


def _lasting(names: tuple[str, ...]) -> Counter[str]:
    return Counter(name for name in names if not POOL.fullmatch(name))


def _crowded(looks: list[Look]) -> list[str]:
    """Say so if asyncio's pool has more workers than it may have, or if there are two of them."""
    pool = max((Counter(filter(POOL.fullmatch, look.threads)) for look in looks), key=Counter.total)
    if pool.total() <= WORKERS and all(number == 1 for number in pool.values()):
        return []
    return [
        f"threads of asyncio's pool: {', '.join(sorted(pool.elements()))}; there may be {WORKERS} of one pool"
    ]


async def soak(
    folder: Path,
    hours: float,
    speed: float,
    hop_s: int,
    tell: Callable[[Look], None] = lambda look: None,
    looks: int = 10,
) -> list[Look]:
    """Run a night with an embedded broker; what each of its parts left behind, told as it comes."""
    source = {
        "kind": "simulated",
        "hours": hours,
        "speed": speed,
        "artefacts_per_hour": 4,
        "dropouts_per_hour": 4,
    }
    ready = validate(
        {
            "node": "soak",
            "session_dir": str(folder),
            "mqtt": {"embedded": True, "port": free_port()},
            "stream": [{"name": "soak", "hop_s": hop_s, "source": source}],
        },
        "soak",
    )
    observer = Observer(min(3600.0, hours * 3600 / looks), tell)
    tracemalloc.start()
    try:
        (outcome,) = await Engine(ready, SystemClock(), observer).run()
    finally:
        tracemalloc.stop()
    if outcome.error is not None:
        raise outcome.error
    return observer.looks
