"""Home Assistant: what it is told, as documented and by its validators; births and deaths on mosquitto."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import get_args

import aiomqtt
import jinja2
import pytest
from jsonschema import Draft202012Validator

from streamer.clock import SystemClock
from streamer.errors import SettingsError
from streamer.news import Online
from streamer.payloads import CommandPayload, PublishedStage, to_json
from streamer.settings import HomeAssistantSettings, StreamSettings, validate
from streamer.sinks.homeassistant import WORDS, HomeAssistant, device, device_id
from streamer.sinks.mqtt import MqttSink
from tests.mosquitto import Mosquitto, needs_mosquitto, on_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks import samples
from tests.sinks.fakes import Subscriber
from tests.sinks.test_mqtt import settings as mqtt_settings

CHECK = Path(__file__).parent.parent / "homeassistant_check.py"
TOPIC = {"type": "string", "pattern": "^[^+#]+$"}
AVAILABILITY = {
    "type": "array",
    "items": {"type": "object", "properties": {"topic": TOPIC}, "required": ["topic"]},
    "minItems": 1,
}


def _platform(name, required, **more):
    """The schema of one entity, from the documentation of its platform."""
    common = {
        "platform": {"const": name},
        "name": {"type": "string"},
        "unique_id": {"type": "string"},
        "icon": {"type": "string", "pattern": "^mdi:"},
        "availability": AVAILABILITY,
        "qos": {"enum": [0, 1, 2]},
        "entity_category": {"enum": ["config", "diagnostic"]},
    }
    return {
        "type": "object",
        "properties": {**common, **more},
        "required": ["platform", "name", "unique_id", *required],
        "additionalProperties": False,
    }


TEMPLATE = {"type": "string"}
SCHEMA = {  # https://www.home-assistant.io/integrations/mqtt/, and the pages of the platforms
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "type": "object",
            "required": ["identifiers"],
            "properties": {
                "identifiers": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "name": {"type": "string"},
                "manufacturer": {"type": "string"},
                "model": {"type": "string"},
                "sw_version": {"type": "string"},
            },
            "additionalProperties": False,
        },
        "origin": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "sw_version": {"type": "string"}},
            "additionalProperties": False,
        },
        "availability": AVAILABILITY,
        "availability_mode": {"enum": ["all", "any", "latest"]},
        "components": {
            "type": "object",
            "additionalProperties": {
                "oneOf": [
                    _platform(
                        "sensor",
                        ["state_topic"],
                        state_topic=TOPIC,
                        value_template=TEMPLATE,
                        expire_after={"type": "integer", "minimum": 1},
                        device_class={"enum": ["enum", "duration", "timestamp", "date"]},
                        options={"type": "array", "items": {"type": "string"}, "minItems": 1},
                        unit_of_measurement={"enum": ["%", "min", "ms"]},
                        state_class={"const": "measurement"},
                        json_attributes_topic=TOPIC,
                        json_attributes_template=TEMPLATE,
                    ),
                    _platform(
                        "binary_sensor",
                        ["state_topic"],
                        state_topic=TOPIC,
                        value_template=TEMPLATE,
                        expire_after={"type": "integer", "minimum": 1},
                        device_class={"const": "problem"},
                        json_attributes_topic=TOPIC,
                        json_attributes_template=TEMPLATE,
                    ),
                    _platform(
                        "button", ["command_topic"], command_topic=TOPIC, payload_press={"type": "string"}
                    ),
                    _platform(
                        "text",
                        ["command_topic"],
                        command_topic=TOPIC,
                        command_template=TEMPLATE,
                        state_topic=TOPIC,
                        value_template=TEMPLATE,
                        pattern={"type": "string", "format": "regex"},
                        min={"type": "integer", "minimum": 0, "maximum": 255},
                        max={"type": "integer", "minimum": 0, "maximum": 255},
                    ),
                    _platform(
                        "number",
                        ["command_topic"],
                        command_topic=TOPIC,
                        command_template=TEMPLATE,
                        state_topic=TOPIC,
                        value_template=TEMPLATE,
                        unit_of_measurement={"enum": ["min"]},
                        min={"type": "number"},
                        max={"type": "number"},
                        step={"type": "number", "minimum": 0.001},
                        mode={"enum": ["auto", "box", "slider"]},
                    ),
                    _platform(
                        "switch",
                        ["command_topic"],
                        command_topic=TOPIC,
                        state_topic=TOPIC,
                        value_template=TEMPLATE,
                        payload_on={"type": "string"},
                        payload_off={"type": "string"},
                        state_on={"type": "string"},
                        state_off={"type": "string"},
                    ),
                    _platform(
                        "event",
                        ["state_topic", "event_types"],
                        state_topic=TOPIC,
                        value_template=TEMPLATE,
                        event_types={"type": "array", "items": {"type": "string"}, "minItems": 1},
                    ),
                ]
            },
        },
    },
}


def streams(*names):
    return [
        StreamSettings.model_validate(
            {
                "name": name,
                "source": {"kind": "simulated"},
                "alarm": {"deadline": "07:00"},
                "trigger": [{"name": "tmr", "stages": ["N3"]}, {"name": "cue", "stages": ["R"]}],
            }
        )
        for name in names
    ]


def home(*names, node="n", **settings):
    return HomeAssistant(HomeAssistantSettings(**settings), node, streams(*names), 120)


def test_the_message_is_as_documented():
    for stream in (*streams("anna"), StreamSettings.model_validate({"source": {"kind": "simulated"}})):
        message = device("n", stream, 120)
        Draft202012Validator(SCHEMA).validate(message)
        assert message["availability_mode"] == "all"
        assert len(message["availability"]) == 2
        ids = [component["unique_id"] for component in message["components"].values()]
        assert len(set(ids)) == len(ids)
        for component in message["components"].values():
            if component.get("device_class") == "enum":  # must not go with options
                assert not {"state_class", "unit_of_measurement"} & set(component)


def test_a_sleeper_has_what_the_house_needs():
    components = device("n", streams("anna")[0], 120)["components"]
    of = lambda platform: {key for key, one in components.items() if one["platform"] == platform}  # noqa: E731
    assert of("sensor") >= {
        "stage",
        "confidence",
        "quality",
        "lost",
        "time_asleep",
        "stage_duration",
        "latency",
    }
    assert of("binary_sensor") == {"asleep", "signal", "worn"}
    assert components["signal"]["availability"] == [{"topic": "sleepstream/n/availability"}]  # without a band
    assert of("button") >= {"lights_off", "lights_on"}
    assert of("switch") == {"alarm"}
    assert (of("text"), of("number")) == ({"alarm_set_time"}, {"alarm_window"})
    for key in ("alarm", "alarm_set_time", "alarm_window"):  # in the evening, before the band is on
        assert components[key]["availability"] == [{"topic": "sleepstream/n/availability"}]
    assert of("event") == {"trigger", "alarm_event"}
    assert components["stage"]["options"] == list(WORDS.values())
    assert set(WORDS) == set(get_args(PublishedStage))
    assert len(set(WORDS.values())) == len(WORDS)
    morning = [components[key] for key in components if key.startswith("night_")]
    assert [one["name"] for one in morning] == [
        "Last night",
        "Sleep duration",
        "Sleep efficiency",
        "Sleep latency",
        "REM sleep",
        "Deep sleep",
        "Awakenings",
    ]
    for one in morning:  # by day nobody wears the band, and nothing of the night may fade
        assert one["state_topic"] == "sleepstream/n/anna/night"
        assert one["availability"] == [{"topic": "sleepstream/n/availability"}]
        assert "expire_after" not in one
    assert components["stage"]["expire_after"] == 120
    assert components["trigger"]["event_types"] == ["tmr", "cue"]
    assert "not value_json.historical" in components["trigger"]["value_template"]
    assert components["alarm"]["availability"] == [{"topic": "sleepstream/n/availability"}]
    plain = device("n", StreamSettings.model_validate({"source": {"kind": "simulated"}}), 120)["components"]
    assert not {"alarm", "alarm_event", "trigger", "snooze"} & set(plain)


def test_templates_tell_the_stage_that_is_staged_in_words_and_the_night_in_figures():
    components = device("n", streams("anna")[0], 120)["components"]

    def says(key, payload, kind="value_template"):
        template = jinja2.Environment(autoescape=False).from_string(components[key][kind])
        return template.render(value_json=json.loads(to_json(payload)))

    stage = samples.stage(3).model_copy(
        update={"stage": "N3", "smoothed": "W", "lasted_s": 900.0, "stage_lasted_s": 90.0}
    )
    assert says("stage", stage) == "Deep sleep"
    told = json.loads(says("stage", stage, "json_attributes_template"))
    assert (told["letter"], told["smoothed"]) == ("N3", "W")
    assert (says("asleep", stage), says("stage_duration", stage)) == ("ON", "1.5")
    assert says("stage", stage.model_copy(update={"stage": "no_signal"})) == "No signal"
    night = samples.night(1)
    keys = ["date", "sleep", "efficiency", "onset", "rem", "deep", "awakenings"]
    figures = ["2025-12-31", "412.5", "91.7", "14.0", "96.0", "81.5", "3.0"]
    assert [says(f"night_{key}", night) for key in keys] == figures
    told = json.loads(says("night_date", night, "json_attributes_template"))
    assert told["report"].endswith(".html")
    unknown = night.model_copy(update={"statistics": dict.fromkeys(night.statistics)})
    assert says("night_onset", unknown) == "None"


@pytest.mark.parametrize(
    ("key", "value", "command"),
    [("alarm_set_time", "06:45", "set_alarm"), ("alarm_window", 20.0, "set_alarm_window")],
)
def test_what_home_assistant_sets_is_a_command_and_its_state_is_what_the_alarm_says(key, value, command):
    component = device("n", streams("anna")[0], 120)["components"][key]
    render = jinja2.Environment(autoescape=False).from_string
    sent = CommandPayload.model_validate_json(render(component["command_template"]).render(value=value))
    assert (sent.command, sent.text) == (command, str(value))
    alarm = samples.alarm(1).model_copy(update={"time": "06:45", "window_min": 20.0})
    told = render(component["value_template"]).render(value_json=json.loads(to_json(alarm)))
    assert told == str(value)
    for at in ("00:00", "07:00", "19:59", "23:59"):
        assert re.fullmatch(component.get("pattern", ".*"), at)
    for at in ("7:00", "24:00", "07:60", "07.00", " 07:00"):
        assert "pattern" not in component or not re.fullmatch(component["pattern"], at)


def test_ids_are_stable_distinct_and_fit_for_a_topic():
    ids = [device_id(*pair) for pair in (("a", "b"), ("a.b", "c"), ("a", "b.c"), ("a_b", "c"), ("a", "b_c"))]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", one) for one in ids)
    assert device_id("bedroom", "anna") == "sleepstream_anna_38755d6a"


def test_it_needs_a_broker():
    with pytest.raises(SettingsError, match="needs"):
        validate({"homeassistant": {}, "stream": [{"source": {"kind": "simulated"}}]}, "test")


def published_samples():
    """What the entities' templates will see, by the last level of the topic."""
    stage = samples.stage(3)
    blind = stage.model_copy(update={"probabilities": None, "confidence": None, "latency_ms": None})
    off = stage.quality.model_copy(update={"grade": "off", "lost_fraction": 1.0})
    none = blind.model_copy(update={"stage": "no_signal", "smoothed": "no_signal", "quality": off})
    wake = stage.model_copy(update={"stage": "W", "smoothed": "N1"})
    event = samples.event(1)
    fired = event.model_copy(update={"event": "trigger", "data": {"trigger": "tmr", "number": 0, "p_W": 0.1}})
    late = fired.model_copy(update={"historical": True})
    rang = event.model_copy(update={"event": "alarm", "data": {"what": "ringing", "deadline": 1.0}})
    alarm = samples.alarm(1)
    return {
        "stage": [to_json(one) for one in (stage, none, wake)],
        "summary": [to_json(samples.summary(2))],
        "night": [to_json(samples.night(1))],
        "event": [to_json(one) for one in (fired, late, rang, event)],
        "alarm": [to_json(alarm), to_json(alarm.model_copy(update={"state": "disarmed", "deadline": None}))],
    }


