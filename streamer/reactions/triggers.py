"""Decides when a stimulus is due, by rules that can be checked against the record.

A trigger is synchronous and has no clock: the same scores make it fire at the same positions, live or
replayed.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate
from statistics import median

from streamer.messages import EPOCH_SAMPLES, RATE_HZ, STAGES, Grade, Score
from streamer.night.statistics import CYCLE_NREM, SLEEP
from streamer.reactions.settings import ArousalSettings, TriggerSettings

HOUR = 3600 * RATE_HZ
READY = 4 * RATE_HZ  # samples for which a score allows a phase-locked trigger to fire
_RANK: dict[Grade, int] = {"off": 0, "poor": 1, "fair": 2, "good": 3}


@dataclass(frozen=True, slots=True)
class Firing:
    """A stimulus that is due now.

    Attributes:
        trigger: its name.
        number: of this firing in the night, from 0.
        sham: drawn to be recorded without a stimulus.
        score: the score that caused it.
        probability: of the trigger's stages together.
        dwelt_s: how long the stage had lasted.
        cycle: of sleep, from 1; 0 before sleep onset.

    """

    trigger: str
    number: int
    sham: bool
    score: Score
    probability: float
    dwelt_s: float
    cycle: int

    @property
    def cause(self) -> str:
        """The cause in one line, for people."""
        return f"{self.score.stage} for {self.dwelt_s:g} s, p = {self.probability:.2f}, cycle {self.cycle}"


class Course:
    """The course of the night so far, by its committed epochs.

    Attributes:
        onset: 100 Hz index where the first epoch of sleep began, or None.
        cycle: number of the NREM-REM cycle, from 1; 0 before sleep onset. REM belongs to the cycle that it
            completes; REM that returns after less than 15 min of NREM does not begin another.

    """

    def __init__(self) -> None:
        self.lights_off()

    def lights_off(self) -> None:
        """Start the night again."""
        self.onset: int | None = None
        self.cycle = 0
        self._completed = 0
        self._nrem = 0  # epochs since the last R

    def push(self, score: Score) -> None:
        """Take the next score; those off the 30 s grid only change `cycle`."""
        if score.stage not in SLEEP:
            return
        if score.epoch is not None:
            self.epoch(score.epoch, score.stage)
        elif self.onset is not None:
            completed = self._completed + self._completes(score.stage)
            self.cycle = max(1, completed + (score.stage != "R"))

    def epoch(self, number: int, stage: str) -> None:
        """Take a committed epoch by its number on the 30 s grid."""
        if stage not in SLEEP:
            return
        if self.onset is None:
            self.onset = number * EPOCH_SAMPLES
        self._completed += self._completes(stage)
        self._nrem = 0 if stage == "R" else self._nrem + 1
        self.cycle = max(1, self._completed + (stage != "R"))

    def _completes(self, stage: str) -> bool:
        """Whether an epoch completes a cycle, by the rule of the statistics."""
        return stage == "R" and self._nrem >= CYCLE_NREM


class Trigger:
    """One closed loop.

    Args:
        settings: the `[[stream.trigger]]` table.
        night: identity of the night. It is part of the seed, so the k-th firing of a night always has the
            same arm.

    Attributes:
        armed: whether it may fire.
        held_by: why the last score did not fire, for people; "" if it did.

    """

    def __init__(self, settings: TriggerSettings, night: str) -> None:
        self.settings = settings
        self.armed = settings.armed
        self.held_by = ""
        self._night = night
        self._fired: list[int] = []  # ends of the scores that fired
        self._since: int | None = None  # end of the first score of the unbroken run
        self._last: int | None = None  # end of the last score
        # While it waits for its phase: score, probability, dwelt s and cycle.
        self._ready: tuple[Score, float, float, int] | None = None
        self._wake: deque[tuple[int, float]] = deque()  # end, probability of wake; of the last seconds

    def push(self, score: Score, now: float, course: Course, age_s: float = 0.0) -> Firing | None:
        """Take the next score.

        Args:
            score: in order.
            now: Unix time of its end, s.
            course: of the night up to this score.
            age_s: how much later than usual it came.

        """
        probability = self._dwell(score)
        self._last = score.end
        self._ready = None
        if self._since is None:
            return None
        dwelt_s = (score.end - self._since) / RATE_HZ
        self.held_by = self._hindrance(score, now, course, age_s, dwelt_s)
        if self.held_by:
            return None
        if self.settings.phase is not None:
            self._ready = score, probability, dwelt_s, course.cycle
            return None
        return self._fire(score, probability, dwelt_s, course.cycle)

    @property
    def ready(self) -> bool:
        """Whether all rules but the phase allow it to fire."""
        return self._ready is not None

    def strike(self, at: int, arrived: float = 0.0) -> Firing | None:
        """Fire at the phase it waits for, if the other rules still allow it.

        The score that allowed it is valid for `READY` samples after its end.

        Args:
            at: 100 Hz index of the phase; the end of the firing's score.
            arrived: when the samples that predicted it came, steady s.

        """
        if self._ready is None or not self.armed or self._rests(at) or self._enough(at):
            return None
        score, probability, dwelt_s, cycle = self._ready
        if not 0 < at - score.end <= READY:
            return None
        return self._fire(replace(score, end=at, arrived=arrived), probability, dwelt_s, cycle)

    def _fire(self, score: Score, probability: float, dwelt_s: float, cycle: int) -> Firing:
        number = len(self._fired)
        self._fired.append(score.end)
        sham = is_sham(self.settings, self._night, number)
        return Firing(self.settings.name, number, sham, score, probability, dwelt_s, cycle)

    def restore(self, ends: list[int]) -> None:
        """Continue a night; `ends` are the 100 Hz indices of its firings so far."""
        self._fired = sorted(ends)

    def again(self, score: Score) -> None:
        """Take a score without firing, to continue the dwell."""
        self._dwell(score)
        self._last = score.end

    def _dwell(self, score: Score) -> float:
        """Extend or end the run of scores in the stage; return the stages' probability.

        A score covers 30 s. So if hops are thinned because the machine is busy, two scores up to 30 s apart
        leave no time unscored; only a longer pause ends the run.
        """
        wants = self.settings
        unbroken = self._last is None or score.end - self._last <= EPOCH_SAMPLES
        probability = 0.0
        if score.probabilities is not None:
            probability = sum(score.probabilities[STAGES.index(stage)] for stage in wants.stages)
        broken_by = ""
        if score.stage not in wants.stages:
            broken_by = f"stage {score.stage}"
        elif probability < wants.min_probability:
            broken_by = f"probability {probability:.2f}"
        elif _RANK[score.quality.grade] < _RANK[wants.quality]:
            broken_by = f"quality {score.quality.grade}"
        arousal = self._arousal(score, unbroken)
        self.held_by = broken_by or arousal
        if self.held_by:
            self._since = None
        elif self._since is None or not unbroken:
            self._since = score.end
        return probability

    def _arousal(self, score: Score, unbroken: bool) -> str:
        """Return the sign of an arousal in the last seconds, or ""."""
        limits = self.settings.arousal
        if limits is None:
            return ""
        if score.probabilities is None or not unbroken:
            self._wake.clear()
        if score.probabilities is None:
            return ""
        while self._wake and self._wake[0][0] < score.end - limits.within_s * RATE_HZ:
            self._wake.popleft()
        self._wake.append((score.end, score.probabilities[STAGES.index("W")]))
        if _rise([value for _, value in self._wake]) > limits.wake_rise:
            return "arousal: wake became more probable"
        return "arousal: fast activity rose" if _fast_rise(score.fast_uv, limits) else ""

    def _hindrance(self, score: Score, now: float, course: Course, age_s: float, dwelt_s: float) -> str:
        """Return the first rule that forbids firing, or ""."""
        wants = self.settings
        rules = (
            (not self.armed, "disarmed"),
            (score.warmup and not wants.warmup, "warm-up"),
            (age_s > wants.max_age_s, f"{age_s:.1f} s late"),
            (dwelt_s < wants.dwell_s, f"dwell {dwelt_s:g} s"),
            (wants.phase is None and self._rests(score.end), "refractory"),
            (bool(self._enough(score.end)), self._enough(score.end)),
            (not self._in_window(now), "time of day"),
            (not self._in_course(score.end, course), "course of the night"),
        )
        return next((reason for forbids, reason in rules if forbids), "")

    def _rests(self, end: int) -> bool:
        """Whether the last firing is too close to the 100 Hz index `end`."""
        return bool(self._fired) and end - self._fired[-1] < self.settings.refractory_s * RATE_HZ

    def _enough(self, end: int) -> str:
        """Return which limit on the number of firings is reached at the 100 Hz index `end`, or ""."""
        wants, fired = self.settings, self._fired
        last_hour = len(fired) - bisect_right(fired, end - HOUR)
        if wants.max_per_hour is not None and last_hour >= wants.max_per_hour:
            return "enough in this hour"
        if wants.max_per_night is not None and len(fired) >= wants.max_per_night:
            return "enough in this night"
        return ""

    def _in_window(self, now: float) -> bool:
        if self.settings.between is None:
            return True
        begin, end = self.settings.between
        here = datetime.fromtimestamp(now, self.settings.tz).time()
        return begin <= here < end if begin < end else here >= begin or here < end

    def _in_course(self, end: int, course: Course) -> bool:
        wants = self.settings
        if wants.cycles is not None and course.cycle not in wants.cycles:
            return False
        if wants.since_onset_min is None:
            return True
        if course.onset is None:
            return False
        begin_min, end_min = wants.since_onset_min
        return begin_min <= (end - course.onset) / RATE_HZ / 60 < end_min


def is_sham(settings: TriggerSettings, night: str, number: int) -> bool:
    """Whether the night's k-th firing is a sham; it depends only on these arguments."""
    draw = random.Random(f"{settings.seed}/{settings.name}/{night}/{number}").random()
    return draw < settings.sham


def _rise(values: list[float]) -> float:
    """Return the greatest rise from any value to a later one."""
    return max(later - least for later, least in zip(values, accumulate(values, min), strict=True))


def _fast_rise(fast_uv: tuple[float | None, ...], limits: ArousalSettings) -> bool:
    """Whether one of the last seconds stands out in 25-45 Hz, as muscle activity does and sleep does not."""
    known = [value for value in fast_uv if value is not None]
    recent = [value for value in fast_uv[-limits.within_s :] if value is not None]
    if not recent:
        return False
    return max(recent) > max(limits.fast_uv, limits.fast_ratio * median(known))
