"""The triggers of one stream at work: each firing goes out at once, and its arm is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from streamer import private
from streamer.clock import Clock
from streamer.journal import PROMISE_S
from streamer.messages import EPOCH_SAMPLES, RATE_HZ, STAGES, Score
from streamer.payloads import EventPayload, utc
from streamer.publisher import Publisher
from streamer.reactions.actions import Actions, Value
from streamer.reactions.settings import TriggerSettings
from streamer.reactions.triggers import Course, Firing, Trigger

FORGIVE = 0.005  # s per s: how fast a device's clock may fall behind without its samples counting as late


class Lateness:
    """How much later than the most punctual ones a score has come; that one is slowly forgotten."""

    def __init__(self) -> None:
        self._usual: float | None = None
        self._last = 0.0

    def push(self, end: float, now: float) -> float:
        """Seconds of lateness of what ended at `end` on the stream's clock, at `now` on the host's."""
        found = now - end
        if self._usual is None:
            self._usual, self._last = found, end
        self._usual = min(found, self._usual + FORGIVE * max(0.0, end - self._last))
        self._last = end
        return found - self._usual


class Reflexes:
    """Asks every trigger about every score; a listener of the publisher.

    Args:
        settings: the stream's triggers.
        hop_s: seconds between scores.
        publisher: says what fired.
        actions: does what a firing is to do on this machine.
        clock: tells late from live; a recording is never late.
        live: the stream is a device.
        session: path of the session file; the arms are listed beside it, where any trigger has a sham arm.

    """

    def __init__(
        self,
        settings: Sequence[TriggerSettings],
        hop_s: int,
        publisher: Publisher,
        actions: Actions,
        clock: Clock,
        live: bool,
        session: Path,
    ) -> None:
        self.triggers = {one.name: Trigger(one, hop_s, publisher.session) for one in settings}
        self.arms = session.with_suffix(".arms.jsonl")
        self._course = Course()
        self._publisher = publisher
        self._actions = actions
        self._clock = clock
        self._lateness = Lateness() if live else None

    def push(self, score: Score, end: float) -> None:
        """Take the next score, which ends at Unix time `end`."""
        self._course.push(score)
        age_s = 0.0
        if self._lateness is not None and score.arrived:
            now = self._clock.monotonic()
            age_s = max(self._lateness.push(end, now), now - score.arrived)  # on the way here, and in here
        for trigger in self.triggers.values():
            firing = trigger.push(score, end, self._course, age_s)
            if firing is not None:
                self._fire(trigger.settings, firing, end)

    def restore(self, scores: Sequence[Score], events: Sequence[EventPayload], stop: int) -> None:
        """Go on with a session as if its process had not died: hear its scores again, and fire nothing.

        The events say what has fired, but the last of them may have died with the process. What would have
        fired in that time counts as fired, lest there be one too many.

        Args:
            scores: every one so far.
            events: every one in the record.
            stop: 100 Hz index at which the record ends.

        """
        for event in events:
            if event.event == "mark" and isinstance(armed := event.data.get("armed"), bool):
                self.arm(str(event.data.get("trigger", "")), armed)
        for name, trigger in self.triggers.items():
            ends = [event.data.get("end") for event in events if event.data.get("trigger") == name]
            trigger.recall([round(end * RATE_HZ) for end in ends if isinstance(end, int | float)])
        lights = [event.data.get("epoch") for event in events if event.event == "lights_off"]
        begins = [epoch * EPOCH_SAMPLES for epoch in lights if isinstance(epoch, int)]
        for score in scores:
            while begins and score.end > begins[0]:
                self._course.lights_off()
                del begins[0]
            self._course.push(score)
            now = self._publisher.info.started + score.end / RATE_HZ
            for trigger in self.triggers.values():
                lost_s = max(PROMISE_S, trigger.settings.max_age_s)  # it fires no later than that
                doubtful = score.end > stop - lost_s * RATE_HZ
                self._doubt(trigger.again(score, now, self._course, doubtful))
        if begins:
            self._course.lights_off()

    def _doubt(self, firing: Firing | None) -> None:
        """Say what may have fired without a record, in the words by which `restore` will know it again."""
        if firing is not None:
            text = f"{firing.trigger} may have fired as the process died, and counts as fired"
            end_s = firing.score.end / RATE_HZ
            self._publisher.event(
                "warning", text, {"trigger": firing.trigger, "number": firing.number, "end": end_s}
            )

    def lights_off(self) -> None:
        """The night begins anew: sleep onset and cycles are counted from here."""
        self._course.lights_off()

    def arm(self, name: str, armed: bool) -> str:
        """Arm or disarm one trigger, or all (""); why that cannot be, or ""."""
        if name and name not in self.triggers:
            return f"no trigger is named {name[:64]!r}"
        for trigger in self.triggers.values():
            if name in ("", trigger.settings.name):
                trigger.armed = armed
        return "" if self.triggers else "this stream has no trigger"

    def _fire(self, settings: TriggerSettings, firing: Firing, end: float) -> None:
        score = firing.score
        assert score.probabilities is not None
        arm = "sham" if firing.sham else "active"
        told = "blinded" if settings.blind else arm
        name = f"{firing.trigger} (sham)" if told == "sham" else firing.trigger
        data: dict[str, str | int | float | bool | None] = {
            "trigger": firing.trigger,
            "number": firing.number,
            "arm": told,
            "stage": score.stage,
            "probability": round(firing.probability, 5),
            **{f"p_{stage}": round(p, 5) for stage, p in zip(STAGES, score.probabilities, strict=True)},
            "dwell_s": firing.dwelt_s,
            "cycle": firing.cycle,
            "t_end": utc(end).isoformat(),
            "end": score.end / RATE_HZ,
        }
        self._publisher.urgent("trigger", f"{name}: {firing.cause}", data, score.arrived, score.end / RATE_HZ)
        if settings.action is not None and not firing.sham:
            facts: dict[str, Value] = {
                "name": firing.trigger,
                "stage": score.stage,
                "probability": round(firing.probability, 5),
            }
            self._actions.carry_out(settings.action, facts)
        if settings.sham:
            self._keep_arm({"trigger": firing.trigger, "number": firing.number, "arm": arm, "t_end": end})

    def _keep_arm(self, line: dict[str, str | int | float]) -> None:
        """Beside the session file and not in it, so that whoever reads the night stays blind."""
        try:
            with open(self.arms, "a", encoding="utf-8", opener=private.opener) as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            text = f"cannot write {self.arms}: {error.strerror}; the arms follow from the seed"
            self._publisher.event("error", text)
