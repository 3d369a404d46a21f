"""A broker that says no: answers each message as a test wants it, in MQTT 5 or 3.1.1, or hangs up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

HANG_UP, SILENCE = -1, -2
CONNECT, PUBLISH, SUBSCRIBE, PING, DISCONNECT = 1, 3, 8, 12, 14


class Refusing:
    """`async with Refusing(answer) as broker:` listens at `broker.port`.

    `answer` gets topic and body (None: a subscription) and gives the reason code: 0 is yes,
    HANG_UP the end of the connection, SILENCE nothing at all. `lacks`: properties of MQTT 5 by which it says
    what it cannot do, and hangs up at whoever asks for that; `curt`: it hangs up once it has greeted.
    """

    def __init__(
        self,
        answer: Callable[[str, Any], int],
        version: int = 5,
        largest: int = 1 << 20,
        lacks: bytes = b"",
        curt: bool = False,
    ) -> None:
        self.taken: list[tuple[str, Any]] = []  # topics and bodies, as subscribers get them
        self.asked: list[str] = []  # topics of everything that came, taken or not
        self.connections = 0
        self._answer = answer
        self._version = version
        self._largest = largest
        self._lacks = lacks
        self._curt = curt
        self._more = asyncio.Event()

    async def __aenter__(self) -> Refusing:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def until(self, enough: Callable[[Refusing], bool]) -> None:
        async with asyncio.timeout(60):
            while not enough(self):
                self._more.clear()
                await self._more.wait()

    def of(self, kind: str) -> list[int]:
        """Numbers of the messages of one kind, as they were taken."""
        return [body["seq"] for topic, body in self.taken if topic.endswith(f"/{kind}")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head, body = await _packet(reader)
                if not self._handle(head, body, writer):
                    break
                self._more.set()
                await writer.drain()
        self._more.set()
        writer.close()

    def _handle(self, head: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        kind = head >> 4
        if kind == CONNECT:
            if self._version == 5:
                if self._lacks and body[7] & 0x28:  # a last will of QoS 1, retained
                    writer.write(bytes([0x20, 3, 0, 0x9B, 0]))
                    return False
                said = b"\x27" + self._largest.to_bytes(4) + self._lacks
                writer.write(bytes([0x20, 3 + len(said), 0, 0, len(said)]) + said)
            else:
                writer.write(b"\x20\x02\0\0" if body[6] == 4 else b"\x20\x02\0\x01")
                if body[6] != 4:
                    return False
            self.connections += b"sleepstream-n" in body and b"-waits-" not in body
            if self._curt:
                return False
        elif kind == SUBSCRIBE:
            topic = body[5 if self._version == 5 else 4 :][:-1].decode()
            code = self._answer(topic, None)
            self.asked.append(topic)
            if code == HANG_UP:
                return False
            extra = b"\0" if self._version == 5 else b""
            writer.write(bytes([0x90, 3 + len(extra)]) + body[:2] + extra + bytes([code or 1]))
        elif kind == PUBLISH:
            if self._lacks and head & 0b0011:  # QoS 1, or to be retained
                return False
            return self._publish(body, writer, qos=head >> 1 & 3)
        elif kind == PING:
            writer.write(b"\xd0\0")
        return kind != DISCONNECT

    def _publish(self, body: bytes, writer: asyncio.StreamWriter, qos: int) -> bool:
        length = int.from_bytes(body[:2])
        if not qos:  # it has no number
            body = body[: 2 + length] + b"\0\0" + body[2 + length :]
        topic, number, rest = body[2 : 2 + length].decode(), body[2 + length :][:2], body[4 + length :]
        if self._version == 5:
            rest = rest[1 + rest[0] :]
        said = json.loads(rest) if rest.startswith(b"{") else rest.decode()
        code = self._answer(topic, said)
        self.asked.append(topic)
        if code == HANG_UP:
            return False
        if code == SILENCE:
            return True
        if code == 0:
            self.taken.append((topic, said))
            writer.write(b"\x40\x02" + number if qos else b"")
        else:
            writer.write(b"\x40\x04" + number + bytes([code, 0]))
        return True


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    (head,) = await reader.readexactly(1)
    length, shift = 0, 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return head, await reader.readexactly(length)
