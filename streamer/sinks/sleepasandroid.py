"""Publishes the night under the event names of Sleep as Android, for existing automations.

Names and values: https://docs.sleep.urbandroid.org/services/automation.html. `{"event": ..., "value1": ...}`;
`value1` of alarm events is the alarm's time in Unix milliseconds, as text. Never retained, never late.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from streamer.news import StagesAndEvents
from streamer.payloads import EventPayload, StagePayload

Say = Callable[[str, str], None]  # topic and body, at once

STAGES = {"W": "awake", "N1": "light_sleep", "N2": "light_sleep", "N3": "deep_sleep", "R": "rem"}
EVENTS = {
    "session_started": "sleep_tracking_started",
    "session_resumed": "sleep_tracking_started",
    "session_ended": "sleep_tracking_stopped",
    "no_signal": "sleep_tracking_paused",
}
ALARM = {
    "window_began": "smart_period",
    "ringing": "alarm_alert_start",
    "snoozed": "alarm_snooze_clicked",
    "dismissed": "alarm_alert_dismiss",
    "armed": "alarm_rescheduled",
}


class SleepAsAndroid(StagesAndEvents):
    """A sink of one stream.

    Args:
        topic: where to publish; one for each sleeper.
        say: publishes at once.

    """

    name = "Sleep as Android"
    prompt = True  # MQTT queues the messages

    def __init__(self, topic: str, say: Say) -> None:
        self._topic = topic
        self._say = say
        self._phase = ""
        self._paused = False

    def _staged(self, payload: StagePayload) -> None:
        """Publish a change of the smoothed stage."""
        phase = STAGES.get(payload.smoothed)
        if phase is None or phase == self._phase:
            return
        if self._phase == "awake":
            self._tell("not_awake")
        self._phase = phase
        self._tell(phase)

    def _happened(self, payload: EventPayload) -> None:
        """Publish an event that has a name there."""
        if payload.event == "alarm":
            name, due = ALARM.get(str(payload.data.get("what"))), payload.data.get("deadline")
            if name is not None:
                self._tell(name, str(round(float(due or 0) * 1000)))
        elif payload.event == "reconnected" and self._paused:
            self._paused = False
            self._tell("sleep_tracking_resumed")
        elif payload.event in EVENTS:
            self._paused = payload.event == "no_signal"
            self._tell(EVENTS[payload.event])

    def _tell(self, event: str, value: str | None = None) -> None:
        values = {} if value is None else {"value1": value}
        self._say(self._topic, json.dumps({"event": event, **values}, separators=(",", ":")))
