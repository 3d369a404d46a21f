"""A server that speaks BrainVision RDA on the loopback, and the bytes of its messages."""

from __future__ import annotations

import asyncio
import struct

import numpy as np

GUID = bytes.fromhex("8e45584396c9864caf4a98bbf6c91450")
NAMES = ("Fp1", "C3", "EOG")


def message(kind, body=b"", size=None):
    return GUID + struct.pack("<II", 24 + len(body) if size is None else size, kind) + body


def start(names=NAMES, interval_us=2000.0, resolutions=None, count=None):
    count = len(names) if count is None else count
    resolutions = [0.5] * len(names) if resolutions is None else resolutions
    head = struct.pack("<Id", count, interval_us) + struct.pack(f"<{len(resolutions)}d", *resolutions)
    return message(1, head + b"".join(name.encode() + b"\0" for name in names))


def marker(position=0, kind="Stimulus", text="S  1", channel=-1, size=None):
    words = kind.encode() + b"\0" + text.encode() + b"\0"
    return struct.pack("<IIIi", 16 + len(words) if size is None else size, position, 1, channel) + words


def values(number, points=10, channels=3):
    """Of a block: (points, channels), each sample another."""
    return (np.arange(points * channels).reshape(points, channels) + 100 * number) % 30_000


def block(number, points=10, channels=3, form="<f4", markers=(), count=None, data=None):
    data = values(number, points, channels) if data is None else data
    head = struct.pack("<III", number, points, len(markers) if count is None else count)
    body = head + np.asarray(data).astype(form).tobytes() + b"".join(markers)
    return message(4 if form == "<f4" else 2, body)


STOP = message(3)


class Server:
    """Hands whoever connects what the test gives it; `with` ends it."""

    def __init__(self):
        self._clients = asyncio.Queue()
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._come, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._writers = []
        return self

    async def __aexit__(self, *_):
        await self.refuse()
        for writer in self._writers:
            writer.transport.abort()

    async def refuse(self):
        """Take no more connections."""
        self._server.close()

    async def again(self):
        """Answer at the same port again."""
        self._server = await asyncio.start_server(self._come, "127.0.0.1", self.port)

    async def client(self):
        """Who has connected next."""
        return await asyncio.wait_for(self._clients.get(), 60)

    def _come(self, reader, writer):
        self._writers.append(writer)
        self._clients.put_nowait(writer)
