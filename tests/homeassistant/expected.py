"""What Home Assistant's entities must show of what the engine has published; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

Payload = Mapping[str, Any]
STAGES = {"W": "Awake", "N1": "Dozing", "N2": "Light sleep", "N3": "Deep sleep", "R": "REM sleep"}
STAGES |= {"unscored": "Unscored", "no_signal": "No signal"}
UNKNOWN = "unknown"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _asleep(stage: str) -> str:
    return {"W": "off", "unscored": UNKNOWN, "no_signal": UNKNOWN}.get(stage, "on")


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


SHOWN: dict[str, tuple[str, Callable[[Payload], object]]] = {  # by component: of which topic, and what
    "stage": ("stage", lambda it: STAGES[it["stage"]]),
    "confidence": ("stage", lambda it: _percent(it["confidence"])),
    "quality": ("stage", lambda it: it["quality"]["grade"]),
    "lost": ("stage", lambda it: _percent(it["quality"]["lost_fraction"])),
    "stage_duration": ("stage", lambda it: _minutes(it["stage_lasted_s"])),
    "asleep": ("stage", lambda it: _asleep(it["stage"])),
    "worn": ("stage", lambda it: "off" if it["quality"]["grade"] == "off" else "on"),
    "time_asleep": ("summary", lambda it: it["statistics"]["tst_min"]),
    "night_date": ("night", lambda it: it["date"]),
    "night_sleep": ("night", lambda it: it["statistics"]["tst_min"]),
    "night_efficiency": ("night", lambda it: it["statistics"]["se_percent"]),
    "night_onset": ("night", lambda it: it["statistics"]["sol_min"]),
    "night_rem": ("night", lambda it: it["statistics"]["r_min"]),
    "night_deep": ("night", lambda it: it["statistics"]["n3_min"]),
    "night_awakenings": ("night", lambda it: it["statistics"]["awakenings"]),
    "signal": ("signal", lambda it: "on" if it["waiting"] else "off"),
    "alarm": ("alarm", lambda it: "off" if it["state"] == "disarmed" else "on"),
    "alarm_time": ("alarm", lambda it: it["deadline"]),
    "alarm_set_time": ("alarm", lambda it: it["time"]),
    "alarm_window": ("alarm", lambda it: it["window_min"]),
}
BAND = ("stage", "summary")  # topics whose entities are there while samples come
WITHOUT_BAND = ("night", "signal", "alarm")  # topics whose entities need only the engine


def differing(
    shown: Mapping[str, str], published: Mapping[str, Payload], topics: tuple[str, ...] = ()
) -> list[str]:
    """Entities that do not show what was published, a line each.

    Args:
        shown: state in Home Assistant, by component.
        published: the last payload of each topic.
        topics: compare what these say only; (): all.

    """
    lines = []
    for component, (topic, wanted) in SHOWN.items():
        if topic not in published or (topics and topic not in topics):
            continue
        want, got = wanted(published[topic]), shown.get(component, "no such entity")
        if not alike(want, got):
            lines.append(f"{component}: Home Assistant shows {got!r}, published was {want!r}")
    return lines


def alike(wanted: object, shown: str) -> bool:
    """Whether a state says what was published: figures to a tenth, times to the second."""
    if wanted is None:
        return shown == UNKNOWN
    if isinstance(wanted, int | float):
        try:
            return abs(float(shown) - wanted) <= 0.0501
        except ValueError:
            return False
    try:
        return abs((datetime.fromisoformat(shown) - datetime.fromisoformat(str(wanted))).total_seconds()) < 1
    except (ValueError, TypeError):
        return shown == wanted


def entities(device: Payload, states: list[Payload]) -> tuple[dict[str, str], list[str]]:
    """Which entity each component of a discovery message has become, and which have become none.

    Args:
        device: the message, with the long names of its keys.
        states: of Home Assistant, as its REST interface lists them.

    """
    found, missing = {}, []
    for key, component in device["components"].items():
        name = f"{device['device']['name']} {component['name']}"
        kind = component["platform"]
        ids = [
            one["entity_id"]
            for one in states
            if one["entity_id"].startswith(f"{kind}.") and one["attributes"].get("friendly_name") == name
        ]
        if ids:
            found[key] = ids[0]
        else:
            missing.append(f"{kind} {name!r}")
    return found, missing
