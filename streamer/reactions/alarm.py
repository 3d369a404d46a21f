"""The smart alarm's rules: a window in which the stage may ring it, and a deadline that nothing can hold up.

Synchronous and without a clock of its own; `alarm_clock.py` runs it, makes the noise and remembers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta, tzinfo
from typing import Literal

from streamer.messages import RATE_HZ, STAGES, Score
from streamer.reactions.settings import AlarmSettings
from streamer.statistics import SLEEP

MISSED_S = 4 * 3600.0  # a deadline that passed longer ago, while nothing ran, is not rung for any more

State = Literal["disarmed", "armed", "ringing", "snoozed"]


@dataclass(frozen=True, slots=True)
class Memory:
    """What has to survive a restart."""

    state: State = "disarmed"
    deadline: float = 0.0  # Unix s; of the last time that it was armed
    due: float = 0.0  # Unix s at which the state ends: the deadline, the end of a snooze, of the ringing
    snoozes: int = 0
    by_command: bool = False  # disarmed on purpose, so not armed again by a restart
    configured: str = ""  # the deadline in the settings, if it was armed for that


@dataclass(frozen=True, slots=True)
class Change:
    """Something that the alarm did."""

    what: Literal["armed", "window_began", "disarmed", "ringing", "snoozed", "dismissed", "gave_up", "missed"]
    cause: str


class Alarm:
    """One sleeper's alarm.

    Every time it waits for is kept on two clocks: the wall's, because the deadline is a time of day, and the
    steady one, because a wall clock that is set back must not put off what was promised. The first to be
    there counts.

    Args:
        settings: the `[stream.alarm]` table.
        memory: of a former process, or None.
        now: Unix time, s.
        steady: monotonic time, s.

    Attributes:
        memory: what to write down now.

    """

    def __init__(self, settings: AlarmSettings, memory: Memory | None, now: float, steady: float) -> None:
        self.memory = memory or Memory()
        self._settings = settings
        self._configured = settings.deadline.isoformat()
        self._due_steady = steady + self.memory.due - now
        self._since: int | None = None  # end of the first score of an unbroken run that may ring it
        self._last: int | None = None
        self._woke: int | None = None  # end of the last score of wake
        self._window_told = False

    def begin(self, now: float, steady: float) -> Change | None:
        """Settle after a start what happened meanwhile, and arm if the settings say so."""
        memory = self.memory
        if memory.state != "disarmed":
            if memory.state == "armed" and memory.configured not in ("", self._configured):
                return self._arm(self._next(now), now, steady, self._configured)  # the settings were changed
            if now <= memory.due + MISSED_S:
                return None  # `tick` rings, if it is due
            self.memory = replace(memory, state="disarmed")
            if not self._settings.armed:
                return Change("missed", f"nothing was running at {self._told(memory.due)}")
        if self._settings.armed and not memory.by_command:
            return self._arm(self._next(max(now, memory.deadline)), now, steady, self._configured)
        return None

    def arm(self, at: str, now: float, steady: float) -> Change | str:
        """Arm for a clock time, for an ISO 8601 time, or ("") for the configured one; or why not."""
        try:
            deadline = self._time(at, now)
        except ValueError:
            return f"{at[:40]!r} is no time; give one such as 07:00 or 2026-01-02T07:00"
        if deadline <= now:
            return f"{self._told(deadline)} is in the past"
        return self._arm(deadline, now, steady, "" if at else self._configured)

    def disarm(self) -> Change | str:
        """Neither ring nor be armed by a restart until it is armed by command."""
        if self.memory.state == "disarmed":
            return "the alarm is not armed"
        self.memory = replace(self.memory, state="disarmed", by_command=True)
        return Change("disarmed", "by command")

    def dismiss(self, now: float, steady: float) -> Change | str:
        """The sleeper is awake."""
        if self.memory.state not in ("ringing", "snoozed"):
            return "the alarm does not ring"
        return self._end(Change("dismissed", "by command"), now, steady)

    def snooze(self, now: float, steady: float) -> Change | str:
        """Be quiet for a while."""
        if self.memory.state != "ringing":
            return "the alarm does not ring"
        if self.memory.snoozes >= self._settings.max_snoozes:
            return f"snoozed {self.memory.snoozes} times already"
        self._wait("snoozed", now + 60 * self._settings.snooze_min, now, steady)
        self.memory = replace(self.memory, snoozes=self.memory.snoozes + 1)
        return Change("snoozed", f"until {self._told(self.memory.due)}")

    def recall(self, scores: Iterable[Score]) -> None:
        """Begin with a session, or go on with one, whose scores so far these are; nothing rings for them."""
        self._since = self._last = self._woke = None
        for score in scores:
            self._follow(score)

    def push(self, score: Score, now: float, steady: float) -> Change | None:
        """Take the next live score; within the window it may ring the alarm."""
        wants = self._settings
        self._follow(score)
        if self._since is None:
            return None
        waited_s = (score.end - self._since) / RATE_HZ
        begin = self.memory.deadline - 60 * wants.window_min
        if self.memory.state != "armed" or not begin <= now or waited_s < wants.confirm_s:
            return None
        return self._ring(f"{score.stage} for {waited_s:g} s within the window", now, steady)

    def _follow(self, score: Score) -> None:
        """Begin, go on with or break the run of scores that may ring it."""
        unbroken = self._last is not None and score.end - self._last <= 30 * RATE_HZ
        self._last = score.end
        if score.smoothed == "W":
            self._woke = score.end
        if not self._may_ring(score):
            self._since = None
        elif self._since is None or not unbroken:
            self._since = score.end

    def tick(self, now: float, steady: float) -> Change | None:
        """Do what is due by the clock alone; call it every second."""
        memory = self.memory
        if memory.state == "ringing":  # by the steady clock only: setting the other must not silence it
            if steady < self._due_steady:
                return None
            return self._end(Change("gave_up", f"after {self._settings.ring_s:g} s"), now, steady)
        if memory.state == "disarmed":
            return None
        if now < memory.due and steady < self._due_steady:
            return self._window(now)
        cause = "end of the snooze" if memory.state == "snoozed" else "deadline"
        return self._ring(cause, now, steady)

    def _window(self, now: float) -> Change | None:
        """Say once that the window has begun."""
        begun = self.memory.state == "armed" and now >= self.memory.deadline - 60 * self._settings.window_min
        if not begun or self._window_told:
            return None
        self._window_told = True
        return Change("window_began", f"until {self._told(self.memory.deadline)}")

    def _may_ring(self, score: Score) -> bool:
        wants = self._settings
        if score.probabilities is None or score.stage not in wants.stages:
            return False
        if sum(score.probabilities[STAGES.index(stage)] for stage in wants.stages) < wants.min_probability:
            return False
        if score.stage in SLEEP and score.stage != "R" and self._woke is not None:
            return score.end - self._woke >= 60 * wants.settle_min * RATE_HZ  # else just falling asleep
        return True

    def _arm(self, deadline: float, now: float, steady: float, configured: str) -> Change:
        self._since = None
        self._window_told = False
        self.memory = Memory(deadline=deadline, configured=configured)
        self._wait("armed", deadline, now, steady)
        return Change("armed", f"for {self._told(deadline)}")

    def _ring(self, cause: str, now: float, steady: float) -> Change:
        self._wait("ringing", now + self._settings.ring_s, now, steady)
        return Change("ringing", cause)

    def _end(self, change: Change, now: float, steady: float) -> Change:
        self.memory = replace(self.memory, state="disarmed")
        if self._settings.daily:
            self._arm(self._next(max(now, self.memory.deadline)), now, steady, self._configured)
        return change

    def _wait(self, state: State, due: float, now: float, steady: float) -> None:
        self.memory = replace(self.memory, state=state, due=due)
        self._due_steady = steady + due - now

    def _time(self, text: str, now: float) -> float:
        """Unix time of what was asked for.

        Raises:
            ValueError: it is no time.

        """
        if not text:
            return self._next(now)
        if "T" not in text.upper():
            at = time.fromisoformat(text)
            if at.tzinfo is not None:
                raise ValueError(text)
            return next_time(at, now, self._settings.tz)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None and self._settings.tz is not None:
            moment = moment.replace(tzinfo=self._settings.tz)
        return moment.timestamp()

    def _next(self, after: float) -> float:
        return next_time(self._settings.deadline, after, self._settings.tz)

    def _told(self, when: float) -> str:
        return f"{datetime.fromtimestamp(when, self._settings.tz):%Y-%m-%d %H:%M}"


def next_time(at: time, after: float, zone: tzinfo | None) -> float:
    """The first Unix time later than `after` at which clocks in `zone` (None: this machine's) show `at`.

    In the night in which clocks go forward, a time that they leave out counts as if they had not yet been
    set: 02:30 is 03:30. In the night in which they go back, the first of two equal times counts.
    """
    day = datetime.fromtimestamp(after, zone).date()
    for _ in range(3):
        when = datetime.combine(day, at, zone).timestamp()
        if when > after:
            return when
        day += timedelta(days=1)
    raise ValueError(f"no {at} after {after}")
