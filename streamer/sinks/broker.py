"""An MQTT 3.1.1 broker inside this process, on loopback, so that nothing needs to be installed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from amqtt.broker import Broker as AmqttBroker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from streamer.errors import SinkError
from streamer.sinks.settings import LOOPBACK

MAX_CLIENTS = 32  # connected clients
MAX_OWN = 8  # engines, counted apart, so that other clients cannot keep them out
MAX_NEWCOMERS = 16  # connections that have not sent their identifier yet
BACKLOG = 16  # of the listening socket
IDLE_S = 600.0  # a client that has sent nothing for so long, not even a ping, is cut off
MAX_PACKET_BYTES = 64 * 1024  # ours have about 600 bytes
STALLED_S = 10.0  # a client that has not read for so long is cut off
SHUTDOWN_S = 1.0

OWN = b"sleepstream-"  # how an engine's client identifier begins

_LISTENER = "loopback"
_MAGIC = b"\x00\x04MQTT"
_VERSION_5 = b"\x00\x04MQTT\x05"
_VERSION_5_END = 5 + len(_VERSION_5)  # behind the longest fixed header
_CONNACK_UNSUPPORTED = b"\x20\x02\x00\x01"


class Broker:
    """An MQTT broker for this machine: `async with Broker(port) as broker:`; port 0 takes a free one.

    The sockets are handled here and only the protocol by amqtt ("external listener"). amqtt itself limits
    neither packet sizes nor connections, and keeps every message for a client that has stopped reading.
    Retained messages are kept in memory, one per topic, and end with the process.

    Raises:
        SinkError: the port is in use or not allowed, or `host` is not loopback.

    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        if host not in LOOPBACK:
            raise SinkError(f"the embedded broker has no passwords and serves loopback only, not {host}")
        self.host = host
        self.port = port
        self._broker: AmqttBroker | None = None
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._newcomers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # the oldest first
        self._known: dict[asyncio.Task[None], bool] = {}  # those with an identifier: is it an engine's?

    async def __aenter__(self) -> Self:
        try:
            server = await asyncio.start_server(
                self._client, self.host, self.port, start_serving=False, backlog=BACKLOG
            )
        except OSError as error:
            raise SinkError(
                f"the embedded broker cannot listen on port {self.port} of {self.host}: {error.strerror}; "
                "stop the other broker, use it (embedded = false), or set another port"
            ) from error
        self.port = server.sockets[0].getsockname()[1]
        self._server = server
        self._broker = AmqttBroker(_config())
        await self._broker.start()
        await server.start_serving()
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._broker is not None
        assert self._server is not None
        self._server.close()
        with contextlib.suppress(TimeoutError):  # a client that does not read must not block the stop
            async with asyncio.timeout(SHUTDOWN_S):
                await self._broker.shutdown()
        for client, writer in self._clients.items():
            writer.transport.abort()
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        await self._server.wait_closed()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends; its errors end only that connection."""
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = self._newcomers[task] = writer
        self._make_room()
        try:
            await self._serve(task, reader, writer)
        except (OSError, EOFError):
            pass  # it broke off, or took too long
        finally:
            del self._clients[task]
            self._newcomers.pop(task, None)
            self._known.pop(task, None)
            writer.close()

    def _make_room(self) -> None:
        """Close the oldest connection without an identifier, if there are too many."""
        if len(self._newcomers) > MAX_NEWCOMERS:
            oldest = next(iter(self._newcomers))
            self._newcomers.pop(oldest).transport.abort()  # no longer counted, although its task ends later

    def _admits(self, task: asyncio.Task[None], identifier: bytes) -> bool:
        """Whether there is room for a client with this identifier."""
        own = identifier.startswith(OWN)
        if sum(one == own for one in self._known.values()) >= (MAX_OWN if own else MAX_CLIENTS):
            return False
        self._newcomers.pop(task, None)
        self._known[task] = own
        return True

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hand the connection to amqtt, unless it is MQTT 5, which amqtt misreads."""
        assert self._broker is not None
        async with asyncio.timeout(STALLED_S):
            greeting = await _first_packet(reader)
        if _VERSION_5 in greeting[:_VERSION_5_END]:
            writer.write(_CONNACK_UNSUPPORTED)
            return
        if not self._admits(task, _identifier(greeting)):
            return
        await self._broker.external_connected(_Reader(reader, greeting), _Writer(writer), _LISTENER)


async def _first_packet(reader: asyncio.StreamReader) -> bytes:
    """Read one whole MQTT packet: type, length in one to four bytes, body."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) < 5:
        head += await reader.readexactly(1)
    length = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(head[1:]))
    if length > MAX_PACKET_BYTES:
        raise ConnectionAbortedError(f"a packet of {length} bytes")
    return head + await reader.readexactly(length)


def _identifier(greeting: bytes) -> bytes:
    """Find a client's identifier in its CONNECT packet; b"" if there is none."""
    at = greeting.find(_MAGIC)
    start = at + len(_MAGIC) + 4  # level, flags, keepalive
    length = int.from_bytes(greeting[start : start + 2])
    return greeting[start + 2 :][:length] if at >= 0 else b""


class _Reader:
    """amqtt reads from this; a packet that is too long is refused before it is read."""

    def __init__(self, reader: asyncio.StreamReader, already_read: bytes) -> None:
        self._reader = reader
        self._already_read = already_read

    async def read(self, n: int = -1) -> bytes:
        if n > MAX_PACKET_BYTES:
            raise ConnectionAbortedError(f"a packet of {n} bytes")
        if self._already_read:
            part, self._already_read = self._already_read[:n], self._already_read[n:]
            return part
        try:
            async with asyncio.timeout(IDLE_S):
                return await self._reader.readexactly(n)
        except TimeoutError:
            raise ConnectionAbortedError(f"it sent nothing for {IDLE_S:g} s") from None

    def feed_eof(self) -> None:
        self._reader.feed_eof()


class _Writer:
    """amqtt writes to this; a client that does not read is cut off."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
            raise ConnectionResetError("the client does not read") from None

    def get_peer_info(self) -> tuple[str, int] | None:
        peer = self._writer.get_extra_info("peername")
        return (peer[0], peer[1]) if peer else None

    def get_ssl_info(self) -> None:
        """Loopback needs no TLS."""

    async def close(self) -> None:
        self._writer.close()


def _config() -> BrokerConfig:
    return BrokerConfig(
        listeners={
            "default": ListenerConfig(type=ListenerType.EXTERNAL),
            _LISTENER: ListenerConfig(type=ListenerType.EXTERNAL, bind="external"),
        },
        # Only the plugin that admits everyone: the default ones log every packet and publish $SYS topics.
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )
