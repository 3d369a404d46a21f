"""The alarm's time and window, set by command or by the settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

from streamer.reactions.memory import MOST_WINDOW_MIN, Memory
from streamer.reactions.settings import AlarmSettings


def usual(memory: Memory, settings: AlarmSettings) -> time:
    """Return the alarm's time of day: set by command, else that of the settings."""
    return time.fromisoformat(memory.at) if memory.at else settings.deadline


def window_min(memory: Memory, settings: AlarmSettings) -> float:
    """Return how long before the deadline a stage may ring it, min."""
    return settings.window_min if memory.window_min < 0 else memory.window_min


def keep_wishes(memory: Memory, settings: AlarmSettings) -> Memory:
    """Keep the values set by command, unless the settings were changed later."""
    if memory.at and memory.at_instead != settings.deadline.isoformat():
        memory = replace(memory, at="", at_instead="")
    if memory.window_min >= 0 and memory.window_instead != settings.window_min:
        memory = replace(memory, window_min=-1.0, window_instead=-1.0)
    return memory


def with_time(memory: Memory, settings: AlarmSettings, text: str) -> Memory | str:
    """Return the state with another time of day, or why the text is refused."""
    try:
        at = time.fromisoformat(text)
    except ValueError:
        return f"{text[:40]!r} is not a time of day; give one such as 07:00"
    if at.tzinfo is not None:
        return f"{text[:40]!r} has an offset; the zone is in the settings"
    return replace(memory, at=at.isoformat(), at_instead=settings.deadline.isoformat())


def with_window(memory: Memory, settings: AlarmSettings, text: str) -> Memory | str:
    """Return the state with another window, or why the text is refused."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= MOST_WINDOW_MIN:
        return f"{text[:40]!r} is not a window; give minutes from 0 to {MOST_WINDOW_MIN:g}"
    return replace(memory, window_min=minutes, window_instead=settings.window_min)
