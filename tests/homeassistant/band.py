"""A sleeper's band: a simulated night, sent as a BrainVision Recorder sends it, faster than it is slept."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamer.clock import SystemClock
from streamer.messages import Chunk
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource

GUID = bytes.fromhex("8e45584396c9864caf4a98bbf6c91450")
START, FLOATS = 1, 4  # kinds of messages


class Band:
    """`with Band(...) as band:` serves `band.port` on loopback, on a thread of its own.

    Args:
        speed: times real time.
        hours: of sleep.

    """

    def __init__(self, speed: float, hours: float) -> None:
        self.port = 0
        self._settings = SimulatedSettings(seed=1, hours=hours, speed=speed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="band")

    def __enter__(self) -> Self:
        self._thread.start()
        self._serving = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._send, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self) -> None:
        self._serving.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _send(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: the night from its beginning."""
        number = 0
        with contextlib.suppress(OSError):  # whoever listened has gone
            async with SimulatedSource(self._settings, SystemClock()) as night:
                writer.write(start(night.info.rate_hz, [one.label for one in night.info.channels]))
                async for item in night:
                    if isinstance(item, Chunk):
                        writer.write(block(number, item.samples))
                        await writer.drain()
                        number += 1
        writer.close()


def start(rate_hz: float, labels: list[str]) -> bytes:
    """Make the message that announces the channels, in µV."""
    head = struct.pack("<Id", len(labels), 1e6 / rate_hz) + struct.pack("<d", 1.0) * len(labels)
    return _message(START, head + b"".join(label.encode() + b"\0" for label in labels))


def block(number: int, samples: NDArray[np.float64]) -> bytes:
    """Samples (channels, time) without markers."""
    head = struct.pack("<III", number, samples.shape[1], 0)
    return _message(FLOATS, head + samples.T.astype("<f4").tobytes())


def _message(kind: int, body: bytes) -> bytes:
    return GUID + struct.pack("<II", 24 + len(body), kind) + body
