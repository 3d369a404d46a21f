"""Clocks that are set, jump, sleep or start wrong: an alarm rings once for a deadline, and always."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from streamer.reactions.alarm import MISSED_S, Alarm
from streamer.reactions.memory import Memory
from tests.reactions.test_alarm import HOUR, MIDNIGHT, MINUTE, Sleeper, score, settings

SET, SUSPENDED, DEAD, SLEPT = "set", "suspended", "suspended, as far as only the wall tells", "as only steady"

# By true minutes after midnight: what happens to the clocks, in minutes. Deadline 07:00 is minute 420.
CASES = {
    "nothing happens": ([], [420]),
    "NTP, a second ahead": ([(419.99, SET, 1 / 60)], [420]),
    "NTP, back by a second at the deadline": ([(420, SET, -2 / 60)], [420]),
    "forward, not as far as the deadline": ([(300, SET, 60)], [360]),
    "forward over the deadline, for good": ([(300, SET, 180)], [300]),
    "forward over the deadline and back at once": ([(300, SET, 180), (300.1, SET, -180)], [300, 420]),
    "the same, back after it has given up": ([(300, SET, 180), (330, SET, -180)], [300, 420]),
    "twice over it and back": (
        [(300, SET, 180), (300.2, SET, -180), (310, SET, 180), (310.2, SET, -180)],
        [300, 310, 420],
    ),
    "forward by 8 h over it and back": ([(300, SET, 480), (301, SET, -480)], [420]),
    "forward by a day and back": ([(300, SET, 1440), (310, SET, -1440)], [420]),
    "forward by a day and back after the deadline": ([(300, SET, 1440), (425, SET, -1440)], [420]),
    "forward by a day, for good": ([(300, SET, 1440)], [420]),
    "forward by 20 years and back": ([(300, SET, 20 * 525_960), (301, SET, -20 * 525_960)], [420]),
    "forward by 20 years, for good": ([(300, SET, 20 * 365.25 * 1440)], [420]),
    "back, for good": ([(300, SET, -180)], [420]),
    "back and forth": ([(300, SET, -180), (310, SET, 180)], [420]),
    "back at 06:59": ([(419, SET, -600)], [420]),
    "back by 20 years": ([(300, SET, -20 * 525_960)], [420]),
    "back while it rings": ([(421, SET, -180)], [420]),
    "forward while it rings": ([(421, SET, 180)], [420]),
    "back a minute after the deadline": ([(421, SET, -1.5)], [420]),
    "slept until before the deadline": ([(300, SUSPENDED, 60)], [420]),
    "slept over the deadline": ([(300, SUSPENDED, 180)], [480]),
    "slept for two days": ([(300, SUSPENDED, 2880)], [3180]),
    "slept over it, the steady clock too": ([(300, DEAD, 180)], [480]),
    "slept over it, and the wall clock has stood": ([(300, SLEPT, 180)], [480]),
}


class Night(Sleeper):
    """Counts true minutes beside what the two clocks show."""

    def __init__(self, **more):
        super().__init__(armed=True, **more)
        self.true = 0.0
        self.rings = []

    def go(self, minute, stage=None):
        while self.true < minute - 1e-6:
            longest = 5.0 if self.alarm.memory.state == "ringing" or stage else 20.0
            step = min(longest, (minute - self.true) * MINUTE)
            self.now, self.steady, self.true = self.now + step, self.steady + step, self.true + step / MINUTE
            changes = []
            if stage is not None:
                changes.append(self.alarm.push(score(self.true * MINUTE, stage), self.now, self.steady))
            changes.append(self.alarm.tick(self.now, self.steady))
            self.rings += [self.true for one in changes if one is not None and one.what == "ringing"]

    def befalls(self, what, minutes):
        seconds = minutes * MINUTE
        if what != SLEPT:
            self.now += seconds
        if what in (SUSPENDED, SLEPT):
            self.steady += seconds
        if what != SET:
            self.true += minutes


@pytest.mark.parametrize(("what", "rings"), CASES.values(), ids=CASES)
def test_it_rings_once_for_its_deadline(what, rings):
    night = Night()
    for minute, kind, minutes in what:
        night.go(minute)
        night.befalls(kind, minutes)
    night.go(max(460, night.true + 15))
    assert night.rings == pytest.approx(rings, abs=0.4)


@pytest.mark.parametrize(("what", "rings"), CASES.values(), ids=CASES)
def test_a_sleeper_who_dismisses_it_at_once_is_still_woken_at_the_deadline(what, rings):
    night = Night()
    end = 160 + sum(minutes for _, kind, minutes in what if kind != SET) + 300
    for minute, kind, minutes in [*what, (end, SET, 0)]:
        while night.true < minute - 1e-3:
            night.go(min(minute, night.true + 0.2))
            night.alarm.dismiss(night.now, night.steady)
        night.befalls(kind, minutes)
    assert night.rings == pytest.approx(rings, abs=0.4)


@pytest.mark.parametrize("case", [one for one in CASES if "years" not in one])
def test_daily_it_rings_the_next_day_too(case):
    what, rings = CASES[case]
    night = Night(daily=True)
    for minute, kind, minutes in what:
        night.go(minute)
        night.befalls(kind, minutes)
    night.go(night.true + 2 * 1440)
    assert night.rings[: len(rings)] == pytest.approx(rings, abs=0.4)
    assert len(night.rings) > len(rings)
    assert night.rings[len(rings)] - night.rings[len(rings) - 1] <= 1440 + 180


def test_a_window_that_the_clock_jumped_into_does_not_use_it_up():
    night = Night()
    night.go(240, "N2")
    night.befalls(SET, 165)  # 06:45, within the window
    night.go(241, "N2")
    night.befalls(SET, -165)
    night.go(460)
    assert night.rings == pytest.approx([240, 420], abs=0.4)


def test_rung_in_its_window_it_is_used_up_whatever_a_small_step_does():
    night = Night()
    night.go(385, "N3")
    night.go(392, "N2")
    night.befalls(SET, -20)
    night.go(480)
    assert night.rings == pytest.approx([390], abs=0.4)


@pytest.mark.parametrize("changed", ["arm", "disarm"])
def test_what_is_asked_for_later_is_not_undone_by_a_clock_that_goes_back(changed):
    night = Night()
    night.go(300)
    night.befalls(SET, 180)
    night.go(301)
    if changed == "arm":
        night.arm("09:00")
    else:
        night.alarm.disarm(night.now)
    night.befalls(SET, -180)
    night.go(700)
    assert night.rings == pytest.approx([300, 360] if changed == "arm" else [300], abs=0.4)


def restarted(night, true_minutes_off=1.0, clock_off=0.0, **more):
    """Another process; the steady clock begins anew, the wall clock may be wrong by so many minutes."""
    again = Night.__new__(Night)
    now = night.now + (true_minutes_off + clock_off) * MINUTE
    Sleeper.__init__(again, night.alarm.memory, now - MIDNIGHT, 5.0, armed=True, **more)
    again.true, again.rings = night.true + true_minutes_off, []
    return again


@pytest.mark.parametrize(
    ("down", "off", "then", "rings"),
    [
        (1, 0, None, [420]),
        (1, -3 * 1440, (330, 3 * 1440), [420]),  # the clock starts three days behind, and is set right
        (1, -50 * 525_960, (330, 50 * 525_960), [420]),  # or in 1976
        (150, -150, (455, 150), [455]),  # behind by the time it was off; set right after the deadline
        (1, 3 * 1440, (330, -3 * 1440), [420]),  # three days ahead
        (1, 60 * 60, (330, -60 * 60), [420]),
    ],
)
def test_a_machine_whose_clock_starts_wrong(down, off, then, rings):
    night = Night()
    night.go(300)
    again = restarted(night, down, off)
    if then is not None:
        again.go(then[0])
        again.befalls(SET, then[1])
    again.go(480)
    assert again.rings == pytest.approx(rings, abs=0.4)


def test_a_clock_that_was_years_ahead_when_it_was_armed():
    night = Night()
    night.befalls(SET, 525_960)
    night.arm("07:00")
    again = restarted(night, 1, -525_960)
    again.go(460)
    assert again.rings == pytest.approx([420], abs=0.4)


@pytest.mark.parametrize("state", ["ringing", "snoozed"])
def test_killed_while_it_rings_it_rings_again_however_long_nothing_ran(state):
    memory = Memory(state, MIDNIGHT, MIDNIGHT + 600, snoozes=1)
    again = Sleeper(memory, at=2 * HOUR, ring_s=600)
    again.until(121)
    assert again.alarm.memory.state == "ringing"
    again.until(135)
    assert again.alarm.memory.state == "disarmed"


@pytest.mark.parametrize("step", [-10 * HOUR, 2 * HOUR])
def test_restarted_with_another_clock_it_neither_rings_for_hours_nor_sleeps_in(step):
    ringing = Memory("ringing", MIDNIGHT, MIDNIGHT + 600, written=MIDNIGHT)
    again = Sleeper(ringing, at=step, ring_s=600)
    again.until(step / MINUTE + 11)
    assert again.alarm.memory.state == "disarmed"
    snoozed = Memory("snoozed", MIDNIGHT, MIDNIGHT + 540, 1, written=MIDNIGHT)
    again = Sleeper(snoozed, at=step, snooze_min=9)
    again.until(step / MINUTE + 10)
    assert again.alarm.memory.state == "ringing"


def test_a_missed_deadline_is_said_also_where_the_next_one_is_armed():
    memory = Memory("armed", MIDNIGHT + 7 * HOUR, MIDNIGHT + 7 * HOUR)
    again = Sleeper(memory, at=7 * HOUR + MISSED_S + 60, armed=True)
    assert [change.what for change in again.began] == ["missed", "armed"]


def test_a_machine_that_sleeps_while_it_rings_has_not_rung():
    night = Night(ring_s=600)
    night.go(421)
    night.befalls(SUSPENDED, 60)
    night.go(night.true + 5)
    assert night.alarm.memory.state == "ringing"
    night.go(night.true + 6)
    assert night.alarm.memory.state == "disarmed"


@pytest.mark.parametrize(
    ("evening", "rings"),
    [
        ("2026-03-28T22:00+01:00", ["2026-03-29T07:00+02:00", "2026-03-30T07:00+02:00"]),
        ("2026-10-24T22:00+02:00", ["2026-10-25T07:00+01:00", "2026-10-26T07:00+01:00"]),
    ],
)
def test_a_daily_alarm_in_the_nights_in_which_clocks_change(evening, rings):
    now = datetime.fromisoformat(evening).timestamp()
    alarm = Alarm(settings(zone="Europe/Berlin", daily=True, armed=True), None, now, 0.0)
    alarm.begin(now, 0.0)
    rang = []
    for step in range(0, 40 * 3600, 5):
        change = alarm.tick(now + step, float(step))
        if change is not None and change.what == "ringing":
            rang.append(datetime.fromtimestamp(now + step, ZoneInfo("UTC")))
    assert rang == [datetime.fromisoformat(one) for one in rings]
