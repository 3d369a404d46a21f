"""The MQTT sink against a real mosquitto: every topic as documented, live before late."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from streamer.clock import SystemClock
from streamer.errors import SettingsError
from streamer.news import Online, Urgent
from streamer.payloads import to_json
from streamer.sinks.mqtt import MqttSink
from streamer.sinks.settings import MqttSettings
from tests.cable import Cable
from tests.mosquitto import SUBSCRIBER, needs_mosquitto, on_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import PATIENCE_S, HandClock, Subscriber
from tests.sinks.samples import NIGHT, epoch, event, stage, summary

pytestmark = needs_mosquitto
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def settings(port, **more):
    return MqttSettings(**{"port": port, "retry_min_s": 0.05, "retry_max_s": 0.2, "timeout_s": 30} | more)


def assert_valid(kind, payload):
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text())
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(payload)


def put(outbox, *payloads, created=None):
    for payload in payloads:
        kind = payload.schema_.split("/")[1]
        outbox.append(kind, to_json(payload), time.time() if created is None else created)


def test_mosquitto_sub_sees_every_documented_topic():
    async def main(port):
        command = [SUBSCRIBER, "-h", "127.0.0.1", "-p", str(port), "-v", "-t", "sleepstream/#"]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        outbox, seen = MemoryOutbox(), {}
        try:
            async with MqttSink(settings(port), "node1", SystemClock()) as sink:
                stream = sink.stream("bed", outbox)
                stream.hear("", Online(True))
                await _read_until(process, seen, "bed/availability", "online")  # it has subscribed
                stream.hear("", stage(1))
                stream.hear("", summary(0))
                put(outbox, event(0), epoch(0))
                for kind in ("stage", "summary", "event", "epoch"):
                    await _read_until(process, seen, f"bed/{kind}")
            await _read_until(process, seen, "availability", "offline")
        finally:
            process.terminate()
            await process.communicate()
        return seen

    seen = on_mosquitto(main)
    assert set(seen) == {
        "sleepstream/node1/availability",
        "sleepstream/node1/engine",
        *(f"sleepstream/node1/bed/{kind}" for kind in ("availability", "stage", "epoch", "event", "summary")),
    }
    for kind in ("stage", "epoch", "event", "summary"):
        assert_valid(kind, json.loads(seen[f"sleepstream/node1/bed/{kind}"]))
    assert seen["sleepstream/node1/bed/availability"] == "offline"


async def _read_until(process, seen, topic, payload=None):
    """Read what mosquitto_sub prints until this topic has (this) payload."""
    topic = f"sleepstream/node1/{topic}"
    async with asyncio.timeout(PATIENCE_S):
        while topic not in seen or payload not in (None, seen[topic]):
            line = (await process.stdout.readline()).decode().rstrip("\n")
            seen[line.partition(" ")[0]] = line.partition(" ")[2]


def test_what_a_late_subscriber_finds_is_what_is_documented_as_retained():
    async def main(port):
        outbox = MemoryOutbox()
        async with MqttSink(settings(port, stage_expiry_s=77), "n", SystemClock()) as sink:
            stream = sink.stream("bed", outbox)
            stream.hear("", Online(True))
            stream.hear("", stage(1))
            stream.hear("", summary(2))
            put(outbox, event(3), epoch(4))
            await sink.flush()
            async with Subscriber(port) as late:
                await late.until(lambda heard: len(heard) >= 5)
                assert sink.status.protocol == "5"
                assert sink.status.published["epoch"] == sink.status.published["event"] == 1
                # a message that came after the subscription is not flagged as retained
                stream.hear("", stage(5))
                await late.until(lambda heard: len(heard) >= 6)
        return late.heard

    heard = on_mosquitto(main)
    found = {item.topic.removeprefix("sleepstream/n/"): item for item in heard[:5]}
    assert set(found) == {"availability", "engine", "bed/availability", "bed/stage", "bed/summary"}
    assert all(item.retain for item in heard[:5])
    assert 70 <= found["bed/stage"].expiry_s <= 77
    assert found["bed/summary"].expiry_s is None
    assert heard[5].json["seq"] == 5
    assert not heard[5].retain


@pytest.mark.slow
def test_a_stage_is_not_delayed_by_a_backlog_of_thousands_of_epochs():
    async def main(port):
        outbox = MemoryOutbox()
        async with Subscriber(port) as subscriber, MqttSink(settings(port), "n", SystemClock()) as sink:
            stream = sink.stream("bed", outbox)
            put(outbox, *(epoch(seq) for seq in range(2000)))
            await subscriber.until_count("epoch", 100)
            stream.hear("", stage(1))
            await subscriber.until_count("stage", 1)
            behind = len(outbox)
            await subscriber.until_count("epoch", 2000)
        return behind, [item["seq"] for item in subscriber.of("epoch")]

    behind, order = on_mosquitto(main)
    assert behind > 500  # it came while these still waited
    assert list(dict.fromkeys(order)) == list(range(2000))  # at least once: some twice, if the link was cut


def test_only_the_newest_stage_is_kept_while_nobody_listens():
    async def main(port):
        async with MqttSink(settings(port), "n", SystemClock()) as sink:
            stream = sink.stream("bed", MemoryOutbox())
            for seq in range(1000):
                stream.hear("", stage(seq))
            await sink.flush()
            assert sink.status.published["stage"] == 1
            async with Subscriber(port) as subscriber:
                await subscriber.until_count("stage", 1)
        return subscriber.of("stage")

    assert [item["seq"] for item in on_mosquitto(main)] == [999]


def test_a_late_epoch_is_marked_and_otherwise_unchanged():
    async def main(port):
        outbox = MemoryOutbox()
        clock = HandClock(NIGHT)
        put(outbox, epoch(0), event(0), created=NIGHT - 60.1)
        put(outbox, epoch(1), created=NIGHT - 59.9)
        async with Subscriber(port) as subscriber, MqttSink(settings(port), "n", clock) as sink:
            sink.stream("bed", outbox)
            await subscriber.until_count("epoch", 2)
        return subscriber

    subscriber = on_mosquitto(main)
    late, live = subscriber.of("epoch")
    assert late == json.loads(to_json(epoch(0))) | {"historical": True}
    assert live == json.loads(to_json(epoch(1)))
    assert subscriber.of("event") == [json.loads(to_json(event(0))) | {"historical": True}]
    assert_valid("epoch", late)


def test_streams_may_come_before_and_after_the_connection_and_do_not_mix():
    async def main(port):
        boxes = [MemoryOutbox(), MemoryOutbox()]
        async with Subscriber(port) as subscriber, MqttSink(settings(port), "n", SystemClock()) as sink:
            sink.stream("left", boxes[0])
            put(boxes[0], epoch(0))
            await subscriber.until_count("epoch", 1)
            sink.stream("right", boxes[1]).hear("", Online(True))
            put(boxes[1], epoch(1))
            await subscriber.until_count("epoch", 2)
        return [(item.topic, item.json["seq"]) for item in subscriber.heard if "epoch" in item.topic]

    heard = on_mosquitto(main)
    assert heard == [("sleepstream/n/left/epoch", 0), ("sleepstream/n/right/epoch", 1)]


@pytest.mark.parametrize("name", ["a/b", "#", "+", "", "a b", "é", "a\n", "x" * 65])
def test_names_cannot_reach_beyond_their_topic_level(name):
    with pytest.raises(SettingsError, match="topic level"):
        MqttSink(MqttSettings(), name, SystemClock())
    with pytest.raises(SettingsError, match="topic level"):
        MqttSink(MqttSettings(), "n", SystemClock()).stream(name, MemoryOutbox())


def test_two_streams_of_one_name_are_refused():
    sink = MqttSink(MqttSettings(), "n", SystemClock())
    sink.stream("bed", MemoryOutbox())
    with pytest.raises(SettingsError, match="two streams"):
        sink.stream("bed", MemoryOutbox())


def test_an_urgent_event_is_said_at_once_and_its_parcel_not_again():
    async def main(port):
        outbox = MemoryOutbox()
        async with Subscriber(port) as subscriber, MqttSink(settings(port), "n", SystemClock()) as sink:
            stream = sink.stream("bed", outbox)
            stream.hear("", Online(True))
            await subscriber.until_says("sleepstream/n/bed/availability", b"online")
            stream.hear("", Urgent(event(0)))  # the disk has not got it yet
            await subscriber.until_count("event", 1)
            await sink.flush()
            put(outbox, event(0), event(1))
            await subscriber.until_count("event", 2)
            await sink.flush()
            assert len(outbox) == 0
        return subscriber

    subscriber = on_mosquitto(main)
    assert [item["seq"] for item in subscriber.of("event")] == [0, 1]
    assert not any(item.retain for item in subscriber.heard if item.topic.endswith("/event"))


def test_an_urgent_event_overtakes_a_backlog():
    async def main(port):
        outbox = MemoryOutbox()
        put(outbox, *(epoch(seq) for seq in range(3000)))
        async with Subscriber(port) as subscriber, MqttSink(settings(port), "n", SystemClock()) as sink:
            stream = sink.stream("bed", outbox)
            await subscriber.until_count("epoch", 1)
            stream.hear("", Urgent(event(7)))
            await subscriber.until_count("event", 1)
            return len(subscriber.of("epoch"))

    assert on_mosquitto(main) < 1500


def test_an_urgent_event_without_a_broker_comes_late_from_the_outbox_alone():
    async def main(port):
        outbox = MemoryOutbox()
        async with (
            Subscriber(port) as subscriber,
            Cable(port, open_=False) as cable,
            MqttSink(settings(cable.port), "n", SystemClock()) as sink,
        ):
            stream = sink.stream("bed", outbox)
            for seq in range(100):  # more than may wait
                stream.hear("", Urgent(event(seq)))
            put(outbox, event(99), created=time.time() - 3600)
            cable.open = True
            await subscriber.until_count("event", 1)
            await sink.flush()
            return subscriber.of("event")

    (late,) = on_mosquitto(main)
    assert late == json.loads(to_json(event(99))) | {"historical": True}
