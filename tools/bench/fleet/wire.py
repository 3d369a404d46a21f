"""Just enough MQTT 3.1.1 for a benchmark: packets as bytes, and packets out of a stream of bytes.

A client library costs more per message than a broker does, and would be what is measured.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

PUBLISH, SUBACK = 3, 9


def connect(client: str) -> bytes:
    """Return a greeting: a clean session, no last will, no password, nobody has to keep it alive."""
    return _packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00" + _text(client.encode()))


def subscribe(topic: str) -> bytes:
    """Return a subscription with QoS 0."""
    return _packet(0x82, b"\x00\x01" + _text(topic.encode()) + b"\x00")


def publish(topic: bytes, body: bytes, number: int, retain: bool) -> bytes:
    """Return a message with QoS 1."""
    return _packet(0x32 | retain, b"".join((_text(topic), (number % 65535 + 1).to_bytes(2, "big"), body)))


def connection(port: int, client: str) -> socket.socket:
    """Return a blocking connection that the broker has accepted."""
    link = socket.create_connection(("127.0.0.1", port), 10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(connect(client))
    if link.recv(4) != b"\x20\x02\x00\x00":
        raise ConnectionError(f"the broker refuses {client}")
    return link


class Packets:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give the kind and the content of each packet that is complete."""
        data, at = self._rest + data, 0
        while True:
            length, shift, begin = 0, 0, at + 1
            while begin < len(data):
                byte = data[begin]
                length |= (byte & 0x7F) << shift
                shift, begin = shift + 7, begin + 1
                if byte < 0x80:
                    break
            else:
                break
            if begin + length > len(data):
                break
            yield data[at] >> 4, data[begin : begin + length]
            at = begin + length
        self._rest = data[at:]


def message(content: bytes) -> tuple[bytes, bytes]:
    """Topic and body of what a subscriber with QoS 0 gets."""
    length = int.from_bytes(content[:2], "big")
    return content[2 : 2 + length], content[2 + length :]


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(head: int, content: bytes) -> bytes:
    length, size = len(content), bytearray()
    while True:
        size.append(length & 0x7F | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return bytes((head, *size)) + content
