"""A night in a home with a real core: from the first message to the morning, over restarts of either side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from streamer.errors import RunError
from tests.homeassistant.band import Band
from tests.homeassistant.core import Core
from tests.homeassistant.expected import BAND, SHOWN, WITHOUT_BAND, differing, entities
from tests.mosquitto import Mosquitto, free_port

PATIENCE_S = 120.0
SPEED = 20.0
ENGINE = "import sys; from streamer.cli import main; sys.exit(main())"
ROOT = "sleepstream/check/anna/"
TOML = """\
node = "check"
session_dir = "{folder}"
[mqtt]
host = "127.0.0.1"
port = {broker}
[homeassistant]
[night]
lights_on_after_min = 0
report_after_min = 1
begin_min = 1
zone = "UTC"
[[stream]]
name = "anna"
hop_s = 30
[stream.source]
kind = "rda"
port = {band}
[stream.alarm]
deadline = "07:00"
zone = "UTC"
command = ["true"]
[[stream.trigger]]
name = "deep"
stages = ["N3"]
"""


class Ear:
    """Hears everything below `sleepstream/` and of the discovery; the last of each topic."""

    def __init__(self, port: int) -> None:
        self.last: dict[str, bytes] = {}
        self.events: list[dict[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("sleepstream/#", 1), ("homeassistant/#", 1)])
        self._client.loop_start()

    def close(self) -> None:
        """Hear no more."""
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        self.last[message.topic] = message.payload
        if message.topic == f"{ROOT}event":
            self.events.append(json.loads(message.payload))

    def published(self) -> dict[str, Any]:
        """The last payload of each of the sleeper's topics."""
        found = {
            topic.removeprefix(ROOT): body for topic, body in self.last.items() if topic.startswith(ROOT)
        }
        return {name: json.loads(body) for name, body in found.items() if body.startswith(b"{")}

    def device(self) -> dict[str, Any]:
        """The discovery message."""
        for topic, body in self.last.items():
            if topic.startswith("homeassistant/device/") and body:
                found: dict[str, Any] = json.loads(body)
                return found
        return {}

    def said(self, name: str) -> list[dict[str, Any]]:
        """Events of a name."""
        return [one for one in self.events if one["event"] == name]


