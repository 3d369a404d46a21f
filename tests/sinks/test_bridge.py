"""The bridge that docs/fleets.md shows, between two real mosquittos: nights go up, commands come down."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiomqtt

from streamer.clock import SystemClock
from streamer.payloads import to_json
from streamer.sinks.mqtt import MqttSink
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import PATIENCE_S, Subscriber
from tests.sinks.samples import epoch, stage
from tests.sinks.test_mqtt import put, settings

pytestmark = needs_mosquitto
FLEETS = Path(__file__).parents[2] / "docs" / "fleets.md"


def test_a_site_is_seen_at_the_centre_and_hears_its_commands() -> None:
    async def main(site: int, centre: int) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        async with Subscriber(centre) as above, MqttSink(settings(site), "bed07", SystemClock()) as sink:
            outbox = MemoryOutbox()
            stream = sink.stream("patient", outbox, lambda command: heard.put_nowait(command.command))
            stream.hear("", stage(0))
            put(outbox, epoch(0), epoch(1))
            await above.until_count("epoch", 2)
            await above.until_says("sleepstream/bed07/availability", b"online")
            await above.until_says("sleepstream/bed07/patient/stage", to_json(stage(0)).encode())
            async with aiomqtt.Client("127.0.0.1", centre) as doctor:
                order = json.dumps({"command": "mark", "text": "round"})
                await doctor.publish("sleepstream/bed07/patient/command", order, qos=1)
                async with asyncio.timeout(PATIENCE_S):
                    assert await heard.get() == "mark"

    (lines,) = re.findall(r"```bridge\n(.*?)```", FLEETS.read_text(encoding="utf-8"), re.DOTALL)
    with Mosquitto() as centre:
        bridge = lines.replace("centre.lab:1883", f"127.0.0.1:{centre.port}").splitlines()
        with Mosquitto(*bridge) as site:
            asyncio.run(main(site.port, centre.port))
