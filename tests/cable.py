"""A TCP link that can be cut, held, throttled and left half open: a network that breaks, on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

PIECE_BYTES = 1024


@dataclass(slots=True, eq=False)
class Link:
    """One connection through the cable."""

    near: asyncio.StreamWriter  # to whoever connected
    far: asyncio.StreamWriter  # to the target
    orphaned: bool = False  # the far end is gone, and the near one must not hear of it


class Cable:
    """A link to a loopback port: `async with Cable(target) as cable:` listens on `cable.port`.

    Args:
        target: port that connections are passed on to.
        open_: see `open`.

    Attributes:
        open: else new connections are cut at once.
        pause_s: before each piece of 1 kB is passed on.

    """

    def __init__(self, target: int, open_: bool = True) -> None:
        self.port = 0
        self.open = open_
        self.pause_s = 0.0
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Both ends lose their connections without a goodbye."""
        for link in self._links:
            link.near.transport.abort()
            link.far.transport.abort()

    def orphan(self) -> None:
        """Half open: the target loses its connections, and the other end's stay up and lead nowhere."""
        for link in self._links:
            link.orphaned = True
            link.far.transport.abort()

    def hold(self) -> None:
        """Packets are dropped, not refused: connections stay up, and nothing gets through."""
        self._flows.clear()

    def release(self) -> None:
        """Let everything through."""
        self._flows.set()

    async def _connected(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            if not self.open:
                raise OSError
            there, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near.transport.abort()
            return
        link = Link(near, far)
        self._links.add(link)
        for name, work in (("out", self._out(reader, link)), ("back", self._back(there, link))):
            task = asyncio.create_task(work, name=f"cable, {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _out(self, reader: asyncio.StreamReader, link: Link) -> None:
        try:
            while data := await self._piece(reader, link):
                if not link.orphaned:
                    await self._pass(data, link.far)
        except (OSError, EOFError):
            return  # cut
        finally:
            self._links.discard(link)
            link.far.close()
            if link.orphaned:
                link.near.close()

    async def _piece(self, reader: asyncio.StreamReader, link: Link) -> bytes:
        """What is passed on next; nothing at the end."""
        return await reader.read(PIECE_BYTES)

    async def _back(self, reader: asyncio.StreamReader, link: Link) -> None:
        try:
            while data := await reader.read(PIECE_BYTES):
                await self._pass(data, link.near)
        except OSError:
            return  # cut
        finally:
            if not link.orphaned:
                link.near.close()

    async def _pass(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.pause_s)
        await self._flows.wait()
        sink.write(data)
        await sink.drain()
