"""Numbers for markers. A code never changes between versions; new ones may be added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

from streamer.payloads import EventName, EventPayload, PublishedStage

STAGE_CODES: Mapping[PublishedStage, int] = {
    "W": 1,
    "N1": 2,
    "N2": 3,
    "N3": 4,
    "R": 5,
    "unscored": 8,
    "no_signal": 9,
}
EVENT_CODES: Mapping[EventName, int] = {
    "session_started": 20,
    "session_resumed": 21,
    "session_ended": 22,
    "gap": 23,
    "reconnected": 24,
    "no_signal": 25,
    "channel_changed": 26,
    "warning": 27,
    "error": 28,
    "refused": 29,
    "lights_off": 30,
    "lights_on": 31,
    "mark": 32,
    "marker": 33,
    "alarm": 34,
    "trigger": 35,  # of an earlier version: a trigger has a code of its own
    "report": 36,
}
OTHER = 99  # any event without a code
CONDITIONS = {"active": 1, "sham": 2}  # 0: no trigger, or blinded


@dataclass(frozen=True, slots=True)
class Coded:
    """A marker, encoded as numbers."""

    code: int
    number: int = -1  # of a trigger's firings in the night, from 0; -1: no trigger
    condition: int = 0
    due: float = nan  # Unix s when a stimulus was due; NaN: no trigger


def encode_event(event: EventPayload) -> Coded:
    """Encode an event as numbers."""
    data = event.data
    code, number, due = data.get("code"), data.get("number"), data.get("due")
    if event.event != "trigger" or not isinstance(code, int):
        return Coded(EVENT_CODES.get(event.event, OTHER))
    return Coded(
        code,
        number if isinstance(number, int) else -1,
        CONDITIONS.get(str(data.get("arm")), 0),
        float(due) if isinstance(due, int | float) else nan,
    )


def table(triggers: Mapping[str, int]) -> dict[str, int]:
    """Return all codes by their meaning; `triggers` are the codes of the stream's triggers, by name."""
    found = {f"stage {stage}": code for stage, code in STAGE_CODES.items()}
    found |= {name: code for name, code in EVENT_CODES.items() if name != "trigger"}
    for name, code in triggers.items():
        found |= {f"trigger {name}": code, f"trigger {name} (sham)": code + 1}
    return found
