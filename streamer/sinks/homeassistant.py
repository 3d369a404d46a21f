"""Announces every sleeper to Home Assistant as a device, by retained MQTT discovery messages.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. A retained note beside each
device, `sleepstream/<node>/homeassistant/<stream>`, says what was announced. A broker that keeps the device
keeps the note too, so a sleeper who is no longer in the settings is removed at the next start.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from streamer import __version__
from streamer.corrections import TOPIC_PATTERN
from streamer.payloads import AlarmChange
from streamer.settings import HomeAssistantSettings, StreamSettings
from streamer.sinks.delivery import Delivery
from streamer.sinks.topics import Slot

WORDS = {  # shown to people; the stage itself is in the attribute `letter`
    "W": "Awake",
    "N1": "Dozing",
    "N2": "Light sleep",
    "N3": "Deep sleep",
    "R": "REM sleep",
    "unscored": "Unscored",
    "no_signal": "No signal",
}
RETAINED = "availability", "stage", "summary", "night", "alarm"  # a stream's topics, cleared with its device
TOPIC = re.compile(TOPIC_PATTERN)
APART = "alarm", "night", "signal"  # entities that are available without a band

ATTRIBUTES = (  # of the stage
    "{{ {'letter': value_json.stage, 'smoothed': value_json.smoothed,"
    " 'probabilities': value_json.probabilities,"
    " 'provisional': value_json.provisional, 'warmup': value_json.warmup} | tojson }}"
)

Component = dict[str, Any]


class HomeAssistant:
    """Announces devices on every connection and whenever Home Assistant starts; removes those that are gone.

    Args:
        settings: the `[homeassistant]` table.
        node: name of this engine.
        streams: every sleeper in the settings, whether or not a device sends.
        expiry_s: after which a stage is no longer valid.

    Attributes:
        configs: the retained messages by topic; empty if this is switched off.

    """

    def __init__(
        self, settings: HomeAssistantSettings, node: str, streams: Sequence[StreamSettings], expiry_s: int
    ) -> None:
        self._root = f"sleepstream/{node}"
        self._notes = f"{self._root}/homeassistant/"
        self._node = node
        self._status_topic = settings.status_topic
        self._streams = {stream.name for stream in streams}
        self.configs = {
            f"{settings.prefix}/device/{device_id(node, stream.name)}/config": json.dumps(
                device(node, stream, expiry_s), separators=(",", ":"), ensure_ascii=False
            )
            for stream in streams
            if settings.enabled
        }
        self._announced = dict(
            zip((stream.name for stream in streams), self.configs, strict=settings.enabled)
        )
        self._noted = [_slot(f"{self._notes}{name}", topic) for name, topic in self._announced.items()]
        self._devices = [_slot(topic, config) for topic, config in self.configs.items()]

    async def announce(self, delivery: Delivery) -> None:
        """On a new connection, publish the notes and then the devices; subscribe to earlier notes.

        Raises:
            MqttError: the connection broke.

        """
        await delivery.subscribe(f"{self._notes}+")
        await delivery.subscribe(self._status_topic)
        for slot in (*self._noted, *self._devices):
            delivery.keep(slot)

    async def heard(self, delivery: Delivery, topic: str, body: bytes, retained: bool) -> None:
        """Take any message, and act on notes and on Home Assistant's status.

        Raises:
            MqttError: the connection broke.

        """
        if topic == self._status_topic and body == b"online" and not retained:
            for slot in self._devices:
                slot.forget()
        elif topic.startswith(self._notes) and body and retained:
            await self._settle(delivery, topic.removeprefix(self._notes), body.decode("utf-8", "replace"))

    async def _settle(self, delivery: Delivery, name: str, noted: str) -> None:
        """Remove a device that was announced before and is not now; its note is removed last."""
        if noted == self._announced.get(name):
            return
        own = f"/device/{device_id(self._node, name)}/config"
        if noted.endswith(own) and TOPIC.fullmatch(noted):  # our own device, and a single topic
            await self._clear(delivery, noted)
        if name in self._announced:
            return
        if name not in self._streams:
            for kind in RETAINED:
                await self._clear(delivery, f"{self._root}/{name}/{kind}")
        await self._clear(delivery, f"{self._notes}{name}")

    async def _clear(self, delivery: Delivery, topic: str) -> None:
        await delivery.offer(topic, "", "homeassistant", retain=True)


def _slot(topic: str, body: str) -> Slot:
    slot = Slot(topic, "homeassistant")
    slot.put(body, 0.0)
    return slot


def device_id(node: str, stream: str) -> str:
    """Return a stable, unique identifier of characters that a discovery topic may contain."""
    digest = hashlib.sha256(f"{node}/{stream}".encode()).hexdigest()[:8]
    return f"sleepstream_{re.sub('[^A-Za-z0-9]', '_', stream)}_{digest}"


def device(node: str, stream: StreamSettings, expiry_s: int) -> Component:
    """Make the discovery message of one sleeper."""
    root = f"sleepstream/{node}/{stream.name}"
    here = {"topic": f"sleepstream/{node}/availability"}
    identity = device_id(node, stream.name)
    components = {
        **_sensors(root, expiry_s),
        **_morning(root),
        **_signal(root),
        **_controls(root, stream),
        **_events(root, stream),
    }
    for key, component in components.items():
        component |= {"unique_id": f"{identity}_{key}", "qos": 1}
        if component["platform"] in ("button", "switch", "event") or key.startswith(APART):
            component["availability"] = [here]  # they work without a band
    return {
        "device": {
            "identifiers": [identity],
            "name": f"Sleep of {stream.name}",
            "manufacturer": "sleepstream",
            "model": "EEG sleep staging",
            "sw_version": __version__,
        },
        "origin": {"name": "sleepstream", "sw_version": __version__},
        "availability": [here, {"topic": f"{root}/availability"}],
        "availability_mode": "all",
        "components": components,
    }


def _sensors(root: str, expiry_s: int) -> dict[str, Component]:
    stage = {"state_topic": f"{root}/stage", "expire_after": expiry_s}
    duration = {"device_class": "duration"}
    minutes = "{{ (value_json.stage_lasted_s / 60) | round(1) }}"
    asleep = (
        "{% if value_json.stage in ['N1', 'N2', 'N3', 'R'] %}ON{% elif value_json.stage == 'W' %}OFF"
        "{% else %}None{% endif %}"
    )
    worn = "{{ 'OFF' if value_json.quality.grade == 'off' else 'ON' }}"
    grade, grades = "{{ value_json.quality.grade }}", ["good", "fair", "poor", "off"]
    return {
        "stage": {
            **_sensor("Stage", f"{{{{ {WORDS}[value_json.stage] }}}}", icon="mdi:sleep"),
            **stage,
            **_enum(list(WORDS.values())),
            **_attributes(f"{root}/stage", ATTRIBUTES),
        },
        "confidence": {**_sensor("Confidence", _percent("confidence"), "%"), **stage},
        "quality": {**_sensor("Signal quality", grade, icon="mdi:signal"), **stage, **_enum(grades)},
        "lost": {**_sensor("Lost samples", _percent("quality.lost_fraction"), "%"), **stage},
        "stage_duration": {**_sensor("Time in stage", minutes, "min"), **stage, **duration},
        "latency": {
            **_sensor("Latency", "{{ value_json.latency_ms }}", "ms"),
            **stage,
            **duration,
            "entity_category": "diagnostic",
        },
        "time_asleep": {
            **_sensor("Time asleep", "{{ value_json.statistics.tst_min }}", "min"),
            **duration,
            "state_topic": f"{root}/summary",
        },
        "asleep": {**_entity("binary_sensor", "Asleep", asleep, "mdi:power-sleep"), **stage},
        "worn": {**_entity("binary_sensor", "Band worn", worn, "mdi:head-check"), **stage},
    }


def _morning(root: str) -> dict[str, Component]:
    """Make the entities of the last night; they stay available over the day, without a band."""
    told = {"state_topic": f"{root}/night"}
    minutes = {"device_class": "duration", **told}
    return {
        "night_date": {
            **_sensor("Last night", "{{ value_json.date }}", icon="mdi:weather-night"),
            **told,
            "device_class": "date",
            **_attributes(f"{root}/night", "{{ value_json | tojson }}"),
        },
        "night_sleep": {**_night("Sleep duration", "tst_min", "min", "mdi:sleep"), **minutes},
        "night_efficiency": {**_night("Sleep efficiency", "se_percent", "%", "mdi:percent"), **told},
        "night_onset": {**_night("Sleep latency", "sol_min", "min", "mdi:timer-sand"), **minutes},
        "night_rem": {**_night("REM sleep", "r_min", "min", "mdi:eye"), **minutes},
        "night_deep": {**_night("Deep sleep", "n3_min", "min", "mdi:waves"), **minutes},
        "night_awakenings": {**_night("Awakenings", "awakenings", "", "mdi:bell-sleep"), **told},
    }


def _night(name: str, value: str, unit: str, icon: str) -> Component:
    """Make an entity of a figure of the last night; "None" means unknown in Home Assistant."""
    figure = f"value_json.statistics.{value}"
    template = f"{{{{ {figure} | round(1) if {figure} is not none else 'None' }}}}"
    return {**_sensor(name, template, unit, icon), "state_class": "measurement"}


def _signal(root: str) -> dict[str, Component]:
    """Make the entity that says why no signal arrives; it is available without a band, others are not."""
    attributes = "{{ {'reason': value_json.reason, 'since': value_json.t} | tojson }}"
    return {
        "signal": {
            **_entity("binary_sensor", "Signal problem", "{{ 'ON' if value_json.waiting else 'OFF' }}"),
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": f"{root}/signal",
            **_attributes(f"{root}/signal", attributes),
        }
    }


def _controls(root: str, stream: StreamSettings) -> dict[str, Component]:
    controls = {
        "lights_off": _button(root, "Lights off", "lights_off", "mdi:lightbulb-off"),
        "lights_on": _button(root, "Lights on", "lights_on", "mdi:lightbulb-on"),
    }
    if stream.alarm is None:
        return controls
    state = {"state_topic": f"{root}/alarm"}
    alarm = {**state, "command_topic": f"{root}/command"}
    on = "{{ 'OFF' if value_json.state == 'disarmed' else 'ON' }}"
    return controls | {
        "alarm": {
            **_entity("switch", "Alarm", on, "mdi:alarm"),
            **alarm,
            "payload_on": _command("arm_alarm"),
            "payload_off": _command("disarm_alarm"),
            "state_on": "ON",
            "state_off": "OFF",
        },
        "alarm_time": {
            **_sensor("Alarm time", "{{ value_json.deadline }}"),
            **state,
            "device_class": "timestamp",
        },
        "alarm_set_time": {
            **_entity("text", "Alarm set for", "{{ value_json.time }}", "mdi:clock-edit"),
            **alarm,
            "command_template": _command("set_alarm", "{{ value }}"),
            "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$",
            "min": 5,
            "max": 5,
        },
        "alarm_window": {
            **_entity("number", "Alarm window", "{{ value_json.window_min }}", "mdi:clock-start"),
            **alarm,
            "command_template": _command("set_alarm_window", "{{ value }}"),
            "unit_of_measurement": "min",
            "min": 0,
            "max": 180,
            "step": 1,
            "mode": "box",
        },
        "snooze": _button(root, "Snooze", "snooze_alarm", "mdi:alarm-snooze"),
        "dismiss": _button(root, "Dismiss alarm", "dismiss_alarm", "mdi:alarm-off"),
    }


def _events(root: str, stream: StreamSettings) -> dict[str, Component]:
    """Make the event entities; late (`historical`) events do not reach them."""
    told = {"state_topic": f"{root}/event"}
    events: dict[str, Component] = {}
    if stream.trigger:
        names = [trigger.name for trigger in stream.trigger]
        template = _event("trigger", "trigger")
        events["trigger"] = {
            **_entity("event", "Trigger", template, "mdi:flash"),
            **told,
            "event_types": names,
        }
    if stream.alarm is not None:
        entity = _entity("event", "Alarm event", _event("alarm", "what"), "mdi:alarm")
        events["alarm_event"] = {**entity, **told, "event_types": list(get_args(AlarmChange))}
    return events


def _event(name: str, key: str) -> str:
    return (
        f"{{% if value_json.event == '{name}' and not value_json.historical %}}"
        f"{{{{ dict(value_json.data, event_type=value_json.data.{key}, text=value_json.text) | tojson }}}}"
        "{% endif %}"
    )


def _entity(platform: str, name: str, template: str, icon: str = "") -> Component:
    found = {"platform": platform, "name": name, "value_template": template}
    return found | {"icon": icon} if icon else found


def _sensor(name: str, template: str, unit: str = "", icon: str = "") -> Component:
    """Make a sensor; one with a unit is a measurement."""
    measured = {"unit_of_measurement": unit, "state_class": "measurement"} if unit else {}
    return {**_entity("sensor", name, template, icon), **measured}


def _enum(options: list[str]) -> Component:
    return {"device_class": "enum", "options": options}


def _attributes(topic: str, template: str) -> Component:
    return {"json_attributes_topic": topic, "json_attributes_template": template}


def _percent(value: str) -> str:
    """Make the template of a share in percent; "None" means unknown in Home Assistant."""
    return f"{{{{ (100 * value_json.{value}) | round(1) if value_json.{value} is not none else 'None' }}}}"


def _button(root: str, name: str, command: str, icon: str) -> Component:
    button = {"command_topic": f"{root}/command", "payload_press": _command(command)}
    return {"platform": "button", "name": name, "icon": icon, **button}


def _command(command: str, text: str = "") -> str:
    return json.dumps({"command": command} | ({"text": text} if text else {}), separators=(",", ":"))
