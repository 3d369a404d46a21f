"""The MQTT sink when the broker is away, dies, hangs, refuses: nothing lost, in order, nothing rewritten."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from aiomqtt import MqttCodeError, MqttError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from streamer.clock import SystemClock
from streamer.errors import SettingsError
from streamer.news import Online
from streamer.payloads import to_json
from streamer.sinks import client, mqtt, standby
from streamer.sinks.client import explain
from streamer.sinks.mqtt import MqttSink
from tests.cable import Cable
from tests.mosquitto import Mosquitto, free_port, needs_mosquitto, on_mosquitto
from tests.outbox import MemoryOutbox
from tests.patience import PROMISED_S
from tests.sinks.fakes import PATIENCE_S, HandClock, Subscriber
from tests.sinks.samples import NIGHT, epoch, stage
from tests.sinks.test_mqtt import put, settings

pytestmark = needs_mosquitto


class Watch:
    """Collects every status and wakes whoever waits for a certain one."""

    def __init__(self):
        self.seen = []
        self._more = asyncio.Event()

    def __call__(self, status):
        self.seen.append(status)
        self._more.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not any(condition(status) for status in self.seen):
                self._more.clear()
                await self._more.wait()


def without_repeats(epochs):
    """First occurrences, in order; a repeat must be the same epoch but for `historical`."""
    first = {}
    for item in epochs:
        kept = first.setdefault(item["seq"], item)
        assert item | {"historical": None} == kept | {"historical": None}
    return list(first)


@pytest.mark.slow
def test_a_broker_killed_in_mid_delivery_and_restarted_gets_everything_in_order():
    async def main(broker):
        outbox, watch = MemoryOutbox(), Watch()
        async with (
            Cable(broker.port) as cable,
            MqttSink(settings(cable.port), "n", SystemClock(), watch) as sink,
        ):
            stream = sink.stream("bed", outbox)
            stream.hear("", Online(True))
            async with Subscriber(broker.port) as before:
                put(outbox, *(epoch(seq) for seq in range(600)))
                await before.until_count("epoch", 100)
                cable.open = False
                broker.kill()
                await before.until_disconnected()
                await watch.until(lambda status: status.last_error)
                stream.hear("", stage(7))
            assert not sink.status.connected
            assert sink.status.backlog > 0
            broker.start()
            async with Subscriber(broker.port) as after:
                cable.open = True
                await after.until(lambda heard: any(b'"seq":599,' in item.payload for item in heard))
                await after.until_count("stage", 1)
                await after.until_says("sleepstream/n/bed/availability", b"online")
            await sink.flush()
            assert sink.status.reconnects >= 1
            assert sink.status.last_error == ""
        return before.of("epoch") + after.of("epoch")

    with Mosquitto() as broker:
        epochs = asyncio.run(main(broker))
    assert without_repeats(epochs) == list(range(600))
    assert len(epochs) < 600 + 20  # repeats: what was in flight, no more


def test_a_broker_that_is_away_at_the_start_gets_everything_later_as_historical():
    async def main(broker):
        broker.kill()
        outbox, watch, clock = MemoryOutbox(), Watch(), HandClock(NIGHT)
        async with (
            Cable(broker.port, open_=False) as cable,
            MqttSink(settings(cable.port), "n", clock, watch) as sink,
        ):
            sink.stream("bed", outbox)
            put(outbox, *(epoch(seq) for seq in range(3)), created=NIGHT)
            await watch.until(lambda status: status.last_error)
            assert str(cable.port) in sink.status.last_error
            assert "\n" not in sink.status.last_error
            clock.now += 3600
            put(outbox, epoch(3), created=clock.now)
            broker.start()
            async with Subscriber(broker.port) as subscriber:
                cable.open = True
                return await subscriber.until_count("epoch", 4)

    with Mosquitto() as broker:
        epochs = asyncio.run(main(broker))
    assert [(item["seq"], item["historical"]) for item in epochs] == [
        (0, True),
        (1, True),
        (2, True),
        (3, False),
    ]


def test_the_last_will_speaks_when_the_connection_dies_and_online_follows():
    async def main(port):
        async with Cable(port) as cable, Subscriber(port, "+/+/availability") as subscriber:
            async with MqttSink(settings(cable.port), "n", SystemClock()):
                await subscriber.until_says("sleepstream/n/availability", b"online")
                cable.open = False
                cable.cut()
                await subscriber.until_says("sleepstream/n/availability", b"offline")
                async with Subscriber(port, "+/+/availability") as late:
                    await late.until_says("sleepstream/n/availability", b"offline")
                    assert late.heard[0].retain
                cable.open = True
                await subscriber.until(lambda heard: len(heard) == 3)
            await subscriber.until(lambda heard: len(heard) == 4)
        return [item.payload for item in subscriber.heard]

    assert on_mosquitto(main) == [b"online", b"offline", b"online", b"offline"]


def test_a_stage_that_has_expired_meanwhile_is_not_said_again():
    async def main(broker):
        watch, clock = Watch(), HandClock()
        async with (
            Cable(broker.port, open_=False) as cable,
            MqttSink(settings(cable.port, stage_expiry_s=600), "n", clock, watch) as sink,
        ):
            stream = sink.stream("bed", MemoryOutbox())
            stream.hear("", stage(1))
            clock.later_s = 601
            async with Subscriber(broker.port) as subscriber:
                cable.open = True
                await watch.until(lambda status: status.connected)
                await sink.flush()
                stream.hear("", stage(2))
                return await subscriber.until_count("stage", 1)

    with Mosquitto() as broker:
        assert [item["seq"] for item in asyncio.run(main(broker))] == [2]


@pytest.mark.parametrize("half_open", [False, True])
def test_a_connection_that_is_up_but_passes_nothing_is_given_up(half_open):
    async def main(port):
        outbox, watch = MemoryOutbox(), Watch()
        async with (
            Cable(port) as cable,
            Subscriber(port) as subscriber,
            MqttSink(settings(cable.port), "n", SystemClock(), watch) as sink,
        ):
            sink.stream("bed", outbox)
            await watch.until(lambda status: status.connected)
            sink._connection.client.timeout = 0.5  # of this connection; the next has time
            if half_open:
                cable.orphan()
            else:
                cable.hold()
            put(outbox, epoch(0))
            await watch.until(lambda status: status.last_error)
            assert any("does not answer" in status.last_error for status in watch.seen)
            assert sink.status.backlog == 1
            cable.release()
            await subscriber.until_count("epoch", 1)
            assert sink.status.protocol == "5"

    on_mosquitto(main)


@pytest.mark.parametrize("right", [False, True])
def test_user_and_password_come_from_the_environment(tmp_path, monkeypatch, right):
    monkeypatch.setenv("SLEEPSTREAM_MQTT_USER", "sleeper")
    monkeypatch.setenv("SLEEPSTREAM_MQTT_PASSWORD", "right" if right else "wrong")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "sleeper", "right"], check=True)
    tmp_path.chmod(0o755)
    passwords.chmod(0o644)

    async def main(port):
        watch = Watch()
        async with MqttSink(settings(port), "n", SystemClock(), watch):
            await watch.until(lambda status: status.connected or status.last_error)
        return watch.seen[0]

    with Mosquitto(f"password_file {passwords}", anonymous=False) as broker:
        status = asyncio.run(main(broker.port))
    assert status.connected == right
    assert ("SLEEPSTREAM_MQTT_PASSWORD" in status.last_error) != right
    assert "wrong" not in status.last_error


def test_a_message_that_the_broker_refuses_is_not_counted_as_delivered(tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite sleepstream/n/availability\ntopic read #\n")
    tmp_path.chmod(0o755)

    async def main(port):
        outbox, watch, sink_settings = MemoryOutbox(), Watch(), settings(port)
        async with (
            Subscriber(port) as subscriber,
            MqttSink(sink_settings, "n", SystemClock(), watch) as sink,
        ):
            sink.stream("bed", outbox)
            put(outbox, epoch(0))
            await watch.until(lambda status: "refuses a message" in status.last_error)
            await watch.until(
                lambda status: status.connected and "sleepstream/n/bed/epoch" in status.left_out
            )
            await subscriber.until_says("sleepstream/n/availability", b"online")  # the rest goes on
            return len(outbox), sink.status.published.get("epoch", 0)

    with Mosquitto(f"acl_file {rules}") as broker:
        assert asyncio.run(main(broker.port)) == (1, 0)


def test_another_process_with_the_same_node_is_named_as_the_trouble():
    lost = MqttError("Disconnected during message iteration")
    lost.__cause__ = MqttCodeError(ReasonCode(PacketTypes.DISCONNECT, "Session taken over"))
    assert "give each its own `node`" in explain(lost, settings(1883))


@pytest.mark.slow
def test_the_older_of_two_processes_of_one_name_stands_by_and_returns_when_the_other_has_gone(monkeypatch):
    for name in ("LOOK_S", "PROOF_S"):
        monkeypatch.setattr(standby, name, PATIENCE_S)

    # Before it looks who has the name, whoever has taken it must have had the time to say so.
    rests = {"retry_min_s": 2.0, "retry_max_s": 2.0}

    async def main(port):
        first_box, second_box, watch = MemoryOutbox(), MemoryOutbox(), Watch()
        async with (
            Subscriber(port) as subscriber,
            MqttSink(settings(port, **rests), "n", SystemClock(), watch) as first,
        ):
            first.stream("bed", first_box)
            await watch.until(lambda status: status.connected)
            async with MqttSink(settings(port), "n", SystemClock()) as second:
                second.stream("sofa", second_box)
                await watch.until(lambda status: "give each its own `node`" in status.last_error)
                put(first_box, epoch(7))
                put(second_box, *(epoch(seq) for seq in range(500)))
                await subscriber.until(lambda heard: sum("sofa" in item.topic for item in heard) >= 500)
                assert second.status.reconnects == 0  # it was left alone
                assert len(first_box) == 1  # nothing lost
            await subscriber.until_says("sleepstream/n/bed/epoch", to_json(epoch(7)).encode())
            assert first.status.reconnects == 1

    with Mosquitto() as broker:
        asyncio.run(main(broker.port))
        came = [line for line in broker.log if "New client connected" in line]
    assert sum("as sleepstream-n-waits-" in line for line in came) == 1
    assert sum("as sleepstream-n (" in line for line in came) == 3


@pytest.mark.parametrize("state", ["absent", "frozen", "cut off", "silent at the greeting"])
def test_stopping_does_not_wait_for_the_broker_whatever_that_does(monkeypatch, state):
    for name in ("DRAIN_S", "GOODBYE_S", "STOP_S"):
        monkeypatch.setattr(mqtt, name, 0.2)
    monkeypatch.setattr(client, "CONNECT_S", 0.2)

    async def main(broker):
        outbox, watch = MemoryOutbox(), Watch()
        async with Cable(broker.port) as cable:
            port = free_port() if state == "absent" else cable.port
            if state == "silent at the greeting":
                broker.freeze()
            sink = MqttSink(settings(port, timeout_s=6000), "n", SystemClock(), watch)
            async with asyncio.timeout(PATIENCE_S), sink:
                sink.stream("bed", outbox).hear("", Online(True))
                put(outbox, epoch(0))
                if state == "silent at the greeting":
                    await asyncio.sleep(0.2)
                else:
                    await watch.until(lambda status: status.connected or status.last_error)
                if state == "frozen":
                    await sink.flush()
                    broker.freeze()
                elif state == "cut off":
                    await sink.flush()
                    cable.hold()
                put(outbox, epoch(1))
        return len(outbox)

    with Mosquitto() as broker:
        left = asyncio.run(main(broker))
        broker.thaw()
    assert left >= 1
    assert PROMISED_S["streamer.sinks.mqtt.STOP_S"] + PROMISED_S["streamer.sinks.mqtt.GOODBYE_S"] < 3


def test_a_fault_of_ours_is_reported_and_the_connection_begun_again():
    class Broken(MemoryOutbox):
        faults = 1

        async def after(self, last_id):
            if self.faults:
                self.faults -= 1
                raise ZeroDivisionError("ours")
            return await super().after(last_id)

    async def main(port):
        watch = Watch()
        async with MqttSink(settings(port), "n", SystemClock(), watch) as sink:
            outbox = Broken()
            sink.stream("bed", outbox)
            await watch.until(lambda status: "internal error: ZeroDivisionError" in status.last_error)
            put(outbox, epoch(0))
            async with asyncio.timeout(60):
                await sink.flush()

    on_mosquitto(main)


@pytest.mark.parametrize("word", ["\udcff", "x" * 65_536])
@pytest.mark.parametrize("name", ["SLEEPSTREAM_MQTT_USER", "SLEEPSTREAM_MQTT_PASSWORD"])
def test_a_login_that_can_never_be_sent_is_refused_at_the_start(monkeypatch, name, word):
    monkeypatch.setitem(client.os.environ, name, word)
    with pytest.raises(SettingsError, match=name) as caught:
        MqttSink(settings(1883), "n", SystemClock())
    assert word not in str(caught.value)
