"""Every example is loaded and run, with simulated nights in place of its devices and recordings."""

import asyncio
import re
import tomllib
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.clock import SystemClock
from streamer.journal import JournalReader
from streamer.live.engine import Engine
from streamer.messages import STAGES
from streamer.settings import load, validate
from tests.fakes import Witness, held
from tests.mosquitto import Mosquitto, free_port, needs_mosquitto
from tests.reactions.test_reflexes import fired
from tests.sinks.fakes import Subscriber

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.glob("*.toml"))
ARMED = {"openbci-lab": {"tmr"}, "lab": {"click"}}


def simulated(path, folder, port):
    """The example's settings on this machine: no device, no recording, no other host."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    data["session_dir"] = str(folder)
    if "mqtt" in data:
        data["mqtt"].pop("tls", None)
        data["mqtt"].pop("ca_file", None)
        data["mqtt"] |= (
            {"port": free_port()} if data["mqtt"].get("embedded") else {"host": "127.0.0.1", "port": port}
        )
    if "jsonl" in data:
        data["jsonl"]["path"] = str(folder / "{stream}.jsonl")
    if "web" in data:
        data["web"]["port"] = 0
    for number, stream in enumerate(data["stream"]):
        stream["source"] = {"kind": "simulated", "hours": 0.05, "speed": "max", "seed": number}
        stream.pop("signal", None)
        stream.get("alarm", {}).pop("command", None)
        if "ttl" in stream:
            stream["ttl"] = {"file": str(folder / "ttl.jsonl")}
        for trigger in stream.get("trigger", ()):
            trigger.pop(
                "since_onset_min", None
            )  # these minutes are before sleep onset, if the model is right
            trigger |= {
                "dwell_s": 0,
                "min_probability": 0,
                "stages": list(STAGES),
            }
            if "phase" in trigger:  # any wave at all
                trigger["phase"] |= {"min_uv": 1}
            trigger |= {"warmup": True, "quality": "poor"}
    return validate(data, path.name)


def test_there_is_one_for_each_in_the_list():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(FILES) >= 4
    for path in FILES:
        assert f"({path.name})" in readme
        assert str(path.relative_to(EXAMPLES.parent)) in path.read_text(encoding="utf-8").split("\n\n")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_the_settings_understand(path):
    loaded = load(path)
    assert all(stream.source.kind != "simulated" for stream in loaded.stream)


def announced(settings, witness, client):
    """Whether the broker is there, and Home Assistant has heard of it."""
    home = settings.homeassistant is None or settings.mqtt.embedded
    home = home or any(item.topic.startswith("homeassistant/") for item in client.heard)
    return home and witness.brokers and witness.brokers[-1].connected


@needs_mosquitto
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_and_says_what_it_promises(path, tmp_path):
    async def scenario(port):
        settings, witness = simulated(path, tmp_path, port), Witness()
        async with Subscriber(port, "#") as client:
            begun = held(lambda: settings.mqtt is None or announced(settings, witness, client))
            outcomes = await Engine(settings, SystemClock(), witness, sources=begun).run()
            if settings.mqtt is not None and not settings.mqtt.embedded:
                await client.until_says(f"sleepstream/{settings.node}/availability", b"offline")
            return settings, outcomes, witness, {item.topic for item in client.heard}

    with Mosquitto() as broker:
        settings, outcomes, witness, topics = asyncio.run(scenario(broker.port))
    for stream, outcome in zip(settings.stream, outcomes, strict=True):
        assert outcome.error is None
        assert len(outcome.labels) == 6
        with JournalReader(outcome.session) as session:
            assert [event.event for event in session.events()][-1] == "session_ended"
        if settings.jsonl is not None:
            assert len((tmp_path / f"{stream.name}.jsonl").read_text().splitlines()) == 6
        if settings.homeassistant is not None:
            assert any(
                topic.startswith(f"homeassistant/device/sleepstream_{stream.name}") for topic in topics
            )
            assert f"sleepstream/{settings.node}/{stream.name}/alarm" in topics
        if settings.sleep_as_android is not None:
            assert f"SleepAsAndroid/{stream.name}" in topics
        if stream.trigger:
            assert {event.data["trigger"] for event in fired(witness)} == ARMED[path.stem]
            assert outcome.session.with_suffix(".arms.jsonl").exists()


def test_the_commands_in_the_comments_exist(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["command", "--help"])
    assert caught.value.code == 0
    assert "arm_trigger" in capsys.readouterr().out


SNIPPETS = [
    pytest.param(text, id=f"{path.stem}-{number}")
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", path.read_text("utf-8"), re.M | re.S))
]


@pytest.mark.parametrize("text", SNIPPETS)
def test_every_table_in_the_docs_is_one_that_the_engine_takes(text):
    """What a snippet leaves out, because it is about something else, is put around it."""
    data = tomllib.loads(text.replace('"..."', f'"{"0" * 64}"'))
    streams = data.get("stream", {})
    streams = streams if isinstance(streams, list) else [streams]
    for stream in streams:
        stream.setdefault("source", {"kind": "simulated"})
        trigger = stream.get("trigger")
        if isinstance(trigger, dict):
            stream["trigger"] = [{"name": "t", "stages": ["N3"], **trigger}]
            stream.setdefault("hop_s", 1)
    if {"homeassistant", "sleep_as_android"} & set(data):
        data.setdefault("mqtt", {})
    assert validate({**data, "stream": streams}, "a snippet").stream
