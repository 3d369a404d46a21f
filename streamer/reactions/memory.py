"""The alarm's state: saved durably, checked when loaded, with the time and window set by command."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import time
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from streamer.host import private
from streamer.payloads import EventPayload
from streamer.reactions.settings import AlarmSettings

MOST_AHEAD_S = 31 * 86400.0  # between arming and the deadline
MOST_BYTES = 1 << 16  # of the file; a good one has a few hundred
MOST_WINDOW_MIN = 180.0  # as in the settings
LATEST = 4102444800.0  # 2100; a later time is a fault

State = Literal["disarmed", "armed", "ringing", "snoozed"]


@dataclass(frozen=True, slots=True)
class Memory:
    """The alarm's state, which survives a restart; times in Unix s."""

    state: State = "disarmed"
    deadline: float = 0.0  # for which it was armed last
    due: float = 0.0  # when the state ends: the deadline, the end of a snooze or of the ringing
    snoozes: int = 0
    by_command: bool = False  # disarmed by command, so not armed again by a restart
    configured: str = ""  # the deadline in the settings, if it was armed for that
    clock_time: str = ""  # the time of day of the deadline; "" if a date was given
    settings: str = ""  # the settings when this was saved; "" if by an earlier version
    serial: int = 0  # number of changes: the higher of two states is the newer, whatever the clocks showed
    written: float = 0.0  # when it was saved
    owed: float = 0.0  # a deadline that the clock jumped over, to be armed for again if it goes back; 0: none
    at: str = ""  # the time of day that was set by command, and ...
    at_instead: str = ""  # ... that of the settings then
    window_min: float = -1.0  # likewise for the window; -1: that of the settings
    window_instead: float = -1.0
    owed_before: float = 0.0  # the clock has gone back if it shows less than this


_MEMORY = TypeAdapter(Memory)
_FIELDS = [field.name for field in fields(Memory)]
_TIMES = ("deadline", "due", "written", "owed", "owed_before")


def absurd(memory: Memory, now: float) -> str:
    """Return why this state is implausible, or ""."""
    for name in _TIMES:
        value = getattr(memory, name)
        if not math.isfinite(value) or not 0 <= value < LATEST:
            return f"{name} {value:g} is not a time of this century"
    if not 0 <= memory.snoozes <= 1000 or not 0 <= memory.serial < 1 << 53:
        return "a count is out of bounds"
    try:
        wished = not memory.at or time.fromisoformat(memory.at).tzinfo is None
    except ValueError:
        wished = False
    if not wished or not (memory.window_min == -1 or 0 <= memory.window_min <= MOST_WINDOW_MIN):
        return "the time or window that was set is not valid"
    if memory.state == "disarmed":
        return ""
    written = memory.written or now
    if not 0 < memory.deadline <= written + MOST_AHEAD_S or not 0 < memory.due <= written + MOST_AHEAD_S:
        return "its deadline is too far from when it was armed"
    return ""


def load_memory(path: Path, past: Iterable[EventPayload], now: float) -> tuple[Memory | None, str]:
    """Load the alarm's state from its file, or from its newest event if that is newer or the file unusable.

    Args:
        path: of the file.
        past: events of earlier sessions.
        now: Unix time, s.

    Returns:
        The state, None if there is none; and a remark for the user, or "".

    """
    told = _newest(past, now)
    try:
        memory = _MEMORY.validate_json(private.read(path, MOST_BYTES))
        why = absurd(memory, now)
    except FileNotFoundError:
        return told, ""
    except OSError as error:
        why = str(error.strerror or error)
    except ValidationError:
        why = "it is damaged"
    if why:
        whose = "the settings say" if told is None else "its last event says"
        return told, f"the alarm's file {path.name} is not used: {why}; the alarm is as {whose}"
    if told is not None and told.serial > memory.serial:
        return told, f"the alarm's file {path.name} is older than its last event, which counts"
    return memory, ""


def _newest(past: Iterable[EventPayload], now: float) -> Memory | None:
    found: list[Memory] = []
    for event in past:
        if event.event != "alarm" or "due" not in event.data or event.data.get("test"):
            continue
        with contextlib.suppress(ValidationError):
            memory = _MEMORY.validate_python({key: event.data[key] for key in _FIELDS if key in event.data})
            if not absurd(memory, now):
                found.append(memory)
    return max(reversed(found), key=lambda one: one.serial, default=None)  # of equal ones the last


def write(path: Path, memory: Memory) -> None:
    """Replace the file durably: it survives a power cut once this returns.

    Raises:
        OSError: the disk refuses; the file is as it was.

    """
    private.make_folder(path.parent)
    fresh = path.with_name(path.name + ".new")
    try:
        with open(fresh, "w", encoding="utf-8", opener=private.opener) as file:
            json.dump(asdict(memory), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    private.sync(path.parent)


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
