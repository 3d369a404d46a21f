"""Runs the triggers of one stream: each firing is recorded, carried out and published."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from streamer.clock import Clock
from streamer.messages import EPOCH_SAMPLES, RATE_HZ, STAGES, Chunk, Item, Score
from streamer.news import Arm
from streamer.payloads import EventPayload, utc
from streamer.reactions.actions import Actions, Value
from streamer.reactions.arms import ArmList, arm_path
from streamer.reactions.firings import FiringLog, Kept
from streamer.reactions.phase import Due, UpStates
from streamer.reactions.settings import TriggerSettings, codes
from streamer.reactions.triggers import Course, Firing, Trigger
from streamer.settings import SignalSettings
from streamer.sinks.handover import Aside, Guard
from streamer.sinks.publisher import Publisher

OFF_S = 30.0  # of the stream: after so long of late stages, or of stages in time, that is reported
UNTOLD = 16  # last firings that an earlier process may not have published
USUAL_S, SAME_S = 60.0, 0.5  # a lateness that stays within SAME_S for USUAL_S is the new usual one
LATE_S = 0.03  # a phase that passed longer ago is not acted on: 9 degrees of a wave of 0.85 Hz
HELD = 10_000  # phases of a recording that wait for their scores
Data = dict[str, str | int | float | bool | None]
FORGIVE = 0.005  # s per s: a device's clock may fall behind so fast without its samples counting as late


class Lateness:
    """Measures how late a score is, compared with the least late recent one.

    Late scores catch up after a while. A lateness that stays the same for `USUAL_S` is the new usual one: the
    device's clock stood still for a while, or a loss was not found.
    """

    def __init__(self) -> None:
        self._usual: float | None = None
        self._last = 0.0
        self._level = 0.0  # the lateness has been near this since ...
        self._since = 0.0  # ... this time of the host

    def push(self, end: float, now: float) -> float:
        """Return how late a score is, s: it ended at `end` (stream's clock) and came at `now` (host's)."""
        found = now - end
        if self._usual is None:
            self._usual, self._last = found, end
        if abs(found - self._level) > SAME_S:
            self._level, self._since = found, now
        if now - self._since >= USUAL_S:
            self._usual = max(self._usual, self._level - SAME_S)
        self._usual = min(found, self._usual + FORGIVE * max(0.0, end - self._last))
        self._last = end
        return found - self._usual


class Lagging:
    """Whether stages have been too late for a trigger, or in time again, for `OFF_S`."""

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._off = False
        self._since: float | None = None  # of the stream, s: since when it differs from the reported state

    def push(self, at_s: float, age_s: float) -> bool | None:
        """Take the lateness at a second of the stream; return the new state when it changes, else None."""
        if (age_s > self._max_age_s) == self._off:
            self._since = None
            return None
        self._since = at_s if self._since is None else self._since
        if at_s - self._since < OFF_S:
            return None
        self._off, self._since = not self._off, None
        return self._off


class Reflexes:
    """Passes every score to every trigger; a sink.

    Args:
        settings: the stream's triggers.
        publisher: publishes the firings.
        actions: carries out what a firing does on this machine.
        clock: time.
        live: the stream is a device; a recording is never late.
        session: path of the session file; the arms are listed beside it, if any trigger has a sham arm.
        firings: records each firing before it acts.
        arms: an `ArmList` with its own thread; None: it is written on the event loop.
        signal: which channel is staged; triggers with a phase follow that channel.

    """

    def __init__(
        self,
        settings: Sequence[TriggerSettings],
        publisher: Publisher,
        actions: Actions,
        clock: Clock,
        live: bool,
        session: Path,
        firings: FiringLog,
        arms: Aside | None = None,
        signal: SignalSettings | None = None,
    ) -> None:
        self.triggers = {one.name: Trigger(one, publisher.session) for one in settings}
        self.session = publisher.session
        self.arms = arm_path(session)
        self._arm_list = arms or Guard(ArmList(arm_path(session)), clock)
        self._course = Course()
        self._begins: deque[int] = deque()  # 100 Hz index of each time that the lights go off
        self._publisher = publisher
        self._actions = actions
        self._clock = clock
        self._lateness = Lateness() if live else None
        self._firings = firings
        self._since = -math.inf  # scores that arrived up to then are caught up, and fire nothing
        for name, trigger in self.triggers.items():
            trigger.restore([one.key[1] for one in firings.kept if one.trigger == name])
        self._codes = codes(settings)
        self._upstates = {
            one.name: UpStates(publisher.info, signal or SignalSettings(), one.phase)
            for one in settings
            if one.phase is not None
        }
        self._held = {name: deque[Due](maxlen=HELD) for name in self._upstates}  # of a recording
        self._arrivals = Lateness()  # of samples
        self._zero = 0.0  # steady s at which sample 0 would have come without delay
        self._lagging = {one.name: Lagging(one.max_age_s) for one in settings}

    def push(self, score: Score, end: float) -> None:
        """Take the next score, which ends at Unix time `end`."""
        self._follow(score)
        age_s = 0.0
        if self._lateness is not None and score.arrived:
            now = self._clock.monotonic()
            age_s = max(self._lateness.push(end, now), now - score.arrived)  # before it arrived, and since
        for name, trigger in self.triggers.items():
            held = self._held.get(name, deque())
            while held and held[0].at <= score.end:  # the score before this one decides on it
                self._strike(trigger, held.popleft(), 0.0)
            if score.arrived and score.arrived <= self._since:
                trigger.again(score)
                continue
            firing = trigger.push(score, end, self._course, age_s)
            if trigger.armed and score.probabilities is not None:  # a lost window is always late
                self._report_lag(trigger, age_s, score)
            if firing is not None:
                self._keep(firing, self._clock.monotonic())

    def hear(self, item: Item) -> None:
        """Take live samples, for triggers that wait for a phase."""
        if self._lateness is not None and isinstance(item, Chunk):
            end_s = item.stop / self._publisher.info.rate_hz
            self._zero = item.arrived - end_s - self._arrivals.push(end_s, item.arrived)
        for name, upstates in self._upstates.items():
            trigger = self.triggers[name]
            if self._lateness is None:  # of a recording: chunks may be long, and scores come after them
                self._held[name].extend(upstates.push(item))
                continue
            for due in upstates.push(item, trigger.ready and item.arrived >= self._since):
                self._strike(trigger, due, item.arrived)

    def deafen(self, why: str) -> None:
        """Stop following the phase, and report it."""
        for name in self._upstates:
            self._publisher.event("error", f"trigger {name} is off: the phase cannot be followed: {why}")
        self._upstates.clear()

    def _strike(self, trigger: Trigger, due: Due, arrived: float) -> None:
        """Act on an upcoming phase; one that has passed already, because samples were late, is ignored."""
        now = self._clock.monotonic()
        at_s = now if self._lateness is None else self._zero + due.at / RATE_HZ
        if at_s < now:
            return
        firing = trigger.strike(round(due.at), arrived)
        if firing is not None:
            self._keep(firing, at_s, {"phase_hz": round(due.hz, 3), "phase_uv": round(due.uv, 1)})

    def _keep(self, firing: Firing, at_s: float, phase: Mapping[str, float] | None = None) -> None:
        """Record a firing, and then act on it at steady time `at_s`, or at once if that has passed."""
        self._firings.keep(_kept(firing), partial(self._kept, firing, at_s, phase))

    def _kept(self, firing: Firing, at_s: float, phase: Mapping[str, float] | None, problem: str) -> None:
        """Act on a firing that has been recorded, unless that took too long."""
        now, arrived = self._clock.monotonic(), firing.score.arrived
        if not problem and self._lateness is not None:
            if phase is None and arrived and now - arrived > self.triggers[firing.trigger].settings.max_age_s:
                problem = f"the disk took {now - arrived:.1f} s"
            elif phase is not None and now - at_s > LATE_S:
                problem = f"the disk took until {1000 * (now - at_s):.0f} ms after it was due"
        if problem:
            text = f"{firing.trigger} did not fire, because it could not be recorded in time: {problem}"
            data: Data = {
                "trigger": firing.trigger,
                "number": firing.number,
                "end": firing.score.end / RATE_HZ,
            }
            self._publisher.event("warning", f"{text}; it counts as fired", data)
            return
        fire = partial(self._fire, firing, self._clock.wall() + at_s - now, phase)
        if at_s > now:
            self._actions.later(self._clock.sleep(at_s - now), fire)
        else:
            fire()

    def _report_lag(self, trigger: Trigger, age_s: float, score: Score) -> None:
        """Report when stages become too late for a trigger, and when they are in time again."""
        said = self._lagging[trigger.settings.name].push(score.end / RATE_HZ, age_s)
        if said is not None:
            off = f"is off: stages come {age_s:.1f} s late, but it allows {trigger.settings.max_age_s:g} s"
            text = f"trigger {trigger.settings.name} {off if said else 'is on again: stages come in time'}"
            self._publisher.event("warning", text, {"trigger_off": trigger.settings.name, "off": said})

    def restore(self, scores: Sequence[Score], events: Sequence[EventPayload]) -> None:
        """Continue a session after a crash: replay its scores without firing.

        All firings were recorded, but the event of the last one may be missing; then a warning replaces it.
        Scores that came while the record was read back do not fire either.

        Args:
            scores: all scores so far.
            events: at least those about triggers and lights.

        """
        self._since = self._clock.monotonic()
        for event in events:
            if event.event == "mark" and isinstance(armed := event.data.get("armed"), bool):
                self.arm(str(event.data.get("trigger", "")), armed)
        told = {one.key: one for event in events if (one := _told(event)) is not None}
        kept = {one.key: one for one in self._firings.kept}
        for name, trigger in self.triggers.items():
            trigger.restore([end for trigger_name, end in {**told, **kept} if trigger_name == name])
        for event in events:
            if event.event == "lights_off" and isinstance(epoch := event.data.get("epoch"), int):
                self.lights_off(epoch)
        for score in scores:
            self._follow(score)
            for trigger in self.triggers.values():
                trigger.again(score)
        for one in list(kept.values())[-UNTOLD:]:
            if one.key not in told and one.trigger in self.triggers:
                self._make_up(one)

    def _make_up(self, one: Kept) -> None:
        """Report a firing that was recorded, but perhaps not carried out, when the process died."""
        text = f"{one.trigger} fired as the process died, or was about to; it counts as fired"
        self._publisher.event("warning", text, asdict(one))

    def lights_off(self, epoch: int) -> None:
        """Start the night again with an epoch: sleep onset and cycles are counted from there."""
        self._begins.append(epoch * EPOCH_SAMPLES)

    def _follow(self, score: Score) -> None:
        """Follow the course of the night with a score."""
        while self._begins and score.end > self._begins[0]:
            self._begins.popleft()
            self._course.lights_off()
        self._course.push(score)

    @property
    def armed(self) -> dict[str, bool]:
        """Whether each trigger is armed, by name."""
        return {name: trigger.armed for name, trigger in self.triggers.items()}

    def arm(self, name: str, armed: bool) -> str:
        """Arm or disarm one trigger, or all (""); return why that failed, or ""."""
        if name and name not in self.triggers:
            return f"no trigger is named {name[:64]!r}"
        for trigger in self.triggers.values():
            if name in ("", trigger.settings.name):
                trigger.armed = armed
        return "" if self.triggers else "this stream has no trigger"

    def _fire(self, firing: Firing, due: float, phase: Mapping[str, float] | None) -> None:
        """Publish a firing and carry out its action; `due` in Unix s."""
        score, settings = firing.score, self.triggers[firing.trigger].settings
        assert score.probabilities is not None
        end = self._publisher.info.started + score.end / RATE_HZ
        arm = "sham" if firing.sham else "active"
        told = "blinded" if settings.blind else arm
        name = f"{firing.trigger} (sham)" if told == "sham" else firing.trigger
        data: Data = {
            "trigger": firing.trigger,
            "number": firing.number,
            "code": self._codes[firing.trigger] + (told == "sham"),
            "due": round(due, 6),
            "arm": told,
            "stage": score.stage,
            "probability": round(firing.probability, 5),
            **{f"p_{stage}": round(p, 5) for stage, p in zip(STAGES, score.probabilities, strict=True)},
            "dwell_s": firing.dwelt_s,
            "cycle": firing.cycle,
            "t_end": utc(end).isoformat(),
            "end": score.end / RATE_HZ,
            **(phase or {}),
        }
        arrived = score.arrived
        if phase is not None:  # its time is that of the phase, not of the score's arrival
            data["late_ms"], arrived = round((self._clock.wall() - due) * 1000, 3), 0.0
        self._publisher.urgent("trigger", f"{name}: {firing.cause}", data, arrived, score.end / RATE_HZ)
        if settings.action is not None and not firing.sham:
            facts: dict[str, Value] = {
                "name": firing.trigger,
                "stage": score.stage,
                "probability": round(firing.probability, 5),
            }
            self._actions.carry_out(settings.action, facts)
        if settings.sham:
            self._keep_arm(Arm(firing.trigger, firing.number, arm, end))

    def _keep_arm(self, arm: Arm) -> None:
        self._arm_list.hear("", arm)
        if problem := self._arm_list.complaint():
            self._publisher.event("error", problem)


def _kept(firing: Firing) -> Kept:
    return Kept(firing.trigger, firing.number, firing.score.end / RATE_HZ)


def _told(event: EventPayload) -> Kept | None:
    """Return the firing in an event, or None."""
    name, end, number = (event.data.get(key) for key in ("trigger", "end", "number"))
    if event.event not in ("trigger", "warning") or not isinstance(name, str):
        return None
    if not isinstance(end, int | float):
        return None
    return Kept(name, number if isinstance(number, int) else 0, float(end))