if (python := os.environ.get("SLEEPSTREAM_HA_PYTHON")) is not None:

    @pytest.mark.slow
    def test_home_assistant_itself_accepts_the_messages_and_reads_them_right():
        messages = [*home("anna").configs.values(), *home("ben.b", node="x").configs.values()]
        asked = json.dumps({"messages": messages, "samples": published_samples()})
        done = subprocess.run([python, CHECK], input=asked, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        said = dict(line.split(":", 1) for line in done.stdout.splitlines())
        assert said["sensor stage"] == " Light sleep No signal Awake"
        assert said["sensor confidence"] == " 81.0 None 81.0"
        assert said["binary_sensor asleep"] == " ON None OFF"
        assert said["binary_sensor worn"] == " ON OFF ON"
        assert said["switch alarm"] == " ON OFF"
        assert said["event trigger"].split(" -")[1:] == ["", "", ""]
        assert said["event alarm_event"].startswith(" - - {")


# ---- against a real broker


class House:
    """The retained topics that a Home Assistant would find, as a newcomer sees them."""

    def __init__(self, port):
        self.port = port

    async def retained(self):
        """Topic to body, of everything retained now."""
        async with aiomqtt.Client("127.0.0.1", self.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe("#", qos=1)
            await client.publish("end/of/retained", b"", qos=1)  # comes after all of them
            found = {}
            async for message in client.messages:
                if str(message.topic) == "end/of/retained":
                    return found
                found[str(message.topic)] = bytes(message.payload)
        raise AssertionError

    async def say(self, topic, body, retain=False):
        async with aiomqtt.Client("127.0.0.1", self.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.publish(topic, body, qos=1, retain=retain)


async def night(port, *names, until=None, **settings):
    """A process that runs for a moment, with these sleepers in its settings."""
    sink = MqttSink(mqtt_settings(port), "n", SystemClock(), home=home(*names, **settings))
    async with Subscriber(port, "#") as subscriber, sink:
        for name in names:
            stream = sink.stream(name, MemoryOutbox())
            stream.hear("", Online(True))
            stream.hear("", samples.stage(1))
            stream.hear("", samples.summary(1))
        await sink.flush()
        for name in names:
            if settings.get("enabled", True):
                await subscriber.until(lambda heard, name=name: _config_heard(heard, name))
        if until is not None:
            await until(subscriber)
        return subscriber.heard


def _config_heard(heard, name, prefix="homeassistant"):
    topic = f"{prefix}/device/{device_id('n', name)}/config"
    return any(item.topic == topic and item.payload for item in heard)


def config(name, prefix="homeassistant"):
    return f"{prefix}/device/{device_id('n', name)}/config"


def cleared(topic):
    """Wait until a retained message is taken away."""

    async def until(subscriber):
        await subscriber.until(lambda heard: any(one.topic == topic and not one.payload for one in heard))

    return until


LAMP = "homeassistant/device/lamp/config"  # somebody else's
OURS = f"/device/{device_id('n', 'eve')}/config"
FORGED = "homeassistant/#" + OURS, "+" + OURS, "a\0b" + OURS, LAMP


@needs_mosquitto
def test_birth_death_and_restart_leave_the_right_topics_behind():
    async def scenario(port):
        house = House(port)
        await night(port, "anna", "ben")
        after_first = await house.retained()
        for name in ("anna", "ben"):
            assert json.loads(after_first[config(name)]) == device("n", streams(name)[0], 120)
            assert after_first[f"sleepstream/n/{name}/availability"] == b"offline"
            assert after_first[f"sleepstream/n/homeassistant/{name}"].decode() == config(name)
        assert after_first["sleepstream/n/availability"] == b"offline"
        assert not [topic for topic in after_first if topic.endswith(("/event", "/command", "/epoch"))]

        await night(port, "anna", until=cleared("sleepstream/n/homeassistant/ben"))  # who has moved out
        after_second = await house.retained()
        assert config("anna") in after_second
        assert not [topic for topic in after_second if "ben" in topic]
        return after_second

    on_mosquitto(scenario)


@needs_mosquitto
def test_when_home_assistant_is_born_it_is_told_again_but_not_by_a_retained_birth():
    async def scenario(port):
        house = House(port)
        await house.say("homeassistant/status", b"online", retain=True)

        def told(heard):
            return sum(item.topic == config("anna") for item in heard)

        async with Subscriber(port, "#") as subscriber:
            async with MqttSink(mqtt_settings(port), "n", SystemClock(), home=home("anna")) as sink:
                obeyed = asyncio.Event()
                sink.stream("anna", MemoryOutbox(), lambda command: obeyed.set())
                await subscriber.until(lambda heard: told(heard) >= 1)
                await subscriber.until_says("sleepstream/n/availability", b"online")
                await house.say("sleepstream/n/anna/command", b'{"command":"mark"}')
                await asyncio.wait_for(obeyed.wait(), 60)  # so the retained birth has been heard before
                assert told(subscriber.heard) == 1
                await house.say("homeassistant/status", b"offline")
                await house.say("homeassistant/status", b"online")
                await subscriber.until(lambda heard: told(heard) >= 2)
            await subscriber.until_says("sleepstream/n/availability", b"offline")  # nothing comes after it
            return told(subscriber.heard)

    assert on_mosquitto(scenario) == 2


@needs_mosquitto
def test_a_broker_that_forgot_everything_is_told_everything_again():
    async def scenario(broker):
        async def restart(subscriber):
            broker.kill()
            await subscriber.until_disconnected()
            broker.start()
            async with Subscriber(broker.port, "#") as again:
                await again.until(lambda heard: _config_heard(heard, "anna"))
                await again.until_says("sleepstream/n/availability", b"online")
                await again.until_says("sleepstream/n/anna/availability", b"online")

        await night(broker.port, "anna", until=restart)

    with Mosquitto() as broker:
        asyncio.run(scenario(broker))


@needs_mosquitto
def test_switched_off_or_moved_to_another_prefix_the_old_device_goes():
    async def scenario(port):
        house = House(port)
        await night(port, "anna")

        new = HomeAssistant(HomeAssistantSettings(prefix="ha"), "n", streams("anna"), 120)
        async with (
            Subscriber(port, "#") as subscriber,
            MqttSink(mqtt_settings(port), "n", SystemClock(), home=new),
        ):
            await cleared(config("anna"))(subscriber)
            await subscriber.until(lambda heard: _config_heard(heard, "anna", "ha"))
        found = await house.retained()
        assert config("anna", "ha") in found
        assert config("anna") not in found

        await night(port, "anna", enabled=False, until=cleared("sleepstream/n/homeassistant/anna"))
        found = await house.retained()
        assert [topic for topic in found if "/config" in topic] == []
        assert "sleepstream/n/anna/summary" in found  # the sleeper is still there

    on_mosquitto(scenario)


@needs_mosquitto
@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_note_ends_no_connection_and_removes_nothing_of_others(forged):
    async def scenario(port):
        house = House(port)
        await house.say(LAMP, b"{}", retain=True)
        await house.say("sleepstream/n/homeassistant/eve", forged.encode(), retain=True)
        await night(port, "anna", until=cleared("sleepstream/n/homeassistant/eve"))
        assert {config("anna"), LAMP} <= set(await house.retained())

    on_mosquitto(scenario)
