"""A whole engine: a real broker and client, several sleepers, a source that fails, live against file."""

import asyncio
import gc
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from streamer.clock import SystemClock
from streamer.journal import JournalReader
from streamer.live.engine import Engine
from streamer.settings import validate
from streamer.sinks.commands import BURST
from streamer.sinks.publisher import Publisher
from tests.fakes import Witness, settle
from tests.live.test_resume import recorded, rescored
from tests.mosquitto import Mosquitto, needs_mosquitto, on_mosquitto
from tests.paths import eeg
from tests.sinks.fakes import Subscriber
from tests.sinks.test_mqtt_commands import JUNK
from tests.test_cli import write_edf

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    kind: Draft202012Validator(json.loads((ROOT / "docs" / "schemas" / f"{kind}.json").read_text()))
    for kind in ("stage", "epoch", "event", "summary", "health")
}


def engine(folder, *streams, mqtt=None, witness=None, jsonl=None):
    data = {"node": "test", "session_dir": str(folder), "stream": list(streams), "mqtt": mqtt, "jsonl": jsonl}
    return Engine(validate(data, "test"), SystemClock(), witness or Witness())


def simulated(name="anna", hours=0.05, speed="max", hop_s=30, **more):
    source = {"kind": "simulated", "hours": hours, "speed": speed, **more}
    return {"name": name, "hop_s": hop_s, "source": source}


@needs_mosquitto
def test_every_topic_reaches_a_real_client_and_fits_its_schema(tmp_path):
    async def scenario(port):
        async with Subscriber(port) as client:
            await engine(tmp_path, simulated(hop_s=10, speed=600), mqtt={"port": port}).run()
            await client.until_count("epoch", 6)
            await client.until_says("sleepstream/test/availability", b"offline")
            return client

    client = on_mosquitto(scenario)
    for kind, schema in SCHEMAS.items():
        assert client.of(kind)
        for payload in client.of(kind):
            schema.validate(payload)
    assert [payload["epoch"] for payload in client.of("epoch")] == list(range(6))
    assert {item.topic for item in client.heard} == {
        "sleepstream/test/availability",
        "sleepstream/test/engine",
        *(
            f"sleepstream/test/anna/{kind}"
            for kind in ("availability", "stage", "epoch", "event", "summary", "health")
        ),
    }
    events = [payload["event"] for payload in client.of("event")]
    assert events[0] == "session_started"
    assert events[-1] == "session_ended"
    assert any(payload["provisional"] for payload in client.of("stage"))
    assert all(payload["latency_ms"] < 60_000 for payload in client.of("stage") if payload["latency_ms"])


@needs_mosquitto
def test_a_broker_that_is_not_there_yet_gets_everything_later(tmp_path):
    async def scenario():
        broker = Mosquitto()
        witness = Witness()
        mqtt = {"port": broker.port, "retry_min_s": 0.05, "retry_max_s": 0.1}
        running = asyncio.create_task(engine(tmp_path, simulated(), mqtt=mqtt, witness=witness).run())
        await witness.until(lambda: witness.brokers and "session_ended" in witness.event_names())
        assert not witness.brokers[0].connected
        assert witness.brokers[0].last_error
        with broker:
            async with Subscriber(broker.port) as client:
                await client.until_count("epoch", 6)
                await running
                return [payload["epoch"] for payload in client.of("epoch")]

    assert asyncio.run(scenario()) == list(range(6))


@needs_mosquitto
def test_commands_are_obeyed_or_refused(tmp_path):
    async def scenario(port):
        witness = Witness()
        running = asyncio.create_task(
            engine(tmp_path, simulated(speed=60, hours=8), mqtt={"port": port}, witness=witness).run()
        )
        async with Subscriber(port) as client:
            await client.until(lambda heard: any(item.topic.endswith("anna/event") for item in heard))
            for command in ("mark", "arm_alarm", "nonsense", "lights_off", "stop"):
                body = json.dumps({"command": command})
                await client._client.publish("sleepstream/test/anna/command", body, qos=1)
            outcomes = await asyncio.wait_for(running, 60)
        return witness.event_names(), outcomes

    names, outcomes = on_mosquitto(scenario)
    assert [name for name in names if name in ("mark", "refused", "lights_off")] == [
        "mark",
        "refused",
        "refused",
        "lights_off",
    ]
    assert names[-1] == "session_ended"
    assert outcomes[0].error is None


@needs_mosquitto
@pytest.mark.slow
def test_a_flood_of_junk_commands_changes_no_stage(tmp_path):
    """Ten thousand of every kind; staging is held up by none: the stages go on while they come."""

    async def scenario(port):
        witness = Witness()
        made = engine(tmp_path, simulated(speed=30, hours=8, hop_s=10), mqtt={"port": port}, witness=witness)
        running = asyncio.create_task(made.run())
        async with Subscriber(port, "sleepstream/test/anna/stage") as client:
            await client.until_count("stage", 1)
            bodies = list(JUNK.values())
            for number in range(10_000):
                await client._client.publish(
                    "sleepstream/test/anna/command", bodies[number % len(bodies)], qos=0
                )
                if number % 1000 == 999:
                    await client.until_count("stage", len(client.of("stage")) + 1)
            made.stop()
            (outcome,) = await running
        return outcome, witness

    outcome, witness = on_mosquitto(scenario)
    assert outcome.error is None
    assert len(outcome.labels) >= 2
    assert recorded(outcome.session) == rescored(outcome.session)[: len(outcome.labels)]
    began, ended = (one.t.timestamp() for one in (witness.events[0], witness.events[-1]))
    refused = witness.event_names().count("refused")
    assert 1 <= refused <= 2 * (BURST + 1 + ended - began)  # one for each token, and one where they run out


