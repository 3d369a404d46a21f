"""`sleepstream command`, against a real broker, the embedded one, and none."""

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamer.cli import main
from streamer.clock import SystemClock
from streamer.sinks.broker import Broker
from streamer.sinks.mqtt import MqttSink
from tests.mosquitto import Mosquitto, free_port, needs_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import Subscriber
from tests.sinks.test_mqtt import settings
from tests.test_cli import fails

CONFIG = """
node = "home"
[mqtt]
port = {port}
timeout_s = 30
[[stream]]
name = "anna"
[stream.source]
kind = "simulated"
"""


def config(folder, port, text=CONFIG):
    path = folder / "c.toml"
    path.write_text(text.format(port=port))
    return path


async def said(port, *arguments):
    """What a subscriber hears of a command that waits for no engine."""
    async with Subscriber(port) as client:
        assert await asyncio.to_thread(main, ["command", *arguments, "--wait", "0"]) == 0
        topic = "sleepstream/home/anna/command"
        await client.until(lambda heard: any(item.topic == topic for item in heard))
        (heard,) = [item for item in client.heard if item.topic == topic]
        return heard


@needs_mosquitto
def test_it_says_what_was_asked_and_leaves_nothing_behind(tmp_path):
    with Mosquitto() as broker:
        path = str(config(tmp_path, broker.port))
        heard = asyncio.run(said(broker.port, "anna", "mark", "woke up", "--config", path))
        assert {**heard.json, "id": None} == {"command": "mark", "text": "woke up", "id": None}
        assert not heard.retain
        heard = asyncio.run(said(broker.port, "anna", "lights_off", "--config", path))
        assert heard.json["command"] == "lights_off"


def test_the_embedded_broker_takes_it_too(tmp_path):
    async def scenario(port):
        async with Broker(port, "127.0.0.1"):
            path = str(config(tmp_path, port))
            return await said(port, "anna", "arm_alarm", "06:45", "--config", path)

    assert asyncio.run(scenario(free_port())).json["text"] == "06:45"


def test_what_cannot_be_is_one_line(tmp_path, capsys):
    path = config(tmp_path, free_port())
    assert "anna" in fails(capsys, 2, "command", "ben", "stop", "--config", path)
    assert "at most 200" in fails(capsys, 2, "command", "anna", "mark", "x" * 201, "--config", path)
    assert "broker 127.0.0.1" in fails(capsys, 1, "command", "anna", "stop", "--config", path)
    without = config(tmp_path, 1, CONFIG.replace("[mqtt]\nport = {port}\ntimeout_s = 30\n", ""))
    assert "no [mqtt]" in fails(capsys, 2, "command", "anna", "stop", "--config", without)
    assert "not a stream's name" in fails(capsys, 2, "command", "a/b", "stop")
    for wrong in (["explode"], ["stop", "--wait", "soon"], ["stop", "--wait=-1"], ["stop", "--wait", "nan"]):
        with pytest.raises(SystemExit) as caught:
            main(["command", "anna", *wrong])
        assert caught.value.code == 2


def obey(command):
    """As an engine would."""
    if command.command == "lights_on":
        raise RuntimeError("a fault")
    return "'25:00' is no time\n\x1b[2J" if command.text == "25:00" else ""


