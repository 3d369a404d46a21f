"""Sleep as Android's names: a night told in them, and a whole engine saying them to a broker."""

import json

import pytest

from streamer.clock import SystemClock
from streamer.errors import SettingsError
from streamer.live.engine import Engine
from streamer.settings import validate
from streamer.sinks.sleepasandroid import SleepAsAndroid
from tests.fakes import Witness, held
from tests.mosquitto import needs_mosquitto, on_mosquitto
from tests.sinks import samples
from tests.sinks.fakes import Subscriber

SIMULATED = {"name": "anna", "hop_s": 30, "source": {"kind": "simulated", "hours": 0.1, "speed": "max"}}


def told(*payloads):
    """What an observer says of stages and events."""
    said = []
    observer = SleepAsAndroid("t", lambda topic, body: said.append(json.loads(body)))
    for one in payloads:
        observer.hear("anna", one)
    return said


def stage(name):
    return samples.stage(1).model_copy(update={"smoothed": name})


def event(name, **data):
    return samples.event(1).model_copy(update={"event": name, "data": data})


def test_stages_are_said_when_they_change():
    night = [stage(name) for name in ("W", "W", "N1", "N2", "unscored", "N2", "N3", "R", "W", "no_signal")]
    assert [one["event"] for one in told(*night)] == [
        "awake",
        "not_awake",
        "light_sleep",
        "deep_sleep",
        "rem",
        "awake",
    ]


def test_sessions_and_silences():
    said = told(
        event("session_started"),
        event("reconnected"),
        event("gap"),
        event("no_signal"),
        event("reconnected"),
        event("session_ended"),
    )
    assert [one["event"] for one in said] == [
        "sleep_tracking_started",
        "sleep_tracking_paused",
        "sleep_tracking_resumed",
        "sleep_tracking_stopped",
    ]


def test_alarms_bear_their_time_in_milliseconds():
    what = ("armed", "window_began", "ringing", "snoozed", "dismissed", "gave_up")
    said = told(*(event("alarm", what=one, deadline=1582719660.934) for one in what))
    assert [one["event"] for one in said] == [
        "alarm_rescheduled",
        "smart_period",
        "alarm_alert_start",
        "alarm_snooze_clicked",
        "alarm_alert_dismiss",
    ]
    assert {one["value1"] for one in said} == {"1582719660934"}


@needs_mosquitto
def test_an_engine_says_them(tmp_path):
    async def scenario(port):
        data = {
            "session_dir": str(tmp_path),
            "mqtt": {"port": port},
            "sleep_as_android": {},
            "stream": [SIMULATED],
        }
        async with Subscriber(port, "SleepAsAndroid/anna") as client:
            witness = Witness()
            source = held(lambda: witness.brokers and witness.brokers[-1].connected)
            await Engine(validate(data, "test"), SystemClock(), witness, sources=source).run()
            await client.until(
                lambda heard: any(one.json["event"] == "sleep_tracking_stopped" for one in heard)
            )
            return client.heard

    heard = on_mosquitto(scenario)
    assert not any(one.retain for one in heard)
    assert "awake" in [one.json["event"] for one in heard]


def test_it_needs_a_broker_and_a_topic_for_each():
    with pytest.raises(SettingsError, match="needs"):
        validate({"sleep_as_android": {}, "stream": [SIMULATED]}, "test")
    two = [SIMULATED, {**SIMULATED, "name": "ben"}]
    with pytest.raises(SettingsError, match="would mix"):
        validate({"mqtt": {}, "sleep_as_android": {"topic": "x"}, "stream": two}, "test")