def test_several_sleepers_share_a_model_and_a_failing_one_leaves_the_others(tmp_path):
    file = write_edf(tmp_path / "night.edf", eeg(180, 100))
    replay = {"kind": "replay", "speed": "max"}
    outcomes = asyncio.run(
        engine(
            tmp_path,
            simulated("anna"),
            {"name": "ben", "source": {**replay, "path": str(file)}},
            {"name": "none", "source": {**replay, "path": str(tmp_path / "none.edf")}},
            {"name": "volts", "source": {**replay, "path": str(file)}, "signal": {"unit": "V"}},
            jsonl={"path": str(tmp_path / "{stream}.jsonl")},
        ).run()
    )
    assert [outcome.stream for outcome in outcomes] == ["anna", "ben", "none", "volts"]
    assert [len(outcome.labels) for outcome in outcomes[:2]] == [6, 6]
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, False]
    assert "none.edf" in str(outcomes[2].error)
    assert outcomes[2].session is None
    assert len((tmp_path / "ben.jsonl").read_text().splitlines()) == 6
    with JournalReader(outcomes[3].session) as session:
        assert [event.event for event in session.events()][-2:] == ["error", "session_ended"]


class Searched(Witness):
    """Notes, with each stage, which publishers Python looks through for garbage."""

    def __init__(self):
        super().__init__()
        self.publishers = []

    def staged(self, stream, payload):
        super().staged(stream, payload)
        self.publishers.append([found for found in gc.get_objects() if isinstance(found, Publisher)])


def test_what_the_imports_and_the_beginning_made_is_no_longer_searched_for_garbage(tmp_path):
    gc.unfreeze()  # what engines of other tests froze
    gc.collect()
    assert gc.get_freeze_count() == 0
    witness = Searched()
    made = Engine(
        validate({"session_dir": str(tmp_path), "stream": [simulated("anna")]}, "test"),
        SystemClock(),
        witness,
        begun=lambda _: gc.freeze(),
    )
    asyncio.run(made.run())
    assert gc.get_freeze_count() > 50_000
    assert witness.publishers == [[]] * 6


def test_a_sleeper_alone_and_among_others_is_staged_alike(tmp_path):
    alone = asyncio.run(engine(tmp_path / "a", simulated("anna", seed=3)).run())
    both = asyncio.run(engine(tmp_path / "b", simulated("anna", seed=3), simulated("ben", seed=4)).run())
    assert both[0].labels == alone[0].labels
    assert both[0].labels != both[1].labels


def _epochs(path):
    with JournalReader(path) as session:
        return [(e.epoch, e.stage, e.probabilities) for e in session.epochs()]


@contextmanager
def sending(file, name):
    """The recording as a live LSL stream, from another process, 30 times as fast."""
    command = [sys.executable, "-m", "tools.replay", str(file), "--wait", "--speed", "30", "--name", name]
    sender = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        sender.kill()
        sender.wait()


@pytest.mark.slow
def test_live_through_lsl_scores_as_the_file_does(tmp_path):
    # Far longer than what is compared: the sender ends with it, and takes along what is still on its way.
    file = write_edf(tmp_path / "night.edf", eeg(1200, 128), rate=128)
    replay = {"kind": "replay", "speed": "max", "path": str(file)}
    (from_file,) = asyncio.run(engine(tmp_path / "file", {"name": "anna", "source": replay}).run())

    async def live():
        witness = Witness()
        source = {"kind": "lsl", "name": "night", "resolve_s": 60}
        made = engine(tmp_path / "live", {"name": "anna", "source": source, "silence_s": 60}, witness=witness)
        running = asyncio.create_task(made.run())
        await witness.until(lambda: len(witness.stages) >= 9 or running.done())
        made.stop()
        return await running

    with sending(file, "night"):
        (from_lsl,) = asyncio.run(live())
    file_epochs, live_epochs = _epochs(from_file.session), _epochs(from_lsl.session)
    # The last epoch of a file is completed by its end; a live stream has no end, only silence.
    assert len(live_epochs) >= 9
    assert live_epochs[:9] == file_epochs[:9]


def test_a_device_that_is_still_looked_for_does_not_hold_up_the_end(tmp_path):
    async def scenario():
        made = engine(
            tmp_path, {"name": "anna", "source": {"kind": "lsl", "name": "nowhere", "resolve_s": 600}}
        )
        running = asyncio.create_task(made.run())
        while not any(thread.name.startswith("lsl") for thread in threading.enumerate()):
            await settle()
        made.stop()
        return await asyncio.wait_for(running, 60)

    (outcome,) = asyncio.run(scenario())
    assert outcome.session is None
    assert outcome.error is None
