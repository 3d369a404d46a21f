"""Announces every sleeper to Home Assistant as a device, by retained MQTT discovery messages.

Format: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. What was announced is noted
in retained topics beside it, `sleepstream/<node>/homeassistant/<stream>`: a broker that remembers a device
remembers the note, too, so that a sleeper who is no longer in the settings is removed at the next start.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from streamer import __version__
from streamer.corrections import TOPIC_PATTERN
from streamer.settings import HomeAssistantSettings, StreamSettings
from streamer.sinks.delivery import Delivery
from streamer.sinks.topics import Slot

WORDS = {  # what people are told; the field's own names are in the attribute `letter`
    "W": "Awake",
    "N1": "Dozing",
    "N2": "Light sleep",
    "N3": "Deep sleep",
    "R": "REM sleep",
    "unscored": "Unscored",
    "no_signal": "No signal",
}
RETAINED = (
    "availability",
    "stage",
    "summary",
    "night",
    "alarm",
)  # a stream's own topics, cleared with its device
TOPIC = re.compile(TOPIC_PATTERN)
APART = "alarm", "night", "signal"  # what does not need a band to be there

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
        streams: every sleeper in the settings, whether or not its device is there.
        expiry_s: for how long a stage is worth anything.

    Attributes:
        configs: topic to retained message; none where it is switched off.

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
        """On a new connection: note, then announce; the subscription brings what was noted before.

        Raises:
            MqttError: the connection broke.

        """
        await delivery.subscribe(f"{self._notes}+")
        await delivery.subscribe(self._status_topic)
        for slot in (*self._noted, *self._devices):
            delivery.keep(slot)

    async def heard(self, delivery: Delivery, topic: str, body: bytes, retained: bool) -> None:
        """Take any message; act on those that are for this.

        Raises:
            MqttError: the connection broke.

        """
        if topic == self._status_topic and body == b"online" and not retained:
            for slot in self._devices:
                slot.forget()
        elif topic.startswith(self._notes) and body and retained:
            await self._settle(delivery, topic.removeprefix(self._notes), body.decode("utf-8", "replace"))

    async def _settle(self, delivery: Delivery, name: str, noted: str) -> None:
        """Remove what was announced for a stream and is not any more; the note goes last."""
        if noted == self._announced.get(name):
            return
        own = f"/device/{device_id(self._node, name)}/config"
        if noted.endswith(own) and TOPIC.fullmatch(noted):  # ours, nobody else's, and not many at once
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
    """Stable, unique, and only of what a discovery topic may contain."""
    digest = hashlib.sha256(f"{node}/{stream}".encode()).hexdigest()[:8]
    return f"sleepstream_{re.sub('[^A-Za-z0-9]', '_', stream)}_{digest}"


def device(node: str, stream: StreamSettings, expiry_s: int) -> Component:
    """The discovery message of one sleeper."""
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
    asleep = (
        "{% if value_json.stage in ['N1', 'N2', 'N3', 'R'] %}ON{% elif value_json.stage == 'W' %}OFF"
        "{% else %}None{% endif %}"
    )
    return {
        "stage": {
            **_sensor("Stage", f"{{{{ {WORDS}[value_json.stage] }}}}", icon="mdi:sleep"),
            **stage,
            "device_class": "enum",
            "options": list(WORDS.values()),
            "json_attributes_topic": f"{root}/stage",
            "json_attributes_template": ATTRIBUTES,
        },
        "confidence": {**_sensor("Confidence", _percent("confidence"), "%", "measurement"), **stage},
        "quality": {
            **_sensor("Signal quality", "{{ value_json.quality.grade }}", icon="mdi:signal"),
            **stage,
            "device_class": "enum",
            "options": ["good", "fair", "poor", "off"],
        },
        "lost": {**_sensor("Lost samples", _percent("quality.lost_fraction"), "%", "measurement"), **stage},
        "stage_duration": {
            **_sensor(
                "Time in stage", "{{ (value_json.stage_lasted_s / 60) | round(1) }}", "min", "measurement"
            ),
            **stage,
            "device_class": "duration",
        },
        "latency": {
            **_sensor("Latency", "{{ value_json.latency_ms }}", "ms", "measurement"),
            **stage,
            "device_class": "duration",
            "entity_category": "diagnostic",
        },
        "time_asleep": {
            **_sensor("Time asleep", "{{ value_json.statistics.tst_min }}", "min", "measurement"),
            "state_topic": f"{root}/summary",
            "device_class": "duration",
        },
        "asleep": {
            "platform": "binary_sensor",
            "name": "Asleep",
            "icon": "mdi:power-sleep",
            "value_template": asleep,
            **stage,
        },
        "worn": {
            "platform": "binary_sensor",
            "name": "Band worn",
            "icon": "mdi:head-check",
            "value_template": "{{ 'OFF' if value_json.quality.grade == 'off' else 'ON' }}",
            **stage,
        },
    }


def _morning(root: str) -> dict[str, Component]:
    """What the last night has come to; it stays over the day, without a band."""
    told = {"state_topic": f"{root}/night"}
    minutes = {"device_class": "duration", **told}
    attributes = "{{ value_json | tojson }}"
    return {
        "night_date": {
            **_sensor("Last night", "{{ value_json.date }}", icon="mdi:weather-night"),
            **told,
            "device_class": "date",
            "json_attributes_topic": f"{root}/night",
            "json_attributes_template": attributes,
        },
        "night_sleep": {**_night("Sleep duration", "tst_min", "min", "mdi:sleep"), **minutes},
        "night_efficiency": {**_night("Sleep efficiency", "se_percent", "%", "mdi:percent"), **told},
        "night_onset": {**_night("Sleep latency", "sol_min", "min", "mdi:timer-sand"), **minutes},
        "night_rem": {**_night("REM sleep", "r_min", "min", "mdi:eye"), **minutes},
        "night_deep": {**_night("Deep sleep", "n3_min", "min", "mdi:waves"), **minutes},
        "night_awakenings": {**_night("Awakenings", "awakenings", None, "mdi:bell-sleep"), **told},
    }


def _night(name: str, value: str, unit: str | None, icon: str) -> Component:
    """A figure of the last night; "None" is Home Assistant's word for unknown."""
    figure = f"value_json.statistics.{value}"
    template = f"{{{{ {figure} | round(1) if {figure} is not none else 'None' }}}}"
    return _sensor(name, template, unit, "measurement", icon)


