"""Triggers in a whole engine: a simulated night with known truth, real LSL and MQTT outlets, restarts."""

import asyncio
import json
import socket
from itertools import pairwise

import pylsl

from streamer.clock import SystemClock
from streamer.journal import JournalReader
from streamer.live.engine import Engine
from streamer.messages import EPOCH_S, STAGES
from streamer.reactions.settings import TriggerSettings
from streamer.reactions.triggers import is_sham
from streamer.settings import validate
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource
from tests.fakes import Witness, held
from tests.mosquitto import Mosquitto, needs_mosquitto, on_mosquitto
from tests.sinks.fakes import Subscriber

TMR = {
    "name": "tmr",
    "stages": ["N3"],
    "min_probability": 0.6,
    "dwell_s": 60,
    "refractory_s": 30,
    "warmup": True,
}


def engine(folder, trigger, witness, hours, speed="max", hop_s=10, mqtt=None, lsl=None, sources=None):
    source = {"kind": "simulated", "hours": hours, "speed": speed, "seed": 3}
    stream = {"name": "anna", "hop_s": hop_s, "source": source, "trigger": trigger}
    data = {"node": "test", "session_dir": str(folder), "stream": [stream], "mqtt": mqtt, "lsl": lsl}
    return Engine(validate(data, "test"), SystemClock(), witness, sources=sources)


def fired(witness):
    return [event for event in witness.events if event.event == "trigger"]


def test_over_a_simulated_night_it_fires_only_where_it_is_allowed(tmp_path):
    witness = Witness()
    (outcome,) = asyncio.run(engine(tmp_path, [TMR], witness, 1.5).run())
    truth = SimulatedSource(SimulatedSettings(hours=1.5, seed=3)).truth
    stages = {
        round(one.t_end.timestamp() - witness.stages[0].t_end.timestamp()): one for one in witness.stages
    }
    with JournalReader(outcome.session) as session:
        firings = [event.data for event in session.events() if event.event == "trigger"]
    assert len(firings) >= 10
    first_end = 30  # seconds of signal behind the first score
    right = 0
    for firing in firings:
        end = firing["end"]
        for back in range(0, 61, 10):  # every hop of the dwell, as it was published
            one = stages[round(end) - back - first_end]
            assert one.stage == "N3"
            assert one.probabilities.N3 >= 0.6
        assert firing["dwell_s"] >= 60
        assert firing["p_N3"] == stages[round(end) - first_end].probabilities.N3
        assert sum(firing[f"p_{stage}"] for stage in STAGES) < 1.001
        right += truth[int(end // EPOCH_S) - 1] == "N3"
    ends = [firing["end"] for firing in firings]
    assert all(later - earlier >= 30 for earlier, later in pairwise(ends))
    assert right / len(firings) > 0.8
    assert [firing["number"] for firing in firings] == list(range(len(firings)))


@needs_mosquitto
def test_one_firing_is_a_marker_a_message_a_datagram_and_a_record(tmp_path):
    async def scenario(port, udp):
        witness = Witness()
        trigger = [
            {
                **TMR,
                "dwell_s": 0,
                "min_probability": 0,
                "stages": list(STAGES),
                "quality": "off",
                "arousal": None,
            }
        ]
        trigger[0]["action"] = {"udp": "{name} {stage}", "port": udp}
        trigger[0]["max_per_night"] = 1
        listened = asyncio.Event()
        lsl, source = {"prefix": "reflex"}, held(listened.is_set)
        made = engine(tmp_path, trigger, witness, 1, 30, 1, {"port": port}, lsl, source)
        async with Subscriber(port) as client:
            running = asyncio.create_task(made.run())
            await witness.until(lambda: witness.sessions)
            (found,) = await asyncio.to_thread(pylsl.resolve_byprop, "name", "reflex-anna-markers", 1, 60)
            inlet = pylsl.StreamInlet(found)
            await asyncio.to_thread(inlet.open_stream, 60)
            listened.set()
            await witness.until(lambda: fired(witness))
            heard = asyncio.create_task(
                client.until(lambda _: any(one["event"] == "trigger" for one in client.of("event")))
            )
            marks = []
            while not marks or not marks[-1].startswith("Trigger"):
                marks.append((await asyncio.to_thread(inlet.pull_sample, 60))[0][0])
            await heard
            made.stop()
            (outcome,) = await running
            said = [one for one in client.of("event") if one["event"] == "trigger"]
        return marks, said, outcome

    with Mosquitto() as broker, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(60)
        marks, said, outcome = asyncio.run(scenario(broker.port, listening.getsockname()[1]))
        packet = listening.recv(1024)
    with JournalReader(outcome.session) as session:
        (record,) = (
            json.loads(one.model_dump_json(by_alias=True))
            for one in session.events()
            if one.event == "trigger"
        )
    assert marks[-1] == f"Trigger: {record['text']}"
    assert all(one == record for one in said)  # perhaps twice: at least once
    assert packet.decode() == f"tmr {record['data']['stage']}"
    assert record["data"]["latency_ms"] > 0


def test_a_blinded_sham_is_told_to_nobody_but_the_list_of_arms(tmp_path):
    witness = Witness()
    trigger = {**TMR, "dwell_s": 0, "refractory_s": 0, "sham": 0.5, "seed": 5, "blind": True}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        trigger["action"] = {"udp": "{name}", "port": listening.getsockname()[1]}
        (outcome,) = asyncio.run(engine(tmp_path, [trigger], witness, 1).run())
        packets = 0
        try:
            while listening.recv(100):
                packets += 1
        except BlockingIOError:
            pass
    events = fired(witness)
    assert len(events) > 20
    assert {event.data["arm"] for event in events} == {"blinded"}
    assert not any("sham" in event.model_dump_json() for event in events)
    lines = [json.loads(line) for line in outcome.session.with_suffix(".arms.jsonl").read_text().splitlines()]
    settings = TriggerSettings.model_validate(trigger)
    assert [line["arm"] == "sham" for line in lines] == [
        is_sham(settings, events[0].session, k) for k in range(len(events))
    ]
    assert packets == sum(line["arm"] == "active" for line in lines)
    assert 0 < packets < len(lines)


@needs_mosquitto
def test_triggers_are_armed_and_disarmed_by_command(tmp_path):
    async def scenario(port):
        witness = Witness()
        trigger = {**TMR, "armed": False, "stages": list(STAGES), "min_probability": 0, "dwell_s": 0}
        made = engine(tmp_path, [trigger], witness, 8, 60, 1, {"port": port})
        async with Subscriber(port) as client:
            running = asyncio.create_task(made.run())
            await witness.until(lambda: len(witness.stages) > 5)
            assert not fired(witness)

            async def send(command, text=""):
                body = json.dumps({"command": command, "text": text})
                await client._client.publish("sleepstream/test/anna/command", body, qos=1)

            await send("arm_trigger", "none")
            await send("arm_trigger", "tmr")
            await witness.until(lambda: fired(witness))
            await send("disarm_trigger")
            await witness.until(lambda: [e for e in witness.events if e.data.get("armed") is False])
            made.stop()
            await running
        return witness

    witness = on_mosquitto(scenario)
    assert "no trigger is named 'none'" in next(e.text for e in witness.events if e.event == "refused")
    assert [e.text for e in witness.events if e.event == "mark"] == ["tmr armed", "all triggers disarmed"]
