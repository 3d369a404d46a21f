"""A TCP link to a broker that refuses, in the broker's name, the next epochs that come."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

PUBLISH, QUOTA_EXCEEDED = 3, 0x97


class Censor:
    """`async with Censor(target) as censor:` listens on `censor.port`; for MQTT 5.

    Attributes:
        refusals: epochs to refuse yet; the next ones that come.

    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.refusals = 0
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            there, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near.transport.abort()
            return
        for work in (self._out(reader, near, far), self._back(there, near, far)):
            task = asyncio.create_task(work, name="censor")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _out(
        self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        """Pass packets on, whole; one that is refused goes no further."""
        try:
            while True:
                head, body = await _packet(reader)
                number = self._refused(head[0], body)
                if number is None:
                    far.write(head + body)
                    await far.drain()
                else:
                    near.write(b"\x40\x04" + number + bytes([QUOTA_EXCEEDED, 0]))
        except (OSError, EOFError):
            far.transport.abort()
            near.transport.abort()

    async def _back(
        self, reader: asyncio.StreamReader, near: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(1024):
                near.write(data)
                await near.drain()
        except OSError:
            pass
        near.transport.abort()
        far.transport.abort()

    def _refused(self, kind: int, body: bytes) -> bytes | None:
        """The number of a packet that is to be refused."""
        end = 2 + int.from_bytes(body[:2])
        if kind >> 4 != PUBLISH or not self.refusals or not body[2:end].endswith(b"/epoch"):
            return None
        self.refusals -= 1
        return body[end : end + 2]


async def _packet(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Fixed header and body of one MQTT packet."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
    length = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(head[1:]))
    return head, await reader.readexactly(length)
