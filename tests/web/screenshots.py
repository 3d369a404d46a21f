"""The pictures in README and docs, from a simulated night: `python -m tests.web.screenshots [FOLDER]`."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from streamer import settings
from streamer.clock import SystemClock
from streamer.live.engine import Engine
from streamer.news import News, Opened
from streamer.payloads import StagePayload
from streamer.report import named, write_report
from tests.web.chromium import chromium

HOURS = 7.0
STARTED = datetime(2026, 1, 10, 22, 45, tzinfo=UTC)
SIZES = {"page-desktop": (1280, 900), "page-phone": (390, 844)}


class Stopwatch:
    """Says when enough of a night is over to be photographed, and ends it afterwards."""

    name = "the photographer"
    wants: tuple[type, ...] = (Opened, StagePayload)
    prompt = True

    def __init__(self, port: int) -> None:
        self.port = port
        self.session: Path | None = None
        self.end: Callable[[], object] = lambda: None
        self.reached = threading.Event()

    def hear(self, stream: str, news: News) -> None:
        """Remember the file; tell the photographer when it is morning."""
        if isinstance(news, Opened):
            self.session = news.session
        elif isinstance(news, StagePayload) and news.t_end.timestamp() > STARTED.timestamp() + HOURS * 3600:
            self.reached.set()


async def night(folder: Path, watcher: Stopwatch) -> None:
    """Run a night through the engine until the watcher ends it."""
    source = {
        "kind": "simulated",
        "hours": 24,
        "seed": 7,
        "speed": 400,
        "dropouts_per_hour": 0.5,
        "dropout_s": 90,
        "artefacts_per_hour": 4,
        "started": STARTED.isoformat(),
    }
    data: dict[str, object] = {
        "session_dir": str(folder),
        "web": {"port": watcher.port},
        "stream": [{"name": "anna", "source": source}],
    }
    engine = Engine(settings.validate(data, "screenshots"), SystemClock(), watcher)
    loop = asyncio.get_running_loop()
    watcher.end = lambda: loop.call_soon_threadsafe(engine.stop)
    await engine.run()


def photograph(url: str, out: Path) -> None:
    """The page in every size."""
    with chromium() as browser:
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, timezone_id="UTC")
            page.goto(url)
            page.wait_for_selector("#night canvas")
            page.screenshot(path=out / f"{name}.png", full_page=name == "page-desktop")
            page.close()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    parser.add_argument("--port", type=int, default=8431)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    watcher = Stopwatch(asked.port)
    with tempfile.TemporaryDirectory() as folder:
        running = threading.Thread(
            target=lambda: asyncio.run(night(Path(folder), watcher)), name="night", daemon=True
        )
        running.start()
        if not watcher.reached.wait(300):
            raise SystemExit("the night did not come to its end within 300 s")
        photograph(f"http://127.0.0.1:{asked.port}/", asked.folder)
        watcher.end()
        running.join()
        assert watcher.session is not None
        written = write_report(named(watcher.session), Path(folder))
        (asked.folder / "report.png").write_bytes(written.png.read_bytes())
    print(f"written to {asked.folder}")


if __name__ == "__main__":
    main()
