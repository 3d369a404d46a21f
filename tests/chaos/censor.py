"""A TCP link to a broker that refuses, in the broker's name, the next epochs that come."""

from __future__ import annotations

import asyncio

from tests.cable import Cable, Link

PUBLISH, QUOTA_EXCEEDED = 3, 0x97


class Censor(Cable):
    """A cable for MQTT 5 that passes on whole packets.

    Attributes:
        refusals: epochs to refuse yet; the next ones that come.

    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.refusals = 0

    async def _piece(self, reader: asyncio.StreamReader, link: Link) -> bytes:
        """A packet; one that is refused goes no further."""
        while True:
            head, body = await _packet(reader)
            number = self._refused(head[0], body)
            if number is None:
                return head + body
            link.near.write(b"\x40\x04" + number + bytes([QUOTA_EXCEEDED, 0]))

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
