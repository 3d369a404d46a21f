"""What it costs a trigger that its firing is on disk first, beside a session file that is being written.

From `keep` until the event loop hears that the disk has it, in the temporary folder (TMPDIR chooses).
The journal of four channels at 256 Hz commits once a second meanwhile; `session` is what waiting for that
would take.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from streamer.clock import SystemClock
from streamer.journal import Journal, Meta
from streamer.messages import Channel, Chunk, StreamInfo
from streamer.reactions.firings import FiringLog, Kept
from tools.bench.figures import Asked, Figures, percentiles

FIRINGS, EVERY_S, BLOCK = 400, 0.05, 13
INFO = StreamInfo("bench", 256.0, tuple(Channel(f"C{n}", "uV") for n in range(4)), 1.7e9)
WANTED = {"kept_p99_ms": ("<=", 20.0)}


def measure(asked: Asked) -> Figures:
    """Measure 20 s of firings, 20 a second."""
    kept_ms, session_ms = asyncio.run(_fire())
    return percentiles("kept", kept_ms) | percentiles("session", session_ms)


async def _fire() -> tuple[list[float], list[float]]:
    kept_ms: list[float] = []
    session_ms: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sqlite"
        with Journal.create(path, Meta("s", "bench", "bench", INFO), SystemClock(), deliver=False) as journal:
            async with FiringLog(path.with_suffix(".firings"), True) as log:
                for number in range(FIRINGS):
                    journal.record(Chunk(number * BLOCK, np.zeros((4, BLOCK))))
                    kept_ms.append(await _kept_ms(log, number))
                    if number % 40 == 39:
                        began = time.perf_counter()
                        await journal.flush()
                        session_ms.append((time.perf_counter() - began) * 1000)
                    await asyncio.sleep(EVERY_S)
    return kept_ms, session_ms


async def _kept_ms(log: FiringLog, number: int) -> float:
    done = asyncio.Event()
    problems: list[str] = []
    began = time.perf_counter()

    def told(problem: str) -> None:
        problems.append(problem)
        done.set()

    log.keep(Kept("bench", number, float(number)), told)
    await done.wait()
    assert problems == [""]
    return (time.perf_counter() - began) * 1000
