"""The pictures in README and docs, from two simulated nights: `python -m tests.web.screenshots [FOLDER]`."""

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
from streamer.report import name_session, write_report
from tests.web.chromium import chromium, until
from tests.web.montage import opened

HOURS = 7.0
STARTED = datetime(2026, 1, 10, 22, 45, tzinfo=UTC)
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
HOME: dict[str, object] = {"name": "anna", "alarm": {"deadline": "07:00", "zone": "UTC", "command": ["true"]}}
CLICK = {"name": "click", "stages": ["R"], "dwell_s": 30, "refractory_s": 20, "sham": 0.5}
LAB: dict[str, object] = {
    "name": "s01",
    "hop_s": 5,
    "traces": ["EOG L", "EOG R", "EMG chin"],
    "trigger": [CLICK],
}
WORTH = {
    "page": "charts.written.night.length",
    "lab": """["click", "S"].every((name) =>
    charts.written.eeg.some((one) => one.text.split(" ")[0] === name))""",
}  # a picture


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


async def night(stream: dict[str, object], folder: Path, watcher: Stopwatch) -> None:
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
        "stream": [{**stream, "source": source}],
    }
    sources = opened if "traces" in stream else None
    engine = Engine(settings.validate(data, "screenshots"), SystemClock(), watcher, sources=sources)
    loop = asyncio.get_running_loop()
    watcher.end = lambda: loop.call_soon_threadsafe(engine.stop)
    await engine.run()


def photograph(url: str, out: Path, place: str) -> None:
    """The page in every size; as soon as there is something to see it stands still."""
    with chromium() as browser:
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, timezone_id="UTC")
            page.goto(url)
            page.wait_for_selector("#night canvas")
            until(page, f"({WORTH[place]}) && !(socket.onmessage = null)", 300)
            page.screenshot(path=out / f"{place}-{name}.png", full_page=name == "desktop")
            page.close()


def picture(place: str, stream: dict[str, object], out: Path, port: int) -> None:
    """A night until the morning, its page, and at home its report."""
    watcher = Stopwatch(port)
    with tempfile.TemporaryDirectory() as folder:
        running = threading.Thread(
            target=lambda: asyncio.run(night(stream, Path(folder), watcher)), name="night", daemon=True
        )
        running.start()
        if not watcher.reached.wait(600):
            raise SystemExit("the night did not come to its end within 600 s")
        photograph(f"http://127.0.0.1:{port}/", out, place)
        watcher.end()
        running.join()
        assert watcher.session is not None
        if place == "page":
            written = write_report(name_session(watcher.session), Path(folder))
            (out / "report.png").write_bytes(written.png.read_bytes())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/images"))
    parser.add_argument("--port", type=int, default=8431)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for place, stream in (("page", HOME), ("lab", LAB)):
        picture(place, stream, asked.folder, asked.port)
    print(f"written to {asked.folder}")


if __name__ == "__main__":
    main()
