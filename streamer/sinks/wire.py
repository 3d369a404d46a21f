"""A fast path for QoS 1: many messages in one write, many acknowledgements in one read.

paho makes half a dozen objects per message and three system calls per acknowledgement, which is most of the
cost of publishing a stage. Here a message is encoded once, all messages of one turn of the event loop are
sent together, and acknowledgements are read here. All other packets are left to paho, which keeps the
connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from aiomqtt import MqttCodeError
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

PUBLISH, PUBACK = 0x30, 0x40  # first byte of a packet, without flags
EXPIRY, CORRELATION = b"\x02", b"\x09"  # properties of MQTT 5
IN_FLIGHT = 20  # messages that may wait for an answer if the broker states no limit; as in paho
READ_BYTES = 1 << 16
LONGEST = (1 << 28) - 1  # bytes of a packet after its length field
SUCCESS = ReasonCode(PacketTypes.PUBACK, "Success")


class Message(NamedTuple):
    """A message to publish."""

    topic: str
    body: str
    retain: bool = False
    expiry_s: int | None = None  # MQTT 5 only
    correlation: bytes = b""  # MQTT 5 only


class Wire:
    """One connection's messages and their answers.

    Args:
        paho: the client that keeps the connection.
        five: whether the connection is MQTT 5.

    Attributes:
        unanswered: topics that wait for the broker's answer.
        last_answer: when the last one came, by the event loop's clock.
        most: messages that may wait for an answer; further ones wait to be sent.
        qos: 1, or 0 if the broker takes nothing else; then no answers come.

    """

    def __init__(self, paho: PahoClient, five: bool) -> None:
        self.last_answer = 0.0
        self.most = IN_FLIGHT
        self.qos = 1
        self._paho = paho
        self._five = five
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, _Answer] = {}  # by the packet's number, the oldest first
        self._waiting: deque[tuple[int, Message]] = deque()  # to be sent after others are answered
        self._out: list[bytes] = []  # packets to be sent in the next turn of the loop
        self._watch: asyncio.TimerHandle | None = None
        self._in = b""  # bytes received and not read yet
        self._recv: Callable[[int], bytes] = paho._sock_recv
        paho._sock_recv = self._take  # type: ignore[assignment, method-assign]
        paho._handle_pubackcomp = self._long_answer  # type: ignore[assignment, method-assign]

    @property
    def unanswered(self) -> set[str]:
        """Topics that wait for the broker's answer."""
        return {answer.topic for answer in self._answers.values() if not answer.reason.done()}

    async def publish(self, message: Message, within_s: float) -> ReasonCode:
        """Send a message and return the broker's answer.

        Raises:
            MqttCodeError: the connection broke.
            TimeoutError: no answer came within `within_s`.

        """
        if not self.qos:
            self._send(encoded(message, None, self._five))
            self.last_answer = self._loop.time()
            return SUCCESS
        number = self._paho._mid_generate()
        answer = _Answer(message.topic, self._loop.create_future(), self._loop.time() + within_s)
        full = len(self._answers) >= self.most
        self._answers[number] = answer
        self._look_at(answer.until)
        if full:
            self._waiting.append((number, message))
        else:
            self._send(encoded(message, number, self._five))
        try:
            return await answer.reason
        finally:
            self._answers.pop(number, None)
            self._send_waiting()

    def read(self) -> None:
        """Read all that the socket has received."""
        while self._paho.socket() is not None:
            if self._paho._in_packet["command"] or not self._answered():
                self._paho.loop_read()
            pending: Callable[[], int] | None = getattr(self._paho.socket(), "pending", None)
            if not self._in and not (pending is not None and pending()):
                return

    def end(self, error: MqttCodeError) -> None:
        """End all waits with an error, because the connection is gone."""
        for answer in self._answers.values():
            if not answer.reason.done():
                answer.reason.set_exception(error)
        self._waiting.clear()
        if self._watch is not None:
            self._watch.cancel()

    # ---- out

    def _send(self, packet: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packet)

    def _flush(self) -> None:
        together, self._out = b"".join(self._out), []
        if self._paho.socket() is not None:
            self._paho._packet_queue(PUBLISH, together, 0, 1)  # 1: paho need not do anything once it is sent
            self._paho.loop_write()

    def _send_waiting(self) -> None:
        while self._waiting and len(self._answers) - len(self._waiting) < self.most:
            number, message = self._waiting.popleft()
            if number in self._answers:  # otherwise its caller has given up
                self._send(encoded(message, number, self._five))

    # ---- in

    def _take(self, size: int) -> bytes:
        """Read for paho: from the bytes received, or from the socket."""
        if not self._in:
            self._in = self._recv(READ_BYTES)
        taken, self._in = self._in[:size], self._in[size:]
        return taken

    def _answered(self) -> bool:
        """Read the acknowledgements at the start of the bytes received; True if there was nothing else."""
        try:
            self._in = self._in or self._recv(READ_BYTES)
        except OSError:  # left to paho
            return False
        data, at = self._in, 0
        while at + 4 <= len(data) and data[at] == PUBACK and data[at + 1] < 0x80:
            end = at + 2 + data[at + 1]
            if end > len(data):
                break
            self._hear(data[at + 2 : end])
            at = end
        self._in = data[at:]
        return at > 0 and not self._in

    def _long_answer(self, _command: str) -> MQTTErrorCode:
        """Read an acknowledgement that came in pieces, or has more than its code."""
        self._hear(bytes(self._paho._in_packet["packet"]))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _hear(self, packet: bytes) -> None:
        """Read an acknowledgement: the packet's number and, in MQTT 5, the reason if it is not success."""
        self.last_answer = self._loop.time()
        answer = self._answers.get(int.from_bytes(packet[:2]))
        if answer is not None and not answer.reason.done():
            answer.reason.set_result(_reason_of(packet[2]) if len(packet) > 2 else SUCCESS)

    # ---- too late

    def _look_at(self, until: float) -> None:
        if self._watch is None or until < self._watch.when():
            if self._watch is not None:
                self._watch.cancel()
            self._watch = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        """End waits that have taken too long; one timer serves all of them."""
        self._watch = None
        now = self._loop.time()
        for answer in self._answers.values():
            if answer.until <= now and not answer.reason.done():
                answer.reason.set_exception(TimeoutError())
        left = [answer.until for answer in self._answers.values() if not answer.reason.done()]
        if left:
            self._look_at(min(left))


