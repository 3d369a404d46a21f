"""A long simulated night through the whole engine, to see whether anything grows.

Counts memory, open files, threads and tasks, and the latency of the stages, hour by hour of the night. Memory
may grow by 2 % after the warm-up, the other counts not at all, and latency has to stay flat.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.clock import SystemClock
from streamer.live.engine import Engine
from streamer.news import News, Opened
from streamer.payloads import StagePayload
from streamer.settings import validate
from tools.mosquitto import free_port

WARMUP = 0.2  # share of the night
GROWTH = 0.02  # of resident memory after it
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Look:
    """What one hour of the night left behind."""

    hour: float
    rss_mb: float
    files: int
    threads: int
    tasks: int
    latency_p99_ms: float | None


class Observer:
    """Watches the engine from within its own process."""

    name = "the soak"
    wants: tuple[type, ...] = (Opened, StagePayload)
    prompt = True

    def __init__(self, every_s: float, tell: Callable[[Look], None]) -> None:
        self.looks: list[Look] = []
        self._tell = tell
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
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        p99 = float(np.percentile(self._latencies, 99)) if self._latencies else None
        self._latencies.clear()
        self.looks.append(
            Look(
                round(at_s / 3600, 2),
                round(pages * PAGE / 1e6, 1),
                len(os.listdir("/proc/self/fd")),
                threading.active_count(),
                len(asyncio.all_tasks()),
                None if p99 is None else round(p99, 1),
            )
        )
        self._tell(self.looks[-1])


def judge(looks: list[Look]) -> list[str]:
    """What grew, in words; empty when nothing did."""
    after = [look for look in looks if look.hour >= WARMUP * looks[-1].hour]
    third = max(1, len(after) // 3)
    first, last = after[:third], after[-third:]
    found = []
    growth = np.median([one.rss_mb for one in last]) / np.median([one.rss_mb for one in first]) - 1
    if growth > GROWTH:
        found.append(f"memory grew by {growth:.1%}")
    for name in ("files", "threads", "tasks"):
        before, now = (max(getattr(one, name) for one in part) for part in (first, last))
        if now > before:
            found.append(f"{name} grew from {before} to {now}")
    p99 = [[one.latency_p99_ms for one in part if one.latency_p99_ms is not None] for part in (first, last)]
    if all(p99) and np.median(p99[1]) > 2 * np.median(p99[0]) + 5:
        found.append(f"latency p99 grew from {np.median(p99[0]):.0f} to {np.median(p99[1]):.0f} ms")
    return found


async def soak(
    folder: Path, hours: float, speed: float, hop_s: int, tell: Callable[[Look], None] = lambda look: None
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
    observer = Observer(min(3600.0, hours * 3600 / 10), tell)
    (outcome,) = await Engine(ready, SystemClock(), observer).run()
    if outcome.error is not None:
        raise outcome.error
    return observer.looks
