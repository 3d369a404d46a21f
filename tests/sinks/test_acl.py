"""The access rules that docs/fleets.md shows, in a real mosquitto: each engine below its own name only."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import aiomqtt
import pytest

from streamer.clock import SystemClock
from streamer.commands.command import tell
from streamer.errors import SinkError
from streamer.payloads import CommandPayload
from streamer.sinks.mqtt import MqttSink
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import Subscriber
from tests.sinks.samples import epoch, stage, summary
from tests.sinks.test_mqtt import put, settings
from tests.sinks.test_mqtt_outage import Watch

pytestmark = needs_mosquitto
FLEETS = Path(__file__).parents[2] / "docs" / "fleets.md"


@pytest.fixture
def broker(tmp_path: Path):
    (rules,) = re.findall(r"```acl\n(.*?)```", FLEETS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "acl").write_text(rules)
    for number, user in enumerate(("ward3-bed07", "ward3-bed08", "nurse")):
        create = ["-c"] if number == 0 else []
        subprocess.run(["mosquitto_passwd", "-b", *create, str(tmp_path / "users"), user, user], check=True)
    for path in (tmp_path, tmp_path / "acl", tmp_path / "users"):
        path.chmod(0o755)
    options = f"acl_file {tmp_path / 'acl'}", f"password_file {tmp_path / 'users'}"
    with Mosquitto(*options, anonymous=False) as running:
        yield running


def log_in(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("SLEEPSTREAM_MQTT_USER", user)
    monkeypatch.setenv("SLEEPSTREAM_MQTT_PASSWORD", user)


def test_an_engine_writes_below_its_own_name_and_a_reader_reads_all(broker, monkeypatch) -> None:
    async def main() -> set[str]:
        topics: set[str] = set()
        nurse = aiomqtt.Client("127.0.0.1", broker.port, username="nurse", password="nurse")
        async with nurse, MqttSink(settings(broker.port), "ward3-bed07", SystemClock()) as sink:
            await nurse.subscribe("sleepstream/#")
            outbox = MemoryOutbox()
            stream = sink.stream("patient", outbox)
            stream.hear("", stage(0))
            put(outbox, epoch(0))
            async for message in nurse.messages:
                topics.add(str(message.topic).removeprefix("sleepstream/ward3-bed07/"))
                if {"patient/stage", "patient/epoch", "engine", "availability"} <= topics:
                    break
            assert sink.status.last_error == ""
        return topics

    log_in(monkeypatch, "ward3-bed07")
    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("user", ["ward3-bed08", "nurse"])
def test_nobody_writes_below_the_name_of_another(broker, monkeypatch, user: str) -> None:
    async def main() -> None:
        watch = Watch()
        async with MqttSink(settings(broker.port), "ward3-bed07", SystemClock(), watch) as sink:
            put(outbox := MemoryOutbox(), epoch(0))
            sink.stream("patient", outbox)
            await watch.until(lambda status: "check what this user may publish" in status.last_error)
            assert len(outbox) == 1

    log_in(monkeypatch, user)
    asyncio.run(main())


def test_a_topic_that_a_real_broker_denies_costs_that_topic_and_one_reconnection_at_most(tmp_path):
    (tmp_path / "acl").write_text("topic readwrite #\ntopic deny sleepstream/n/bed/summary\n")
    for path in (tmp_path, tmp_path / "acl"):
        path.chmod(0o755)

    async def main(port: int) -> None:
        watch, outbox = Watch(), MemoryOutbox()
        async with (
            Subscriber(port) as subscriber,
            MqttSink(settings(port), "n", SystemClock(), watch) as sink,
        ):
            stream = sink.stream("bed", outbox)
            stream.hear("", summary(0))
            await watch.until(lambda status: status.connected and bool(status.left_out))
            for seq in range(20):
                stream.hear("", stage(seq))
                stream.hear("", summary(seq))
                put(outbox, epoch(seq))
                await subscriber.until_count("epoch", seq + 1)
            await sink.flush()
            assert subscriber.of("stage")[-1]["seq"] == 19
            assert subscriber.of("summary") == []
            assert sink.status.left_out == ("sleepstream/n/bed/summary",)
            assert sink.status.reconnects <= 1
        assert sum("that topic is left out" in status.last_error for status in watch.seen) == 1

    with Mosquitto(f"acl_file {tmp_path / 'acl'}") as broker:
        asyncio.run(asyncio.wait_for(main(broker.port), 60))


def test_who_may_not_command_an_engine_is_told_so(broker, monkeypatch) -> None:
    log_in(monkeypatch, "ward3-bed08")
    asked = CommandPayload(command="stop", id="a")
    with pytest.raises(
        SinkError, match="is this user allowed to publish to sleepstream/ward3-bed07/anna/command"
    ):
        asyncio.run(tell(settings(broker.port), "ward3-bed07", "anna", asked, 5.0))
