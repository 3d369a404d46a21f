"""`sleepstream command`, against a real broker, the embedded one, and none."""

import asyncio

import pytest

from streamer.cli import main
from streamer.sinks.broker import Broker
from tests.mosquitto import Mosquitto, free_port, needs_mosquitto
from tests.sinks.fakes import Subscriber
from tests.test_cli import fails

CONFIG = """
node = "home"
[mqtt]
port = {port}
timeout_s = 2
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
    """What a subscriber hears of a command."""
    async with Subscriber(port) as client:
        assert await asyncio.to_thread(main, ["command", *arguments]) == 0
        topic = "sleepstream/home/anna/command"
        await client.until(lambda heard: any(item.topic == topic for item in heard))
        (heard,) = [item for item in client.heard if item.topic == topic]
        return heard


@needs_mosquitto
def test_it_says_what_was_asked_and_leaves_nothing_behind(tmp_path):
    with Mosquitto() as broker:
        path = str(config(tmp_path, broker.port))
        heard = asyncio.run(said(broker.port, "anna", "mark", "woke up", "--config", path))
        assert heard.json == {"command": "mark", "text": "woke up"}
        assert not heard.retain
        heard = asyncio.run(said(broker.port, "anna", "lights_off", "--config", path))
        assert heard.json == {"command": "lights_off", "text": ""}


def test_the_embedded_broker_takes_it_too(tmp_path):
    async def scenario(port):
        async with Broker(port, "127.0.0.1"):
            path = str(config(tmp_path, port))
            return await said(port, "anna", "arm_alarm", "06:45", "--config", path)

    assert asyncio.run(scenario(free_port())).json == {"command": "arm_alarm", "text": "06:45"}


def test_what_cannot_be_is_one_line(tmp_path, capsys):
    path = config(tmp_path, free_port())
    assert "anna" in fails(capsys, 2, "command", "ben", "stop", "--config", path)
    assert "at most 200" in fails(capsys, 2, "command", "anna", "mark", "x" * 201, "--config", path)
    assert "broker 127.0.0.1" in fails(capsys, 1, "command", "anna", "stop", "--config", path)
    without = config(tmp_path, 1, CONFIG.replace("[mqtt]\nport = {port}\ntimeout_s = 2\n", ""))
    assert "no [mqtt]" in fails(capsys, 2, "command", "anna", "stop", "--config", without)
    with pytest.raises(SystemExit) as caught:
        main(["command", "anna", "explode"])
    assert caught.value.code == 2
