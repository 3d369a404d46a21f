"""BrainVision Recorder as a source, through its remote data access (RDA) over TCP.

The client sends nothing. The server sends a start message for an acquisition, numbered blocks of samples with
their markers, and a stop message. A connection that is lost, silent or not RDA raises an error; the
supervisor then connects again, and the session goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from streamer.clock import Allowance, Clock, SystemClock
from streamer.errors import SourceError
from streamer.messages import Channel, Item, Marker, StreamInfo
from streamer.sources.rda_blocks import BlockCounter
from streamer.sources.rda_messages import HEADER, RdaBlock, Start, Stop, read_body, read_header
from streamer.sources.settings import RdaSettings

MARKERS_PER_S, MARKERS_AT_ONCE = 10.0, 300  # the most that are passed on
PROBES = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # s, s, probes before the peer is gone


class RdaSource:
    """One Recorder as a source; `info` is set on entering, which waits for the first samples.

    Between two acquisitions it waits as long as the connection lasts; that time is a gap.

    Args:
        settings: host, port and waits.
        clock: time.

    """

    info: StreamInfo

    def __init__(self, settings: RdaSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._where = f"{settings.host}:{settings.port}"
        self._clock = clock or SystemClock()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._watch: asyncio.Task[None] | None = None
        self._opened: float | None = None  # steady time; None once samples have come
        self._heard = 0.0  # steady time of the last message
        self._silent = False  # the connection was closed because nothing came
        self._start: Start | None = None  # of the current acquisition
        self._markers = Allowance(MARKERS_AT_ONCE, MARKERS_PER_S)
        self._left_out = 0  # markers so far
        self.remarks: deque[str] = deque()

    async def __aenter__(self) -> Self:
        """Connect, and wait until samples come.

        Raises:
            SourceError: nothing answers, what answers is not RDA, or no acquisition is running.
            SignalError: the rate is outside 50-1024 Hz.

        """
        try:
            await self._connect()
            start, self._early = await self._first_block()
        except BaseException:
            await self._close()
            raise
        self._opened = None
        taken = self._clock.wall() - self._early.points / start.rate_hz
        self._first = start
        self._counter = BlockCounter(start.rate_hz, start.names, self.remarks)
        self.info = StreamInfo(f"BrainVision RDA at {self._where}", start.rate_hz, _channels(start), taken)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the connection."""
        await self._close()

    async def __aiter__(self) -> AsyncIterator[Item | Marker]:
        """Chunks, gaps and markers in order, until the connection ends.

        Raises:
            SourceError: it has ended, is silent or malformed, or a different acquisition has begun.

        """
        message: Start | RdaBlock | Stop | None = self._early
        while True:
            for item in self._taken(message):
                yield item
            try:
                message = await self._next()
            except SourceError:
                for item in self._counter.flush():
                    yield item
                raise

    def _taken(self, message: Start | RdaBlock | Stop | None) -> list[Item | Marker]:
        """The items in a message."""
        if isinstance(message, Stop):
            self._start = None
        elif isinstance(message, Start):
            self._check_like(message)
            self._start = message
            return self._counter.begin()
        elif isinstance(message, RdaBlock):
            return self._counted(message)
        return []

    def _counted(self, block: RdaBlock) -> list[Item | Marker]:
        now = self._clock.monotonic()
        items = self._counter.push(block, now)
        return [item for item in items if not isinstance(item, Marker) or self._may_pass(now)]

    def _may_pass(self, now: float) -> bool:
        """Whether one more marker may become an event, at steady time `now`, s."""
        if self._markers.take(now):
            return True
        self._left_out += 1
        if self._left_out & (self._left_out - 1) == 0:  # 1, 2, 4, 8 ...
            self.remarks.append(
                f"{self._left_out} markers were left out: there are more than {MARKERS_PER_S:g} a second"
            )
        return False

    async def _connect(self) -> None:
        host, port = self._settings.host, self._settings.port
        self._opened = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.resolve_s):
                self._reader, self._writer = await asyncio.open_connection(host, port)
        except (OSError, ValueError) as error:  # a ValueError is an impossible host name
            number = getattr(error, "errno", None) or 0  # asyncio's own message repeats the address
            why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or "no answer"
            raise SourceError(
                f"no BrainVision RDA server at {self._where} ({why}); enable Remote Data Access in "
                "Recorder's preferences, start monitoring, and open its firewall for the port"
            ) from error
        keep_alive(self._writer.get_extra_info("socket"))
        self._watch = asyncio.create_task(self._watch_silence(), name=f"silence of {self._where}")

    async def _first_block(self) -> tuple[Start, RdaBlock]:
        """Return the start message of the current acquisition, and its first samples."""
        while True:
            message = await self._next()
            if isinstance(message, Start | Stop):
                self._start = message if isinstance(message, Start) else None
            elif isinstance(message, RdaBlock) and message.points and self._start is not None:
                return self._start, message

    async def _next(self) -> Start | RdaBlock | Stop | None:
        """Return the next message; None for one that does not concern the samples."""
        try:
            kind, size = read_header(await self._reader.readexactly(HEADER.size))
            body = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise SourceError(self._ended(error)) from error
        self._heard = self._clock.monotonic()
        return read_body(kind, body, self._start)

    def _ended(self, error: Exception) -> str:
        settings = self._settings
        if not self._silent:
            why = getattr(error, "strerror", None) or "it was closed there"
            return f"the connection to BrainVision RDA at {self._where} has ended: {why}"
        if self._opened is not None:
            return (
                f"BrainVision RDA at {self._where} answers, but sends no samples within "
                f"{settings.resolve_s:g} s; start monitoring or recording in Recorder"
            )
        return f"BrainVision RDA at {self._where} has been silent for {settings.silence_s:g} s"

    async def _watch_silence(self) -> None:
        """Close a connection on which nothing arrives any more."""
        settings, clock = self._settings, self._clock
        while True:
            now = clock.monotonic()
            if self._opened is not None:
                left = self._opened + settings.resolve_s - now
            elif self._start is None:  # between two acquisitions the server sends nothing
                left = settings.silence_s
            else:
                left = self._heard + settings.silence_s - now
            if left <= 0:
                self._silent = True
                if self._writer is not None:
                    self._writer.transport.abort()
                return
            await clock.sleep(min(left, settings.silence_s))  # meanwhile the other limit may begin to count

    def _check_like(self, start: Start) -> None:
        """Refuse an acquisition that does not fit the session."""
        was = self._first
        if not start.like(was):
            raise SourceError(
                f"another acquisition has begun at {self._where}, of {len(start.names)} channels at "
                f"{start.rate_hz:g} Hz; it was {len(was.names)} at {was.rate_hz:g} Hz, or other names"
            )

    async def _close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()  # nothing is waiting to be sent
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _channels(start: Start) -> tuple[Channel, ...]:
    """Return the channels as Recorder names them, in µV."""
    return tuple(Channel(name.strip() or str(number), "uV") for number, name in enumerate(start.names))


def keep_alive(connection: socket.socket) -> None:
    """Let the system detect a peer that vanished, where it can."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