@cache
def _reason_of(code: int) -> ReasonCode:
    """Return a broker's reason; without subscribers every answer has one (no matching subscribers)."""
    return ReasonCode(PacketTypes.PUBACK, identifier=code) if code else SUCCESS


@dataclass(slots=True)
class _Answer:
    topic: str
    reason: asyncio.Future[ReasonCode]
    until: float  # by the event loop's clock


def encoded(message: Message, number: int | None, five: bool) -> bytes:
    """Encode a PUBLISH packet; with a number it has QoS 1, without one QoS 0.

    Raises:
        ValueError: the message is longer than MQTT allows.

    """
    topic, body = message.topic.encode(), message.body.encode()
    head = len(topic).to_bytes(2) + topic
    if number is not None:
        head += number.to_bytes(2)
    if five:
        properties = b""
        if message.expiry_s is not None:
            properties += EXPIRY + message.expiry_s.to_bytes(4)
        if message.correlation:
            properties += CORRELATION + len(message.correlation).to_bytes(2) + message.correlation
        head += _length(len(properties)) + properties
    flags = PUBLISH | (0x02 if number is not None else 0) | message.retain
    return bytes([flags]) + _length(len(head) + len(body)) + head + body


def _length(size: int) -> bytes:
    """Encode a number as MQTT's variable byte integer."""
    if size > LONGEST:
        raise ValueError(f"a packet of {size} bytes")
    out = bytearray()
    while True:
        size, low = divmod(size, 0x80)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)
