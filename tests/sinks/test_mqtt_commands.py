"""Commands: what is not one is refused, a flood is shrugged off, nothing crashes."""

from __future__ import annotations

import asyncio
import json

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.clock import SystemClock
from streamer.news import Online
from streamer.sinks.client import QUEUED_COMMANDS
from streamer.sinks.commands import BURST, MAX_BYTES, CommandInbox
from streamer.sinks.mqtt import MqttSink
from tests.mosquitto import needs_mosquitto, on_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import PATIENCE_S, HandClock, Subscriber
from tests.sinks.samples import stage
from tests.sinks.test_mqtt import settings

MARK = b'{"command": "mark", "text": "woke up"}'
JUNK = {
    "empty": b"",
    "not JSON": b"lights_off",
    "not UTF-8": b'{"command": "mark", "text": "\xff\xfe"}',
    "half a surrogate": b'{"command": "mark", "text": "\\ud800"}',
    "a list": b"[]",
    "null": b"null",
    "unknown command": b'{"command": "format_disk"}',
    "unknown key": b'{"command": "mark", "rm": 1}',
    "wrong type": b'{"command": 1}',
    "text too long": json.dumps({"command": "mark", "text": "x" * 201}).encode(),
    "too deep": b'{"command":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "too big": b'{"command": "mark", "text": "' + b"x" * MAX_BYTES + b'"}',
    "infinite": b'{"command": 1e999}',
}


class Desk:
    """An inbox with what came out of it."""

    def __init__(self):
        self.commands = []
        self.refusals = []
        self.clock = TickClock()
        self.inbox = CommandInbox(self.commands.append, self.refusals.append, self.clock)


class TickClock(HandClock):
    def __init__(self):
        super().__init__(0.0)

    def monotonic(self):
        return self.now


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_is_refused_in_one_short_line(junk):
    desk = Desk()
    desk.inbox.receive(junk, retained=False)
    assert desk.commands == []
    (reason,) = desk.refusals
    assert "\n" not in reason
    assert len(reason) < 250
    assert reason.isprintable()


def test_a_good_command_passes():
    desk = Desk()
    desk.inbox.receive(MARK, retained=False)
    assert (desk.commands[0].command, desk.commands[0].text, desk.refusals) == ("mark", "woke up", [])


def test_a_retained_command_is_refused():
    desk = Desk()
    desk.inbox.receive(b'{"command": "stop"}', retained=True)
    assert desk.commands == []
    assert "retained" in desk.refusals[0]


def test_a_flood_is_said_once_and_the_rate_recovers():
    desk = Desk()
    for _ in range(10_000):
        desk.inbox.receive(MARK, retained=False)
    assert len(desk.commands) == BURST
    assert len(desk.refusals) == 1
    assert desk.inbox.ignored == 10_000 - BURST
    desk.clock.now += 2.0
    for _ in range(3):
        desk.inbox.receive(MARK, retained=False)
    assert len(desk.commands) == BURST + 2
    assert len(desk.refusals) == 2


@pytest.mark.slow
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_at_all_raise(body):
    desk = Desk()
    desk.inbox.receive(body, retained=False)
    assert len(desk.commands) + len(desk.refusals) == 1


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    )
)
def test_no_json_raises(value):
    desk = Desk()
    desk.inbox.receive(json.dumps(value).encode(), retained=False)
    desk.inbox.receive(json.dumps({"command": value, "text": value}).encode(), retained=False)
    assert desk.commands == []
    assert len(desk.refusals) == 2


async def _publisher(port):
    client = aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5)
    client.pending_calls_threshold = 1000
    return client


