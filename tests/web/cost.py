"""What the live page costs: CPU with many clients at a hop of 1 s, and the first paint after a long night.

`python -m tests.web.cost` prints one JSON object. The page is fed as the engine feeds it, by a window every
second, in a process that does nothing else; the clients are in another one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time

import numpy as np
from websockets.asyncio.client import connect

from streamer.clock import SystemClock
from streamer.messages import RATE_HZ, STAGES, Channel, Chunk, Label, Quality, Score, StreamInfo, Window
from streamer.news import Sampled, Scored
from streamer.payloads import CommandPayload, Probabilities, QualityPayload, StagePayload, utc
from streamer.web.page import Page
from streamer.web.server import WebServer
from streamer.web.settings import MOST_TRACES, WebSettings
from streamer.web.traces import Traces

RATE = 256  # Hz, of the device
SHARES = 0.05, 0.05, 0.7, 0.15, 0.05


def obey(command: CommandPayload) -> str:
    """Nobody asks for anything."""
    return ""


class Feed:
    """One stream's page, as the engine keeps it."""

    def __init__(self, hours: float, traces: int = 0) -> None:
        self.page = Page(SystemClock())
        self._labels: list[Label] = []
        self._rng = np.random.default_rng(0)
        started = time.time() - hours * 3600
        names = [f"EMG {number}" for number in range(traces)]
        channels = tuple(Channel(name, "uV") for name in ("AF7", *names))
        self._info = StreamInfo("bench", float(RATE), channels, started)
        shown = Traces(self._info, names, None)
        self.page.open("bench", "s", self._info, "AF7", 1, self._labels, obey, print, traces=shown)
        self._second = 0
        for _ in range(int(hours * 120)):
            self.step(30)

    def step(self, seconds: int = 1) -> None:
        """The next window."""
        samples = self._rng.normal(0, 20, (len(self._info.channels), seconds * RATE))
        self.page.hear("bench", Sampled(Chunk(self._second * RATE, samples)))
        self._second += seconds
        epoch = self._second // 30 - 1 if self._second % 30 == 0 else None
        window = Window(
            end=self._second * RATE_HZ,
            epoch=epoch,
            samples=self._rng.normal(0, 20, 3000).astype(np.float32),
            spectrogram=self._rng.normal(40, 5, (29, 128)).astype(np.float32),
        )
        if epoch is not None:
            self._labels.append("N2")
        score = Score(window.end, epoch, "N2", "N2", SHARES, False, Quality("good"), window)
        self.page.hear("bench", Scored(score, 0.0))
        self.page.hear("bench", self._payload(epoch is None))

    def _payload(self, provisional: bool) -> StagePayload:
        return StagePayload(
            session="s",
            seq=self._second,
            t_end=utc(self._info.started + self._second),
            stage="N2",
            smoothed="N2",
            probabilities=Probabilities(**dict(zip(STAGES, SHARES, strict=True))),
            confidence=0.7,
            warmup=False,
            quality=QualityPayload(grade="good", lost_fraction=0),
            provisional=provisional,
            latency_ms=5.0,
        )


async def watch(url: str, clients: int) -> None:
    """Be so many clients until killed."""

    async def one() -> None:
        async with connect(url, proxy=None) as socket:
            async for message in socket:
                json.loads(message)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(one(), name=f"client {number}")


async def cpu_share(feed: Feed, seconds: int) -> float:
    """Share of one core that this process uses while it is fed once a second."""
    began, used = time.monotonic(), time.process_time()
    for _ in range(seconds):
        await asyncio.sleep(1)
        feed.step()
    return (time.process_time() - used) / (time.monotonic() - began)


def paint(url: str) -> dict[str, float]:
    """Seconds from the call of the page to its first paint, to the stage, and to the charts."""
    from tests.web.chromium import chromium

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        began = time.monotonic()
        page.goto(url)
        page.wait_for_selector("#shares i")  # drawn with the first stage
        stage = time.monotonic() - began
        page.wait_for_selector("#night canvas")
        charts = time.monotonic() - began
        first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
    return {"first_paint_s": round(first, 2), "stage_s": round(stage, 2), "charts_s": round(charts, 2)}


async def measure(hours: float, clients: int, seconds: int, browser: bool, traces: int) -> dict[str, object]:
    """All of it."""
    feed = Feed(hours, traces)
    async with WebServer(WebSettings(port=0), feed.page) as server:
        live = server.url.replace("http", "ws") + "live"
        snapshot = len(feed.page.view().update())
        alone = await cpu_share(feed, seconds)
        command = [sys.executable, "-m", "tests.web.cost", "--be", live, "--clients", str(clients)]
        watching = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        await asyncio.sleep(3)  # their start, and the whole night for each, are not the steady state
        watched = await cpu_share(feed, seconds)
        if server.clients != clients:
            raise SystemExit(f"{server.clients} of {clients} clients were watching")
        watching.kill()
        await watching.wait()
        painted = await asyncio.to_thread(paint, server.url) if browser else {}
    return {
        "hours": hours,
        "clients": clients,
        "traces": traces,
        "cpu_alone_percent": round(100 * alone, 2),
        "cpu_watched_percent": round(100 * watched, 2),
        "snapshot_kib": round(snapshot / 1024, 1),
        **painted,
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0, help="length of the night so far (default: 8)")
    parser.add_argument("--clients", type=int, default=5, help="who watch (default: 5)")
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement (default: 20)")
    parser.add_argument(
        "--traces", type=int, choices=range(MOST_TRACES + 1), default=0, help="channels beside the staged one"
    )
    parser.add_argument("--no-browser", action="store_true", help="leave out the first paint")
    parser.add_argument("--be", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.be:
        asyncio.run(watch(asked.be, asked.clients))
    else:
        found = asyncio.run(
            measure(asked.hours, asked.clients, asked.seconds, not asked.no_browser, asked.traces)
        )
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