@asynccontextmanager
async def engine(port, node="home", on_command=obey):
    """The MQTT side of one, connected."""
    async with MqttSink(settings(port), node, SystemClock()) as sink:
        refused = []
        stream = sink.stream("anna", MemoryOutbox(), on_command, refused.append)
        async with Subscriber(port) as client:
            while not client.of("answer"):  # until it has subscribed
                body = b'{"command":"mark","id":"ready"}'
                await client._client.publish(f"sleepstream/{node}/anna/command", body, qos=1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.until(lambda _: client.of("answer"))
            yield client, stream, refused


async def command(*arguments):
    return await asyncio.to_thread(main, ["command", *arguments])


async def conversation(port, path, capsys):
    async with engine(port) as (client, _, refused):
        assert await command("anna", "mark", "woke up", "--config", path) == 0
        assert await command("anna", "arm_alarm", "25:00", "--config", path) == 1
        said = capsys.readouterr().err
        assert await command("anna", "lights_on", "--config", path) == 1
        await client.until(lambda _: any(one["command"] == "lights_on" for one in client.of("answer")))
        answers = [one for one in client.of("answer") if one["id"] != "ready"]
        return said, capsys.readouterr().err, refused, answers


@needs_mosquitto
@pytest.mark.parametrize("embedded", [False, True], ids=["MQTT 5", "3.1.1"])
def test_it_waits_for_the_answer_and_says_why_not(tmp_path, capsys, embedded):
    async def inside(port):
        async with Broker(port, "127.0.0.1"):
            return await conversation(port, str(config(tmp_path, port)), capsys)

    if embedded:
        found = asyncio.run(inside(free_port()))
    else:
        with Mosquitto() as broker:
            path = str(config(tmp_path, broker.port))
            found = asyncio.run(conversation(broker.port, path, capsys))
    refusal, fault, refused, answers = found
    assert refusal == "sleepstream: arm_alarm was refused: '25:00' is no time \\x1b[2J\n"
    assert "lights_on was refused: internal error: RuntimeError('a fault')" in fault
    assert refused == ["lights_on: internal error: RuntimeError('a fault')"]
    assert [(one["command"], one["done"]) for one in answers] == [
        ("mark", True),
        ("arm_alarm", False),
        ("lights_on", False),
    ]
    assert len({one["id"] for one in answers}) == 3


@needs_mosquitto
def test_silence_has_an_end_and_a_reason(tmp_path, capsys):
    async def scenario(port):
        path = str(config(tmp_path, port))
        assert await command("anna", "stop", "--config", path, "--wait", "0.3") == 1
        never = capsys.readouterr().err
        async with engine(port):
            text = (tmp_path / "c.toml").read_text().replace('"anna"', '"ben"')
            (tmp_path / "c.toml").write_text(text)
            assert await command("ben", "stop", "--config", path, "--wait", "2") == 1  # hears who is there
            unknown = capsys.readouterr().err
        assert await command("ben", "stop", "--config", path, "--wait", "60") == 1
        return never, unknown, capsys.readouterr().err

    with Mosquitto() as broker:
        never, unknown, gone = asyncio.run(scenario(broker.port))
    assert "no engine answered within 0.3 s" in never
    assert "its 'ben' did not answer" in unknown
    assert "no engine of node 'home' is connected" in gone


@needs_mosquitto
def test_correlation_data_comes_back_and_a_response_topic_is_not_obeyed():
    async def scenario(port):
        version, found = aiomqtt.ProtocolVersion.V5, []
        async with engine(port), aiomqtt.Client("127.0.0.1", port, protocol=version) as asking:
            await asking.subscribe("#")
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = b"\x00mine"
            properties.ResponseTopic = "somewhere/else"
            topic = "sleepstream/home/anna/command"
            await asking.publish(topic, b'{"command":"mark"}', qos=1, properties=properties)
            await asking.publish(topic, b"junk", qos=1, properties=properties)
            messages = aiter(asking.messages)
            while len(found) < 2:
                message = await anext(messages)
                assert not str(message.topic).startswith("somewhere")
                if str(message.topic).endswith("/answer"):
                    found.append((message.properties.CorrelationData, json.loads(message.payload)))
        return found

    with Mosquitto() as broker:
        (one, done), (two, junk) = asyncio.run(scenario(broker.port))
    assert one == two == b"\x00mine"
    assert (done["done"], done["id"], done["command"]) == (True, None, "mark")
    assert (junk["done"], junk["id"], junk["command"]) == (False, None, None)
    assert "not a command" in junk["reason"]