@needs_mosquitto
def test_a_command_reaches_the_stream_it_is_for_and_a_retained_one_nobody():
    async def main(port):
        got = asyncio.Queue()

        def desk(name):
            return lambda command: got.put_nowait((name, command.command))

        async with await _publisher(port) as client:
            await client.publish("sleepstream/n/right/command", b'{"command": "stop"}', qos=1, retain=True)
        sink = MqttSink(settings(port), "n", SystemClock())
        async with asyncio.timeout(PATIENCE_S), await _publisher(port) as client, sink:
            sink.stream("left", MemoryOutbox(), desk("left"), got.put_nowait)
            sink.stream("deaf", MemoryOutbox())
            sink.stream("right", MemoryOutbox(), desk("right"), got.put_nowait)
            heard = [await got.get()]  # the retained one: the subscription stands
            await client.publish("sleepstream/n/deaf/command", b'{"command": "mark"}', qos=1)
            await client.publish("sleepstream/n/right/command", b"junk", qos=1)
            await client.publish("sleepstream/n/right/command", b'{"command": "lights_off"}', qos=1)
            heard += [await got.get(), await got.get()]
        return heard

    retained, junk, good = on_mosquitto(main)
    assert "retained" in retained
    assert "not a command" in junk
    assert good == ("right", "lights_off")


class Still(SystemClock):
    """No time goes by in which another command would be allowed."""

    def monotonic(self):
        return 1000.0


@pytest.mark.slow
@needs_mosquitto
def test_thousands_of_junk_commands_do_not_delay_the_stage():
    async def main(port):
        commands, refusals = [], []
        async with (
            Subscriber(port, "sleepstream/n/bed/stage") as subscriber,
            MqttSink(settings(port), "n", Still()) as sink,
            await _publisher(port) as client,
        ):
            stream = sink.stream("bed", MemoryOutbox(), commands.append, refusals.append)
            stream.hear("", Online(True))
            await sink.flush()
            bodies = list(JUNK.values())
            for seq in range(3000):
                await client.publish("sleepstream/n/bed/command", bodies[seq % len(bodies)], qos=0)
                if seq % 300 == 0:
                    stream.hear("", stage(seq))
                    await subscriber.until_count("stage", seq // 300 + 1)
            await client.publish("sleepstream/n/bed/command", b"", qos=1)
            await sink.flush()
            assert sink.status.reconnects == 0
        return commands, refusals

    commands, refusals = on_mosquitto(main)
    assert commands == []
    assert 1 <= len(refusals) <= BURST + 1


@needs_mosquitto
def test_a_flood_that_is_not_looked_at_is_dropped_and_not_kept():
    """While the one who reads the commands is busy, no more of them wait than agreed; the stage goes out."""

    class Busy:
        """A house that is never done with the first message."""

        def __init__(self):
            self.asked = asyncio.Event()

        async def announce(self, client):
            await client.subscribe("house/status", qos=1)

        async def heard(self, client, topic, body, retained):
            self.asked.set()
            await asyncio.Event().wait()

    async def main(port):
        house, commands = Busy(), []
        refused: asyncio.Queue[str] = asyncio.Queue()
        async with (
            Subscriber(port, "sleepstream/n/bed/stage") as subscriber,
            MqttSink(settings(port), "n", SystemClock(), home=house) as sink,
            await _publisher(port) as client,
        ):
            await client.publish("sleepstream/n/bed/command", MARK, qos=1, retain=True)
            stream = sink.stream("bed", MemoryOutbox(), commands.append, refused.put_nowait)
            stream.hear("", Online(True))
            await refused.get()  # the retained one: the subscription stands
            while not house.asked.is_set():
                await client.publish("house/status", b"x", qos=1)
            while len(sink._connection.client.messages) < QUEUED_COMMANDS:
                await client.publish("sleepstream/n/bed/command", MARK, qos=1)
            waiting = []
            for seq in range(500):
                await client.publish("sleepstream/n/bed/command", MARK, qos=0)
                if seq % 50 == 0:
                    stream.hear("", stage(seq))
                    await subscriber.until_count("stage", seq // 50 + 1)
                    waiting.append(len(sink._connection.client.messages))
        return waiting, commands

    waiting, commands = on_mosquitto(main)
    assert set(waiting) == {QUEUED_COMMANDS}
    assert commands == []
