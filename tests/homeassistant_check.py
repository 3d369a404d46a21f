"""Home Assistant's own validators and templates over our discovery messages.

Run by a Python that has the `homeassistant` package (2024.12 or later): discovery messages as a JSON list on
stdin, with samples of what is published by topic; one line for each entity on stdout, exit code 1 at the
first thing that Home Assistant would refuse.
"""

import asyncio
import importlib
import json
import sys
import tempfile

from homeassistant.components.mqtt import discovery
from homeassistant.components.mqtt.discovery import MQTTDiscoveryPayload
from homeassistant.components.mqtt.schemas import DEVICE_DISCOVERY_SCHEMA
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame


def check(message, samples):
    """Validate one device discovery message as the MQTT integration does on arrival."""
    payload = MQTTDiscoveryPayload(json.loads(message))
    discovery._replace_all_abbreviations(payload)
    device = DEVICE_DISCOVERY_SCHEMA(payload)
    for key, component in device["components"].items():
        platform = component.pop("platform")
        whole = MQTTDiscoveryPayload(component)
        whole |= {name: device[name] for name in ("device", "origin")}
        discovery._merge_common_device_options(whole, device)
        module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
        config = module.DISCOVERY_SCHEMA(dict(whole))
        unknown = set(whole) - set(config)
        assert not unknown, f"{key}: Home Assistant does not know {unknown}"
        print(f"{platform} {key}:{states(key, platform, config, samples)}")


def states(key, platform, config, samples):
    """What the entity's own template makes of each sample; "-" where it is silent."""
    said = ""
    if "value_template" not in config:
        return said
    for payload in samples[config["state_topic"].rpartition("/")[2]]:
        state = config["value_template"].async_render_with_possible_json_value(payload, "ERROR").strip()
        allowed = config.get("options")
        assert not allowed or state in allowed, f"{key}: {state} is not one of {allowed}"
        assert state != "ERROR", (key, payload)
        assert platform == "event" or len(state) <= 255
        if platform == "event" and state:
            assert json.loads(state)["event_type"] in config["event_types"], (key, state)
        said += f" {state or '-'}"
        if "json_attributes_template" in config:
            template = config["json_attributes_template"]
            assert isinstance(json.loads(template.async_render_with_possible_json_value(payload)), dict)
    return said


async def main(asked):
    """Templates want an instance; it is never started."""
    with tempfile.TemporaryDirectory() as folder:
        home = HomeAssistant(folder)
        frame.async_setup(home)
        for one in asked["messages"]:
            check(one, asked["samples"])
        await home.async_stop(force=True)


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