class Check:
    """Holds each step, says it, and goes on; `failed` counts.

    Args:
        hass: the program.
        folder: for settings, sessions and logs.
        automation: YAML of the automation that the documentation shows.
        say: told a line at a time.

    """

    def __init__(self, hass: Path, folder: Path, automation: str, say: Callable[[str], None]) -> None:
        self.failed = 0
        self._hass = hass
        self._folder = folder
        self._automation = automation
        self._say = say
        self._found: dict[str, str] = {}  # entity of each component

    def run(self) -> None:
        """The evening, the night, the morning.

        Raises:
            RunError: something that it needs does not run.

        """
        home = self._folder / "homeassistant"
        with Mosquitto() as broker, Band(SPEED, 8.0) as band:
            self._ear = Ear(broker.port)
            try:
                with Core(self._hass, home, free_port(), self._automation) as self._core:
                    self._core.integrate_mqtt(broker.port)
                    engine = self._engine(broker.port, band.port)
                    try:
                        self._evening()
                        self._alarm()
                        self._morning()
                        self._restart()
                    finally:
                        engine.terminate()
                        engine.wait(60)
                    self._gone()
            finally:
                self._ear.close()

    def _engine(self, broker: int, band: int) -> subprocess.Popen[bytes]:
        path = self._folder / "home.toml"
        path.write_text(TOML.format(folder=self._folder / "sessions", broker=broker, band=band))
        with (self._folder / "engine.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", ENGINE, "run", str(path)],
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )

    def _evening(self) -> None:
        """Every component is an entity, and shows what is published while somebody sleeps."""
        self._held("the engine announces its device", lambda: "" if self._ear.device() else "nothing came")
        self._held("every component has become an entity", self._entities)
        for key, entity in sorted(self._found.items()):
            self._say(f"    {entity:<48} {key}")
        self._held("a stage is staged", lambda: "" if "stage" in self._ear.published() else "none")
        self._do("button", "press", "lights_off")
        self._held("the button Lights off reaches the engine", lambda: self._heard("lights_off"))
        self._held("states are what was published", self._differing)

    def _entities(self) -> str:
        self._found, missing = entities(self._ear.device(), self._core.states())
        return "; ".join(missing)

    def _alarm(self) -> None:
        """Set, switched and narrowed from there; it rings, and wakes the light."""
        self._do("number", "set_value", "alarm_window", value=0)
        self._held("the window reaches the engine", lambda: self._alarm_is("window_min", 0))
        rings = datetime.now(UTC) + timedelta(minutes=2)
        self._do("text", "set_value", "alarm_set_time", value=f"{rings:%H:%M}")
        self._held("the time reaches the engine", lambda: self._alarm_is("time", f"{rings:%H:%M}"))
        self._do("switch", "turn_on", "alarm")
        self._held("the switch arms it", lambda: self._alarm_is("state", "armed"))
        self._held("states are what was published", self._differing)
        self._held("the alarm rings", lambda: self._alarm_is("state", "ringing"), 240)
        self._held("the documented automation turns the light on", self._lit)
        self._do("button", "press", "dismiss")
        self._held("the button Dismiss alarm ends it", lambda: self._alarm_is("state", "disarmed", "armed"))
        self._do("switch", "turn_off", "alarm")
        self._held("the switch disarms it", lambda: self._alarm_is("state", "disarmed"))

    def _alarm_is(self, field: str, *wanted: object) -> str:
        got = self._ear.published().get("alarm", {}).get(field)
        return "" if got in wanted else f"{field} is {got!r}"

    def _lit(self) -> str:
        return "" if self._core.ask("states/input_boolean.bedroom")["state"] == "on" else "it is off"

    def _morning(self) -> None:
        """The night ends, and its figures and report turn up."""
        self._do("button", "press", "lights_on")
        self._held("the button Lights on ends the night", lambda: self._heard("session_ended"))
        self._held("the report is told", lambda: self._heard("report"), 240)
        self._held("the figures of the night are shown", lambda: self._differing(WITHOUT_BAND))
        self._held("what needs the band is unavailable", lambda: self._unavailable(BAND))
        self._held("Last night names the report", self._named)

    def _named(self) -> str:
        attributes = self._core.ask(f"states/{self._found['night_date']}")["attributes"]
        report = self._ear.published()["night"]["report"]
        there = report is not None and (self._folder / "sessions" / report).is_file()
        return (
            "" if there and attributes.get("report") == report else f"report is {attributes.get('report')!r}"
        )

    def _restart(self) -> None:
        """What is retained comes back after a restart of the core."""
        self._core.stop()
        self._core.start()
        self._held("every entity is there after its restart", self._entities)
        self._held("retained states are back", lambda: self._differing(WITHOUT_BAND))

    def _gone(self) -> None:
        """Without the engine nothing is shown as if it were true."""
        self._held("without the engine all is unavailable", self._unavailable)
        complaints = self._core.complaints()
        self._held("its log complains of nothing", lambda: "; ".join(complaints[:3]), 0)

    def _unavailable(self, topics: tuple[str, ...] = ()) -> str:
        shown = self._shown()
        of = {key for key in shown if not topics or (key in SHOWN and SHOWN[key][0] in topics)}
        return ", ".join(sorted(key for key in of if shown[key] != "unavailable"))

    def _shown(self) -> dict[str, str]:
        states = {one["entity_id"]: one["state"] for one in self._core.states()}
        return {key: states.get(entity, "gone") for key, entity in self._found.items()}

    def _differing(self, topics: tuple[str, ...] = ()) -> str:
        """Published before and after is the same: else nobody knows which of the two is shown."""
        published = self._ear.published()
        shown = self._shown()
        if published != self._ear.published():
            return "it changes too fast"
        return "; ".join(differing(shown, published, topics))

    def _heard(self, name: str) -> str:
        return "" if self._ear.said(name) else f"no event {name}"

    def _do(self, domain: str, service: str, component: str, **more: object) -> None:
        if component in self._found:
            self._core.do(domain, service, self._found[component], **more)

    def _held(self, what: str, wrong: Callable[[], str], patience_s: float = PATIENCE_S) -> None:
        """Wait until nothing is wrong; say so, or what still is."""
        end = time.monotonic() + patience_s
        while (said := _tried(wrong)) and time.monotonic() < end:
            time.sleep(0.3)
        self.failed += bool(said)
        self._say(f"{'FAILED' if said else 'ok    '} {what}{': ' + said if said else ''}")


def _tried(wrong: Callable[[], str]) -> str:
    try:
        return wrong()
    except (RunError, OSError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
