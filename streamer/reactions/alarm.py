"""The rules of the smart alarm: a window in which a stage may ring it, and a firm deadline.

This is synchronous and gets the time passed in; `alarm_clock.py` runs it, makes the noise and saves its
state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, time

from streamer.messages import RATE_HZ, STAGES, Score
from streamer.night.daytime import next_time
from streamer.night.statistics import SLEEP
from streamer.payloads import AlarmChange
from streamer.reactions.memory import (
    LATEST,
    MOST_AHEAD_S,
    Memory,
    State,
    keep_wishes,
    usual,
    window_min,
    with_time,
    with_window,
)
from streamer.reactions.settings import AlarmSettings

MISSED_S = 4 * 3600.0  # a deadline that passed longer ago, while nothing ran, does not ring
DAY_S = 26 * 3600.0  # the next occurrence of a time of day is nearer, even when the clocks change
SLACK_S = 60.0  # the two clocks may differ so much on a deadline
STALL_S = 10.0  # a longer pause between two ticks means that the machine slept and did not ring
OWED_S = 12 * 3600.0  # for so long after a restart, a clock that is set back brings a deadline back


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the alarm's state."""

    what: AlarmChange
    cause: str
    test: bool = False  # a test: it changes nothing else


class Alarm:
    """One sleeper's alarm.

    Each time it waits for is kept on two clocks: on the wall clock, because the deadline is a time of day,
    and on the steady clock, because setting the wall clock back must not delay the alarm. The first that
    reaches it counts. If the wall clock was there long before the steady one, it may have been set wrong: if
    it is set back before the deadline, the alarm is armed for it again.

    Args:
        settings: the `[stream.alarm]` table.
        memory: the saved state of an earlier process, or None.
        now: Unix time, s.
        steady: monotonic time, s.

    Attributes:
        memory: the state to save now.

    """

    def __init__(self, settings: AlarmSettings, memory: Memory | None, now: float, steady: float) -> None:
        self.memory = keep_wishes(memory or Memory(), settings)
        self._settings = settings
        self._said = (
            f"{settings.deadline.isoformat()}|{settings.zone or ''}|{'armed' if settings.armed else ''}"
        )
        self._due_steady = steady + self.memory.due - now
        self._owed_steady = steady + OWED_S
        self._looked = steady  # time of the last tick
        self._since: int | None = None  # end of the first score of the unbroken run that may ring it
        self._last: int | None = None
        self._woke: int | None = None  # end of the last score of wake
        self._window_told = False

    @property
    def _configured(self) -> str:
        """The default time of day."""
        return usual(self.memory, self._settings).isoformat()

    @property
    def _window_s(self) -> float:
        return 60 * window_min(self.memory, self._settings)

    def begin(self, now: float, steady: float) -> list[Change]:
        """After a start: deal with what happened meanwhile, and arm if the settings say so."""
        changed = self._heed_settings(now, steady)
        if changed is not None:
            return [changed]
        told = [] if self.memory.state == "disarmed" else self._catch_up(now, steady)
        memory = self.memory
        if memory.state == "disarmed" and self._settings.armed and not memory.by_command:
            self._arm_again(now, steady)
            told.append(Change("armed", f"for {self._told(self.memory.deadline)}"))
        if self.memory.settings != self._said:
            self._become(now)
        return told

    def _heed_settings(self, now: float, steady: float) -> Change | None:
        """Take the settings if they were changed after the memory was written."""
        memory, wants = self.memory, self._settings
        if memory.settings == self._said:
            return None
        if not memory.settings:  # saved by an earlier version, which saved only a part of them
            if memory.state != "armed" or not memory.configured:
                return None
            if wants.armed and memory.configured == self._configured:
                return None
        before = f"{memory.state} for {self._told(memory.deadline)}"
        if wants.armed:
            if not memory.deadline and not memory.by_command:
                return None  # nothing was remembered
            since = "by command" if memory.by_command else before
            why = f": the settings were changed since it was {since}"
            return self._arm(self._next(now), now, steady, self._configured, why)
        if memory.state == "disarmed":
            return None
        was_armed = memory.settings.endswith("|armed") or not memory.settings
        if was_armed:
            self._become(now, state="disarmed", owed=0.0, owed_before=0.0)
            return Change("disarmed", f"the settings say so now; it was {before}")
        if memory.state == "armed" and memory.configured:
            why = f": the settings were changed since it was {before}"
            return self._arm(self._next(now), now, steady, self._configured, why)
        return None

    def _catch_up(self, now: float, steady: float) -> list[Change]:
        """Go on with an alarm that was armed, ringing or snoozed before a restart."""
        memory, wants = self.memory, self._settings
        if memory.state == "armed" and memory.clock_time and self._strange(now):
            why = ": the clock or its zone was changed"
            when = next_time(time.fromisoformat(memory.clock_time), now, wants.tz)
            return [self._arm(when, now, steady, memory.configured, why, memory.clock_time)]
        if now > memory.due + MISSED_S:
            owed = (memory.deadline, memory.deadline) if memory.state == "armed" else (0.0, 0.0)
            self._become(now, state="disarmed", owed=owed[0], owed_before=owed[1])
            return [Change("missed", f"nothing was running at {self._told(memory.due)}")]
        if memory.state == "ringing":  # it did not ring for its full time
            self._wait("ringing", now + wants.ring_s, now, steady)
        elif memory.state == "snoozed":
            self._wait("snoozed", min(memory.due, now + 60 * wants.snooze_min), now, steady)
        return []  # if it is due, `tick` rings it

    def _strange(self, now: float) -> bool:
        """Whether the deadline no longer matches the time of day it was set for."""
        memory = self.memory
        at = time.fromisoformat(memory.clock_time)
        meant = next_time(at, memory.deadline - 60, self._settings.tz)
        return memory.deadline - now > DAY_S or abs(meant - memory.deadline) > 1

    def arm(self, at: str, now: float, steady: float) -> Change | str:
        """Arm for a time of day, an ISO 8601 time, or ("") the configured time; or return why not."""
        try:
            deadline, clock_time = self._time(at, now)
        except (ValueError, OverflowError, OSError):
            return f"{at[:40]!r} is not a time; give one such as 07:00 or 2026-01-02T07:00"
        if deadline <= now:
            return f"{self._told(deadline)} is in the past"
        if deadline > now + MOST_AHEAD_S or deadline >= LATEST:
            return f"{at[:40]!r} is more than {MOST_AHEAD_S / 86400:g} days ahead"
        return self._arm(deadline, now, steady, "" if at else self._configured, clock_time=clock_time)

    def disarm(self, now: float) -> Change | str:
        """Disarm. Only a command or changed settings arm it again, a restart does not."""
        if self.memory.state == "disarmed" and not self.memory.owed:
            return "the alarm is not armed"
        self._become(now, state="disarmed", by_command=True, owed=0.0, owed_before=0.0)
        return Change("disarmed", "by command")

    def set_time(self, text: str, now: float, steady: float) -> Change | str:
        """Change the time of day; an armed alarm is armed for the new one."""
        memory = with_time(self.memory, self._settings, text)
        if isinstance(memory, str):
            return memory
        self.memory = memory
        if memory.state == "armed":
            return self._arm(self._next(now), now, steady, self._configured, ": its time was set")
        self._become(now)
        return Change("set", f"for {usual(memory, self._settings):%H:%M} when it is armed")

    def set_window(self, text: str, now: float) -> Change | str:
        """Change how long before the deadline a stage may ring it."""
        memory = with_window(self.memory, self._settings, text)
        if isinstance(memory, str):
            return memory
        self.memory, self._window_told = memory, False
        self._become(now)
        return Change("set", f"the stage may ring it {memory.window_min:g} min before it is due")

    def dismiss(self, now: float, steady: float) -> Change | str:
        """End the ringing or the snooze: the sleeper is awake."""
        if self.memory.state not in ("ringing", "snoozed"):
            return "the alarm does not ring"
        return self._end(Change("dismissed", "by command"), now, steady)

    def snooze(self, now: float, steady: float) -> Change | str:
        """Stop ringing for `snooze_min`."""
        if self.memory.state != "ringing":
            return "the alarm does not ring"
        if self.memory.snoozes >= self._settings.max_snoozes:
            return f"snoozed {self.memory.snoozes} times already"
        self._wait("snoozed", now + 60 * self._settings.snooze_min, now, steady, self.memory.snoozes + 1)
        return Change("snoozed", f"until {self._told(self.memory.due)}")

    def restore(self, scores: Iterable[Score]) -> None:
        """Take the scores so far of a session that begins or continues; they do not ring the alarm."""
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
        begin = self.memory.deadline - self._window_s
        if self.memory.state != "armed" or not begin <= now or waited_s < wants.confirm_s:
            return None
        cause = f"{score.stage} for {waited_s:g} s within the window"
        return self._ring(cause, now, steady, begin, self._due_steady - self._window_s)

    def _follow(self, score: Score) -> None:
        """Extend or end the run of scores that may ring it."""
        unbroken = self._last is not None and score.end - self._last <= 30 * RATE_HZ
        self._last = score.end
        if score.smoothed == "W":
            self._woke = score.end
        if not self._may_ring(score):
            self._since = None
        elif self._since is None or not unbroken:
            self._since = score.end

    def tick(self, now: float, steady: float) -> Change | None:
        """Do what is due by the clocks; to be called every second."""
        stalled_s, self._looked = steady - self._looked, steady
        if self.memory.owed and (change := self._bring_back(now, steady)):
            return change
        memory = self.memory
        if memory.state == "ringing":  # by the steady clock only: setting the wall clock must not silence it
            if stalled_s > STALL_S:
                self._due_steady += stalled_s
            if steady < self._due_steady:
                return None
            return self._end(Change("gave_up", f"after {self._settings.ring_s:g} s"), now, steady)
        if memory.state == "disarmed":
            return None
        if now < memory.due and steady < self._due_steady:
            return self._window(now)
        if memory.state == "snoozed":
            return self._ring("end of the snooze", now, steady)
        if memory.clock_time and now > memory.due + MISSED_S and steady < self._due_steady - SLACK_S:
            return self._leap(now, steady)
        return self._ring("deadline", now, steady, memory.deadline, self._due_steady)

    def _bring_back(self, now: float, steady: float) -> Change | None:
        """Arm again for a deadline that the wall clock jumped over, if it is set back before it."""
        memory = self.memory
        if steady >= self._owed_steady:  # by the steady clock the deadline has passed
            self.memory = replace(memory, owed=0.0, owed_before=0.0)
            return None
        if now >= memory.owed_before - 1:
            return None
        usual = abs(self._next(memory.owed - 60) - memory.owed) <= 1
        why = ": the clock was set back"
        return self._arm(memory.owed, now, steady, self._configured if usual else "", why)

    def _leap(self, now: float, steady: float) -> Change:
        """Arm for the next occurrence of the time of day: the wall clock was set far past the deadline."""
        memory, promised = self.memory, self._due_steady
        when = next_time(time.fromisoformat(memory.clock_time), now - MISSED_S, self._settings.tz)
        if when <= now:
            return self._ring("deadline", now, steady, memory.deadline, promised)
        why = f": the clock was set forward over {self._told(memory.deadline)}"
        owed = memory.deadline, memory.deadline
        change = self._arm(when, now, steady, memory.configured, why, memory.clock_time, owed)
        self._owed_steady = promised
        return change

    def _window(self, now: float) -> Change | None:
        """Report once that the window has begun."""
        begun = self.memory.state == "armed" and now >= self.memory.deadline - self._window_s
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
            return score.end - self._woke >= 60 * wants.settle_min * RATE_HZ  # not just falling asleep
        return True

    def _arm(
        self,
        deadline: float,
        now: float,
        steady: float,
        configured: str,
        why: str = "",
        clock_time: str | None = None,
        owed: tuple[float, float] = (0.0, 0.0),
    ) -> Change:
        self._since = None
        self._window_told = False
        self.memory = replace(
            self.memory,
            deadline=deadline,
            configured=configured,
            clock_time=configured if clock_time is None else clock_time,
            by_command=False,
            owed=owed[0],
            owed_before=owed[1],
        )
        self._wait("armed", deadline, now, steady, snoozes=0)
        return Change("armed", f"for {self._told(deadline)}{why}")

    def _ring(
        self, cause: str, now: float, steady: float, before: float = 0.0, promised: float = -1.0
    ) -> Change:
        """Begin to ring; `promised`, steady s: when the steady clock reaches what the wall clock has."""
        if steady < promised - SLACK_S:
            self._become(now, owed=self.memory.deadline, owed_before=before)
            self._owed_steady = self._due_steady
        self._wait("ringing", now + self._settings.ring_s, now, steady)
        return Change("ringing", cause)

    def _end(self, change: Change, now: float, steady: float) -> Change:
        self._become(now, state="disarmed")
        if self._settings.daily:
            self._arm_again(now, steady)
        return change

    def _arm_again(self, now: float, steady: float) -> None:
        """Arm for the next day, not for the deadline that just rang."""
        memory = self.memory
        after = now if memory.deadline - now > MISSED_S else max(now, memory.deadline)
        owed = memory.owed, memory.owed_before
        self._arm(self._next(after), now, steady, self._configured, owed=owed)

    def _wait(self, state: State, due: float, now: float, steady: float, snoozes: int | None = None) -> None:
        snoozed = self.memory.snoozes if snoozes is None else snoozes
        self._become(now, state=state, due=due, snoozes=snoozed)
        self._due_steady = steady + due - now

    def _become(self, now: float, **changes: object) -> None:
        said = {"settings": self._said, "serial": self.memory.serial + 1, "written": now}
        self.memory = replace(self.memory, **said, **changes)  # type: ignore[arg-type]

    def _time(self, text: str, now: float) -> tuple[float, str]:
        """Read the requested time: Unix time, and the time of day if that was given.

        Raises:
            ValueError, OverflowError, OSError: the text is not a time, or beyond the calendar.

        """
        if not text:
            return self._next(now), self._configured
        if "T" not in text.upper():
            at = time.fromisoformat(text)
            if at.tzinfo is not None:
                raise ValueError(text)
            return next_time(at, now, self._settings.tz), at.isoformat()
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None and self._settings.tz is not None:
            moment = moment.replace(tzinfo=self._settings.tz)
        return moment.timestamp(), ""

    def _next(self, after: float) -> float:
        return next_time(usual(self.memory, self._settings), after, self._settings.tz)

    def _told(self, when: float) -> str:
        try:
            return f"{datetime.fromtimestamp(when, self._settings.tz):%Y-%m-%d %H:%M}"
        except (ValueError, OverflowError, OSError):  # beyond the calendar
            return f"{when:.0f} s after 1970"
