"""Packets are those that paho would send; answers are heard however they come in pieces."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamer.sinks.wire import Message, Wire, encoded
from tests.fakes import settle

CODES = (0x00, 0x10, 0x87, 0x97)  # success, no subscriber, not authorized, quota exceeded
PING_ANSWER = bytes([0xD0, 0])


def pahos(message, number, five):
    """The packet that paho makes of a message."""
    client, found = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5 if five else MQTTv311), []
    client._packet_queue = lambda command, packet, *_: found.append(bytes(packet))
    client._sock = object()
    properties = None
    if five:
        properties = Properties(PacketTypes.PUBLISH)
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.correlation:
            properties.CorrelationData = message.correlation
    given = number or 0, message.topic.encode(), message.body.encode(), 1 if number else 0, message.retain
    client._send_publish(*given, properties=properties)
    client._sock = None
    return found[0]


@given(
    topic=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    body=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    longer=st.sampled_from([0, 1, 100, 127, 128, 20_000]),
    retain=st.booleans(),
    expiry_s=st.none() | st.integers(0, 2**32 - 1),
    correlation=st.binary(max_size=300),
    number=st.none() | st.integers(1, 2**16 - 1),
    five=st.booleans(),
)
def test_a_packet_is_pahos(topic, body, longer, retain, expiry_s, correlation, number, five):
    message = Message(topic, body + "x" * longer, retain, expiry_s, correlation)
    assert encoded(message, number, five) == pahos(message, number, five)


class Socket:
    """Gives what it was given, by the piece."""

    def __init__(self):
        self.pieces = []

    def recv(self, size):
        if not self.pieces:
            raise BlockingIOError
        piece = self.pieces.pop(0)
        self.pieces[:0] = [piece[size:]] if piece[size:] else []
        return piece[:size]

    def send(self, data):
        return len(data)

    def close(self):
        pass

    def fileno(self):
        return -1


def answer(number, code, told):
    """An acknowledgement: short, with its reason, or with more words than anybody wants."""
    body = number.to_bytes(2)
    if code or told:
        body += bytes([code])
    if told:
        words = b"\x1f" + len(told).to_bytes(2) + told
        body += _length(len(words)) + words
    return bytes([0x40]) + _length(len(body)) + body


def _length(size):
    return bytes([size]) if size < 128 else bytes([size % 128 | 128, size // 128])


@given(
    codes=st.lists(st.sampled_from(CODES), min_size=1, max_size=8),
    told=st.lists(st.sampled_from([b"", b"no", b"n" * 200]), min_size=8, max_size=8),
    pings=st.lists(st.integers(0, 8), max_size=3),
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_answers_are_heard_however_they_are_cut(codes, told, pings, cuts):
    async def scenario():
        paho = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        wire = Wire(paho, five=True)
        paho._sock = socket = Socket()
        tasks = [
            asyncio.create_task(wire.publish(Message(f"t{number}", ""), 60)) for number in range(len(codes))
        ]
        await asyncio.sleep(0)
        numbers = list(wire._answers)
        packets = [answer(*one) for one in zip(numbers, codes, told, strict=False)]
        for at in pings:
            packets.insert(at, PING_ANSWER)
        stream = b"".join(packets)
        at = 0
        while at < len(stream):
            size = cuts[at % len(cuts)]
            socket.pieces.append(stream[at : at + size])
            at += size
            if at % 2:
                wire.read()
        while socket.pieces:  # as a selector does, that is told again of what is left
            wire.read()
        found = [reason.value for reason in await asyncio.wait_for(asyncio.gather(*tasks), 20)]
        assert not wire.unanswered
        paho._sock = None
        return found

    assert asyncio.run(scenario()) == codes


def test_no_more_wait_for_an_answer_than_the_broker_allows():
    async def scenario():
        paho, sent = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5), []
        wire = Wire(paho, five=True)
        wire.most = 2
        paho._sock = socket = Socket()
        paho._packet_queue = lambda _, packets, *__: sent.append(packets.count(b"topic"))
        tasks = [asyncio.create_task(wire.publish(Message("topic", ""), 60)) for _ in range(5)]
        await settle()
        for number in list(wire._answers):
            socket.pieces.append(answer(number, 0, b""))
            wire.read()
            await settle()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        paho._sock = None
        return sent

    assert asyncio.run(scenario()) == [2, 1, 1, 1]


def test_what_is_not_answered_in_its_time_is_given_up_alone():
    async def scenario():
        paho = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        wire = Wire(paho, five=True)
        paho._sock = Socket()
        patient = asyncio.create_task(wire.publish(Message("a", ""), 60))
        hasty = asyncio.create_task(wire.publish(Message("b", ""), 0.001))
        found = await asyncio.gather(hasty, return_exceptions=True)
        assert wire.unanswered == {"a"}
        patient.cancel()
        await asyncio.wait([patient])
        paho._sock = None
        return found

    (error,) = asyncio.run(scenario())
    assert isinstance(error, TimeoutError)
