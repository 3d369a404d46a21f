"""A node name is held by a process that provably lives, or by nobody: a wait has an end."""

import asyncio
import contextlib
from datetime import UTC, datetime

import aiomqtt
import pytest
from aiomqtt import ProtocolVersion

from streamer.clock import SystemClock
from streamer.payloads import EnginePayload, to_json
from streamer.sinks import standby
from streamer.sinks.mqtt import MqttSink
from streamer.sinks.standby import until_free
from streamer.sinks.topics import ask_topic, availability_topic, engine_topic
from tests.cable import Cable
from tests.mosquitto import Mosquitto, needs_mosquitto, on_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import Subscriber
from tests.sinks.samples import epoch
from tests.sinks.test_mqtt import put, settings
from tests.sinks.test_mqtt_outage import Watch

pytestmark = needs_mosquitto


def note(instance):
    return EnginePayload(
        instance=instance, host="pi", version="0.1.0", started=datetime(2026, 1, 1, tzinfo=UTC)
    )


OURS, OTHER = note("ours"), note("other")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    for name, seconds in (("LOOK_S", 0.3), ("ASK_S", 0.1), ("PROOF_S", 0.4)):
        monkeypatch.setattr(standby, name, seconds)


@pytest.fixture
def patient(monkeypatch):
    """Who is asked has a minute to answer, and whoever waits for the name to be told."""
    for name in ("LOOK_S", "PROOF_S"):
        monkeypatch.setattr(standby, name, 60.0)


class Told:
    """Every message that whoever waits has heard; the event loop's time can be put forward."""

    def __init__(self, monkeypatch):
        self.heard = asyncio.Queue()
        self.ahead_s = 0.0
        loop = asyncio.get_running_loop()
        time = loop.time
        loop.time = lambda: time() + self.ahead_s
        hear = standby._Watch.hear

        def hears(watch, message, node, now):
            hear(watch, message, node, now)
            self.heard.put_nowait(message)

        monkeypatch.setattr(standby._Watch, "hear", hears)

    async def until_answered(self):
        while (await self.heard.get()).retain:
            pass


@contextlib.asynccontextmanager
async def remembered(port, instance=OTHER, online=b"online"):
    """A client at a broker that remembers somebody under our name."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.publish(engine_topic("n"), to_json(instance), 1, retain=True)
        await client.publish(availability_topic("n"), online, 1, retain=True)
        yield client


async def wait(port, stopping=None, version=ProtocolVersion.V5, ousted=False):
    """Whom we have waited for."""
    told = []
    stopping = stopping or asyncio.Event()
    async with asyncio.timeout(600):
        await until_free(
            settings(port, timeout_s=600), None, "n", OURS, version, told.append, stopping, ousted
        )
    return told


@pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V311])
@pytest.mark.parametrize("online", [b"online", b"offline"])
def test_nobody_waits_for_what_a_broker_remembers_of_a_dead_process(online, version):
    async def main(port):
        async with remembered(port, online=online):
            return await wait(port, version=version)

    assert on_mosquitto(main) == []


@pytest.mark.parametrize("instance", [OURS, None])
def test_a_name_that_nobody_else_has_had_is_free(instance):
    async def main(port):
        if instance is None:
            return await wait(port)
        async with remembered(port, instance):
            return await wait(port)

    assert on_mosquitto(main) == []


def test_who_has_taken_the_name_is_waited_for_although_its_note_comes_later(patient, monkeypatch):
    async def main(port):
        async with remembered(port, OURS) as client:
            await client.subscribe(ask_topic("n"))
            told = Told(monkeypatch)
            waiting = asyncio.create_task(wait(port, ousted=True))
            while not (await told.heard.get()).topic.matches(engine_topic("n")):
                pass
            await anext(client.messages)
            await client.publish(engine_topic("n"), to_json(OTHER), 1, retain=True)
            await told.until_answered()
            told.ahead_s += 70
            return await waiting

    assert on_mosquitto(main) == [OTHER]


def test_who_answers_is_waited_for_until_it_answers_no_more(patient, monkeypatch):
    async def main(port):
        async with remembered(port) as client:
            await client.subscribe(ask_topic("n"))
            told = Told(monkeypatch)
            waiting = asyncio.create_task(wait(port))
            for _ in range(3):
                await anext(client.messages)
                await client.publish(engine_topic("n"), to_json(OTHER), 1, retain=True)
                await told.until_answered()
                told.ahead_s += 40  # twice that is longer than a proof holds
            await anext(client.messages)
            assert not waiting.done()
            told.ahead_s += 40
            return await waiting

    assert on_mosquitto(main) == [OTHER]


def test_a_stop_ends_the_wait(patient):
    async def main(port):
        stopping = asyncio.Event()
        async with remembered(port) as client:
            await client.subscribe(ask_topic("n"))
            waiting = asyncio.create_task(wait(port, stopping))
            await anext(client.messages)
            stopping.set()
            return await waiting

    assert on_mosquitto(main) == []


def test_an_engine_answers_who_asks_for_it():
    async def main(port):
        watch = Watch()
        async with (
            Subscriber(port, engine_topic("n")) as heard,
            MqttSink(settings(port), "n", SystemClock(), watch),
        ):
            await heard.until(lambda said: len(said) == 1)
            async with aiomqtt.Client("127.0.0.1", port) as client:
                async with asyncio.timeout(60):
                    while len(heard.heard) < 2:  # until its subscription stands
                        await client.publish(ask_topic("n"), "who", 1)
                        await asyncio.sleep(0.01)
        return {item.payload for item in heard.heard}, [item.retain for item in heard.heard]

    said, retained = on_mosquitto(main)
    assert len(said) == 1
    assert retained[1] is False


def test_a_broker_that_comes_back_with_an_old_memory_gets_its_engine_back():
    async def main(broker):
        watch, box = Watch(), MemoryOutbox()
        async with (
            Cable(broker.port) as cable,
            MqttSink(settings(cable.port), "n", SystemClock(), watch) as sink,
        ):
            sink.stream("bed", box)
            await watch.until(lambda status: status.connected)
            cable.open = False
            broker.kill()
            await watch.until(lambda status: status.last_error)
            put(box, epoch(1))
            broker.start()
            async with remembered(broker.port), Subscriber(broker.port) as subscriber:
                cable.open = True
                await subscriber.until_count("epoch", 1)

    with Mosquitto() as broker:
        asyncio.run(main(broker))
