"""Checks the times that a device or a file gives to its samples.

Such times may be on another scale, stand still, run backwards, leap by an hour, or not be numbers. Losses are
computed from them, so they are checked first. A live device's times must agree with this computer's clock, or
with the number of samples that came. The losses of a recording may not exceed a multiple of what it holds.
Samples whose times fail are timed by their arrival (in a file: by their place) and counted, and one line says
so.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from math import log10
from typing import NamedTuple

import numpy as np

from streamer.messages import Floats

SLACK_S = 0.5  # jitter: a device's times may be so far ahead of clock and samples
DRIFT = 0.01  # s per s by which a device's clock may drift; real ones are a hundred times better
FORGET = 0.03  # s per s by which the allowance for times that once were ahead shrinks again
BACK_S = 1.0  # a step back by more is not jitter
LEAP_S = 86_400.0  # a step ahead by more is not a loss
PAUSE_S = 0.25  # nothing came for so long, beyond what the samples take
AWAY_S = 30.0  # likewise: the device was away, and no samples account for that time
WATCH_S = 3.0  # a device's clock is judged by the arrivals of so long
OFTEN = 3  # if so many of those were not believed, the clock no longer is
STILL = 1e-4  # slower than this share of real time is a clock that stands still (LSL's corrections move it)
STANDS = 0.5  # slower than this share of the time that the samples took is not a clock
COUNTED_S = 600.0  # samples timed by arrival are reported after so many s of them, then after twice that
BEARS = 24  # the losses of a file may last so many times what it holds, plus a day
FAR = 1e12  # s; beyond it a float is too coarse to tell two samples apart
NEAR = 0.05  # how close a factor must be to a known scale


def scale_of(factor: float, rate_hz: float) -> float | None:
    """Return the scale of times that run `factor` times too fast: a power of ten, the rate, or None."""
    if not factor > 0:
        return None
    ten = 10.0 ** round(log10(factor))
    return next((scale for scale in (ten, rate_hz) if abs(factor / scale - 1) <= NEAR), None)


def scale_named(factor: float, rate_hz: float) -> str:
    """Describe times that run `factor` times too fast; "" if they are about right."""
    scale = scale_of(factor, rate_hz)
    if scale is None and abs(factor) < STILL:
        return "stand still"
    if factor < 0:
        return "run backwards"
    if abs(factor - 1) <= 0.5:
        return ""
    if scale is None:
        return f"run {factor:.3g} times too fast" if factor > 1 else f"run {1 / factor:.3g} times too slow"
    if scale == rate_hz and log10(rate_hz) % 1:
        return f"run {rate_hz:g} times too fast: they count samples"
    much = round(scale) if scale > 1 else round(1 / scale)
    return f"run {much} times too {'fast' if scale > 1 else 'slow'}"


class HostChecked:
    """Checks a live device's times against this computer's clock.

    Args:
        rate_hz: nominal.
        remarks: the list that receives remarks for the user, a line each; None: a new list.

    Attributes:
        remarks: that list.
        doubted: how many samples were timed by arrival so far.
        turned: the times of the next samples come from another clock. `Timeline` acts on it and resets it.

    """

    def __init__(self, rate_hz: float, remarks: MutableSequence[str] | None = None) -> None:
        self.doubted = 0
        self.remarks = [] if remarks is None else remarks
        self._rate_hz = rate_hz
        self._period = 1 / rate_hz
        self._counted_s = COUNTED_S  # of samples that were timed by arrival when that is said next
        self._told = 0  # arrivals that were not believed at the last remark
        self.reset()

    def reset(self) -> None:
        """Forget all samples so far."""
        self._begun = False
        self._shift = 0.0  # from the device's times to those that are given out
        self._last = 0.0  # the last one given out
        self._host = 0.0  # when it arrived
        self._passed = 0.0  # host seconds since the first arrival
        self._came = 0  # samples since then
        self._away = 0.0  # host seconds for which the device was away
        self._zero = 0.0  # time of the first arrival, as given out
        self._ahead = 0.0  # how far times are ahead of both, at the most, lately
        self._refused = 0  # arrivals that were not believed
        self.reconnected()

    def reconnected(self) -> None:
        """The device is back: judge its clock anew."""
        self._by_arrival = self.turned = False
        self._watched: list[_Arrival] = []  # in the last few seconds

    def end(self) -> None:
        """End of the stream: add the last remarks."""

    def push(self, times: Floats, arrived: float) -> Floats:
        """Return the times to use for samples.

        Args:
            times: (n,) s by the device's clock.
            arrived: when they arrived, s by the steady clock.

        """
        count = times.shape[0]
        if not self._begun:
            self._begin(times, arrived)
        waited = max(0.0, arrived - self._host)
        self._passed += waited
        self._came += count
        if waited > count * self._period + AWAY_S:
            self._away += waited - count * self._period
        out: Floats
        if self._by_arrival:
            out = self._placed(count, waited, evenly=True)
            self._count(count)
        else:
            believed = self._believed(times, waited)
            out = times + self._shift if believed else self._placed(count, waited)
            if not believed:
                self._refused += 1
                self.doubted += count
                if abs(times[-1]) < FAR:
                    self._shift = float(out[-1] - times[-1])
            sound = bool((np.abs(times) < FAR).all())
            self._watch(_Arrival(float(times[-1]), arrived, count, sound, believed))
        self._host, self._last = arrived, float(out[-1])
        return out

    def _count(self, count: int) -> None:
        """Report how many samples were timed by arrival, with growing pauses."""
        self.doubted += count
        if self.doubted >= self._counted_s * self._rate_hz:
            self.remarks.append(f"{self.doubted} samples were timed by their arrival so far")
            self._counted_s *= 2

    def _begin(self, times: Floats, arrived: float) -> None:
        self._begun = True
        self._host = arrived
        known = times[np.abs(times) < FAR]
        first = float(known[0]) if known.size else 0.0
        self._zero = first
        self._last = first - self._period
        self._came = 0

    def _believed(self, times: Floats, waited: float) -> bool:
        """Whether these times agree with the host's clock, or with the number of samples."""
        if not (np.abs(times) < FAR).all():  # or NaN
            return False
        shown = times + self._shift
        if np.diff(shown, prepend=self._last).min() < -BACK_S:
            return False
        explained = self._came * self._period + self._away
        ahead = float(shown.max()) - self._zero - max(self._passed, explained)
        if ahead > self._ahead + SLACK_S:
            return False
        self._ahead = min(
            max(ahead, self._ahead - FORGET * waited),
            self._ahead + DRIFT * (waited + times.shape[0] * self._period),
        )
        return True

    def _placed(self, count: int, waited: float, *, evenly: bool = False) -> Floats:
        """Return times one period apart; a pause in which nothing came lies before them.

        `evenly`: without such a pause they are spread over the whole time since the last arrival.
        """
        took = count * self._period
        pause = waited - took if waited > took + PAUSE_S else 0.0
        if pause <= AWAY_S:  # a longer one is counted already
            self._away += pause
        took = waited if evenly and not pause else took
        return self._last + pause + took * np.arange(1, count + 1) / count

    def _watch(self, arrival: _Arrival) -> None:
        """Judge the device's clock by the last few seconds."""
        self._watched.append(arrival)
        first, *others = self._watched
        shown_s, host_s = arrival.shown - first.shown, arrival.arrived - first.arrived
        if host_s < WATCH_S or len(others) < 2:
            return
        covered_s = sum(one.samples for one in others) * self._period
        sound = all(one.sound for one in self._watched)
        refused = sum(not one.believed for one in others)
        stands = (
            covered_s > host_s / 2
            and shown_s < STANDS * min(host_s, covered_s)
            and not refused  # a leap back does not make a clock slow
        )
        self._watched = self._watched[-1:]
        if refused >= OFTEN or stands:
            self._by_arrival = self.turned = True
            named = "are not numbers"
            if sound:
                factor = shown_s / max(host_s, covered_s)
                named = scale_named(factor, self._rate_hz) or "leap again and again"
            self.remarks.append(
                f"the device's clock is not believed: its times {named}; samples are timed by their arrival, "
                "and losses of less than a second may be missed; correct the stamps where they are made"
            )
        elif self._refused >= max(1, 2 * self._told):
            self._told = self._refused
            often = "once" if self._refused == 1 else f"{self._refused} times"
            self.remarks.append(
                f"the device's clock has leapt, {often} so far; what this computer's clock did not "
                f"see pass is not a loss: {self.doubted} samples were timed by arrival"
            )