def _signal(root: str) -> dict[str, Component]:
    """Why nothing arrives; there without a band, which takes everybody else's attributes away."""
    return {
        "signal": {
            "platform": "binary_sensor",
            "name": "Signal problem",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": f"{root}/signal",
            "value_template": "{{ 'ON' if value_json.waiting else 'OFF' }}",
            "json_attributes_topic": f"{root}/signal",
            "json_attributes_template": "{{ {'reason': value_json.reason, 'since': value_json.t} | tojson }}",
        }
    }


def _controls(root: str, stream: StreamSettings) -> dict[str, Component]:
    controls = {
        "lights_off": _button(root, "Lights off", "lights_off", "mdi:lightbulb-off"),
        "lights_on": _button(root, "Lights on", "lights_on", "mdi:lightbulb-on"),
    }
    if stream.alarm is not None:
        controls |= {
            "alarm": {
                "platform": "switch",
                "name": "Alarm",
                "icon": "mdi:alarm",
                "state_topic": f"{root}/alarm",
                "value_template": "{{ 'OFF' if value_json.state == 'disarmed' else 'ON' }}",
                "command_topic": f"{root}/command",
                "payload_on": '{"command":"arm_alarm"}',
                "payload_off": '{"command":"disarm_alarm"}',
                "state_on": "ON",
                "state_off": "OFF",
            },
            "alarm_time": {
                **_sensor("Alarm time", "{{ value_json.deadline }}"),
                "state_topic": f"{root}/alarm",
                "device_class": "timestamp",
            },
            "alarm_set_time": {
                "platform": "text",
                "name": "Alarm set for",
                "icon": "mdi:clock-edit",
                "state_topic": f"{root}/alarm",
                "value_template": "{{ value_json.time }}",
                "command_topic": f"{root}/command",
                "command_template": '{"command":"set_alarm","text":"{{ value }}"}',
                "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$",
                "min": 5,
                "max": 5,
            },
            "alarm_window": {
                "platform": "number",
                "name": "Alarm window",
                "icon": "mdi:clock-start",
                "state_topic": f"{root}/alarm",
                "value_template": "{{ value_json.window_min }}",
                "command_topic": f"{root}/command",
                "command_template": '{"command":"set_alarm_window","text":"{{ value }}"}',
                "unit_of_measurement": "min",
                "min": 0,
                "max": 180,
                "step": 1,
                "mode": "box",
            },
            "snooze": _button(root, "Snooze", "snooze_alarm", "mdi:alarm-snooze"),
            "dismiss": _button(root, "Dismiss alarm", "dismiss_alarm", "mdi:alarm-off"),
        }
    return controls


def _events(root: str, stream: StreamSettings) -> dict[str, Component]:
    """Event entities never hear what is late: `historical` events are left out."""
    events: dict[str, Component] = {}
    if stream.trigger:
        events["trigger"] = {
            "platform": "event",
            "name": "Trigger",
            "icon": "mdi:flash",
            "state_topic": f"{root}/event",
            "event_types": [trigger.name for trigger in stream.trigger],
            "value_template": _event("trigger", "trigger"),
        }
    if stream.alarm is not None:
        events["alarm_event"] = {
            "platform": "event",
            "name": "Alarm event",
            "icon": "mdi:alarm",
            "state_topic": f"{root}/event",
            "event_types": [
                "armed",
                "window_began",
                "disarmed",
                "ringing",
                "snoozed",
                "dismissed",
                "gave_up",
                "missed",
                "set",
            ],
            "value_template": _event("alarm", "what"),
        }
    return events


def _event(name: str, key: str) -> str:
    return (
        f"{{% if value_json.event == '{name}' and not value_json.historical %}}"
        f"{{{{ dict(value_json.data, event_type=value_json.data.{key}, text=value_json.text) | tojson }}}}"
        "{% endif %}"
    )


def _sensor(
    name: str, template: str, unit: str | None = None, state_class: str | None = None, icon: str | None = None
) -> Component:
    found: Component = {"platform": "sensor", "name": name, "value_template": template}
    more = {"unit_of_measurement": unit, "state_class": state_class, "icon": icon}
    return found | {key: value for key, value in more.items() if value is not None}


def _percent(value: str) -> str:
    """A share as percent; "None" is Home Assistant's word for unknown."""
    return f"{{{{ (100 * value_json.{value}) | round(1) if value_json.{value} is not none else 'None' }}}}"


def _button(root: str, name: str, command: str, icon: str) -> Component:
    return {
        "platform": "button",
        "name": name,
        "icon": icon,
        "command_topic": f"{root}/command",
        "payload_press": json.dumps({"command": command}, separators=(",", ":")),
    }
