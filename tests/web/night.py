"""An engine with two sleepers and the page, in its own process: `python -m tests.web.night PORT FOLDER`.

The first sleeper has EOG and EMG, which are shown, and the triggers of an amplifier; the second has not.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from streamer import settings
from streamer.clock import SystemClock
from streamer.live.engine import Engine
from streamer.news import News, Opened
from tests.fakes import Witness
from tests.web.montage import opened

SPEED = 30.0  # a hop of 30 s every second


class Ready(Witness):
    """Says when every stream is open."""

    def hear(self, stream: str, news: News) -> None:
        super().hear(stream, news)
        if isinstance(news, Opened) and len(self.sessions) == 2:
            print("ready", flush=True)


async def main(port: int, folder: str) -> None:
    """Until SIGTERM."""
    nights = [
        {
            "name": name,
            "source": {
                "kind": "simulated",
                "speed": SPEED,
                "seed": seed,
                "chunk_s": 5,
                "dropouts_per_hour": drops,
            },
        }
        for name, seed, drops in (("anna", 3, 30.0), ("ben", 4, 0.0))
    ]
    nights[0]["traces"] = ["EOG L", "EMG chin", "EOG X"]  # there is no EOG X
    nights[1]["alarm"] = {"deadline": "07:00", "zone": "UTC", "command": ["true"]}
    ready = settings.validate({"session_dir": folder, "web": {"port": port}, "stream": nights}, "test")
    engine = Engine(ready, SystemClock(), Ready(), sources=opened)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
    await engine.run()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