class _Arrival(NamedTuple):
    """Samples that arrived together."""

    shown: float  # the device's time of the last one
    arrived: float  # the host's
    samples: int
    sound: bool  # all times are numbers
    believed: bool


class FileChecked:
    """Checks a recording's times in seconds. The result does not depend on the chunking.

    Args:
        rate_hz: nominal.
        remarks: as for `HostChecked`.

    Attributes:
        remarks: that list.
        turned: always False; a file has one clock.
        doubted: how many steps of time were not believed.

    """

    def __init__(self, rate_hz: float, remarks: MutableSequence[str] | None = None) -> None:
        self.remarks = [] if remarks is None else remarks
        self.turned = False
        self.doubted = 0
        self._period = 1 / rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget all samples so far."""
        self._last: float | None = None  # the file's time of the last sample
        self._shift = 0.0
        self._lost_s = 0.0
        self._held = 0  # samples so far
        self._worst = 0.0

    def reconnected(self) -> None:
        """Does nothing: a file has no connection."""

    def push(self, times: Floats, arrived: float) -> Floats:
        """Return the times to use for samples with times (n,) s; `arrived` is not used."""
        known = self._filled(times)
        before = known[0] - self._period if self._last is None else self._last
        steps = np.diff(known, prepend=before)
        corrections = self._corrections(steps)
        self._last = float(known[-1])
        self._held += times.shape[0]
        if not corrections:
            return known + self._shift if self._shift else known
        off = np.zeros_like(known)
        off[list(corrections)] = list(corrections.values())
        shifts = self._shift + np.cumsum(off)
        self._shift = float(shifts[-1])
        return known + shifts

    def end(self) -> None:
        """Add a remark on what was not believed."""
        if self.doubted:
            self.remarks.append(
                f"its times are not believed in {self.doubted} places (not numbers, going back, or leaping "
                f"by up to {self._worst:.0f} s); there samples are read as if nothing was lost"
            )

    def _filled(self, times: Floats) -> Floats:
        """Replace each time that is not a number by one a period after the time before it."""
        real = np.abs(times) < FAR  # and not NaN
        if real.all():
            return times
        self.doubted += int(np.count_nonzero(~real))
        at = np.arange(times.shape[0])
        last = np.maximum.accumulate(np.where(real, at, -1))
        if self._last is None:
            start = float(times[real][0]) - int(np.flatnonzero(real)[0]) * self._period if real.any() else 0.0
        else:
            start = self._last + self._period
        base = np.where(last >= 0, times[np.maximum(last, 0)], start - self._period)
        since = np.where(last >= 0, at - last, at + 1)
        filled: Floats = base + since * self._period
        return filled

    def _corrections(self, steps: Floats) -> dict[int, float]:
        """Return what to add to the times, by the place from which on it is added.

        At such a place the time steps back, leaps by more than a day, or loses more than there can be. If a
        clock that went back later returns to where it was, nothing was lost, and the correction ends.
        """
        out: dict[int, float] = {}
        shift = self._shift
        for at in np.flatnonzero((steps < -BACK_S) | (steps > BACK_S)).tolist():
            step = float(steps[at])
            room_s = LEAP_S + BEARS * (self._held + at) * self._period - self._lost_s
            if shift > 0 and abs(step - shift) <= BACK_S:
                out[at] = -shift
            elif 0 < step <= min(LEAP_S, room_s):
                self._lost_s += step
                continue
            else:
                out[at] = self._period - step
                self.doubted += 1
                self._worst = max(self._worst, abs(step))
            shift += out[at]
        return out
