"""The smart alarm in every situation that we could think of, with a fake clock."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from streamer.messages import RATE_HZ, STAGES, Score
from streamer.night.daytime import next_time
from streamer.payloads import EventPayload, utc
from streamer.reactions.alarm import MISSED_S, Alarm
from streamer.reactions.alarm_clock import AlarmClock
from streamer.reactions.memory import Memory, load_memory
from streamer.reactions.settings import AlarmSettings
from tests.fakes import FakeClock

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC).timestamp()
MINUTE, HOUR = 60.0, 3600.0


def settings(**more):
    return AlarmSettings(**{"deadline": "07:00", "zone": "UTC", "window_min": 30, "confirm_s": 60, **more})


def score(end_s, stage, p=0.9):
    """A score that ends so many seconds after midnight."""
    probabilities = None
    if stage != "unscored":
        rest = dict.fromkeys(STAGES, (1 - p) / 4) | {stage: p}
        probabilities = tuple(rest[name] for name in STAGES)
    return Score(int(end_s * RATE_HZ), None, stage, stage, probabilities, False)


class Sleeper:
    """An alarm that hears a night second by second; what it did, by the minute after midnight."""

    def __init__(self, memory=None, at=0.0, steady=0.0, **more):
        self.now, self.steady = MIDNIGHT + at, steady
        self.alarm = Alarm(settings(**more), memory, self.now, self.steady)
        self.did = []
        self.began = [self.note(change) for change in self.alarm.begin(self.now, self.steady)]

    def note(self, change):
        if change is not None and not isinstance(change, str) and change.what != "window_began":
            self.did.append((change.what, round((self.now - MIDNIGHT) / MINUTE, 2)))
        return change

    def arm(self, at=""):
        return self.note(self.alarm.arm(at, self.now, self.steady))

    def until(self, minute, stage=None, hop_s=5):
        """Let time pass up to a minute after midnight, in a stage, or without any signal."""
        while self.now < MIDNIGHT + minute * MINUTE - 1e-6:
            self.now, self.steady = self.now + hop_s, self.steady + hop_s
            if stage is not None:
                self.note(self.alarm.push(score(self.now - MIDNIGHT, stage), self.now, self.steady))
            self.note(self.alarm.tick(self.now, self.steady))

    @property
    def rang(self):
        return [minute for what, minute in self.did if what == "ringing"]


def test_light_sleep_rings_within_the_window_and_not_before():
    sleeper = Sleeper(armed=True)
    sleeper.until(380, "N3")
    sleeper.until(395, "N2")
    assert sleeper.did == [("armed", 0), ("ringing", 390)]


@pytest.mark.parametrize("stage", ["N3", "R", "unscored", None])
def test_deep_sleep_dreams_and_dead_sensors_ring_at_the_deadline(stage):
    sleeper = Sleeper(armed=True)
    sleeper.until(425, stage)
    assert sleeper.rang == [420]


def test_other_stages_can_be_allowed_but_never_n3():
    sleeper = Sleeper(armed=True, stages=("R",))
    sleeper.until(395, "N2")
    sleeper.until(405, "R")
    assert sleeper.rang == [pytest.approx(396.08, abs=0.01)]
    with pytest.raises(ValidationError):
        settings(stages=("N2", "N3"))


def test_wake_in_the_window_rings_once_it_has_lasted():
    sleeper = Sleeper(armed=True)
    sleeper.until(400, "N3")
    sleeper.until(400.5, "W")
    sleeper.until(401, "N3")
    assert sleeper.rang == []
    sleeper.until(403, "W")
    assert sleeper.rang == [pytest.approx(402.08, abs=0.01)]


def test_falling_asleep_again_is_left_alone():
    sleeper = Sleeper(armed=True, stages=("N1", "N2"), settle_min=10)
    sleeper.until(389, "N3")
    sleeper.until(391, "W")
    sleeper.until(400, "N2")
    assert sleeper.rang == []
    sleeper.until(405, "N2")
    assert sleeper.rang == [402]  # ten minutes after the last wake, and a minute to be sure


def test_light_sleep_must_be_probable_enough():
    sleeper = Sleeper(armed=True, min_probability=0.8, stages=("N2",))
    while sleeper.now < MIDNIGHT + 400 * MINUTE:
        sleeper.now, sleeper.steady = sleeper.now + 5, sleeper.steady + 5
        sleeper.note(
            sleeper.alarm.push(score(sleeper.now - MIDNIGHT, "N2", 0.7), sleeper.now, sleeper.steady)
        )
    assert sleeper.rang == []


def test_disarmed_it_is_silent_and_says_so():
    sleeper = Sleeper()
    sleeper.until(425, "N2")
    assert sleeper.did == []
    assert sleeper.alarm.disarm(sleeper.now) == "the alarm is not armed"
    assert sleeper.alarm.dismiss(sleeper.now, sleeper.steady) == "the alarm does not ring"
    assert sleeper.alarm.snooze(sleeper.now, sleeper.steady) == "the alarm does not ring"


def test_armed_twice_the_last_one_holds():
    sleeper = Sleeper()
    sleeper.arm("06:00")
    sleeper.arm("07:30")
    sleeper.until(455)
    assert sleeper.rang == [450]
    sleeper = Sleeper()
    sleeper.arm()
    sleeper.arm()
    sleeper.until(425)
    assert sleeper.rang == [420]


@pytest.mark.parametrize("at", ["2026-01-01T07:00", "2026-01-01T23:59:59Z"])
def test_a_deadline_in_the_past_is_refused(at):
    sleeper = Sleeper()
    assert "in the past" in sleeper.arm(at)
    assert sleeper.alarm.memory.state == "disarmed"


@pytest.mark.parametrize("at", ["soon", "25:00", "07:00+01:00", "07", "2026-13-01T00:00", "x" * 200, "T"])
def test_what_is_no_time_is_refused(at):
    refused = Sleeper().arm(at)
    if at == "07":  # ISO 8601 allows it
        assert refused.what == "armed"
    else:
        assert "is not a time" in refused
        assert len(refused) < 120


def test_a_clock_time_that_has_passed_today_means_tomorrow():
    sleeper = Sleeper(at=8 * HOUR)
    sleeper.arm("07:00")
    assert sleeper.alarm.memory.deadline == MIDNIGHT + 31 * HOUR


def test_snooze_rings_again_and_is_limited():
    sleeper = Sleeper(armed=True, snooze_min=9, max_snoozes=1)
    sleeper.until(421)
    sleeper.note(sleeper.alarm.snooze(sleeper.now, sleeper.steady))
    sleeper.until(431)
    assert sleeper.rang == [420, 430]
    assert "already" in sleeper.alarm.snooze(sleeper.now, sleeper.steady)
    sleeper.note(sleeper.alarm.dismiss(sleeper.now, sleeper.steady))
    sleeper.until(600)
    assert [what for what, _ in sleeper.did] == ["armed", "ringing", "snoozed", "ringing", "dismissed"]


def test_it_gives_up_and_a_daily_one_is_armed_for_tomorrow():
    sleeper = Sleeper(armed=True, ring_s=600, daily=True)
    sleeper.until(440)
    assert sleeper.did[-1] == ("gave_up", 430)
    assert sleeper.alarm.memory.state == "armed"
    assert sleeper.alarm.memory.deadline == MIDNIGHT + 31 * HOUR


def test_rung_early_and_dismissed_it_does_not_ring_at_the_deadline_too():
    sleeper = Sleeper(armed=True, daily=True)
    sleeper.until(391, "N2")
    sleeper.note(sleeper.alarm.dismiss(sleeper.now, sleeper.steady))
    sleeper.until(430, "N2")
    assert sleeper.rang == [390]
    again = Sleeper(sleeper.alarm.memory, at=392 * MINUTE, armed=True)
    again.until(430, "N2")
    assert again.rang == []


def test_rung_early_and_started_again_it_waits_for_the_next_day():
    sleeper = Sleeper(armed=True)
    sleeper.until(391, "N2")
    sleeper.note(sleeper.alarm.dismiss(sleeper.now, sleeper.steady))
    again = Sleeper(sleeper.alarm.memory, at=392 * MINUTE, armed=True)
    assert again.alarm.memory.deadline == MIDNIGHT + 31 * HOUR


def test_a_hole_in_the_scores_is_no_confirmation():
    sleeper = Sleeper(armed=True, confirm_s=120)
    sleeper.until(395, "N3")
    sleeper.until(396, "N2")
    sleeper.until(399)  # nothing comes
    sleeper.until(400, "N2")
    assert sleeper.rang == []
    sleeper.until(402, "N2")
    assert sleeper.rang == [pytest.approx(401.08, abs=0.01)]


# ---- restarts, which lose the steady clock


@pytest.mark.parametrize("restarted_at", [420 * MINUTE - 5, 420 * MINUTE + 20, 420 * MINUTE + 3 * HOUR])
def test_killed_ten_seconds_before_the_deadline_and_restarted(restarted_at):
    sleeper = Sleeper(armed=True)
    sleeper.until(420 - 1 / 6)
    again = Sleeper(sleeper.alarm.memory, at=restarted_at, steady=77.0, armed=True)
    again.until(restarted_at / MINUTE + 1, hop_s=1)
    assert again.rang == [pytest.approx(max(420, restarted_at / MINUTE), abs=0.02)]


def test_a_deadline_that_passed_long_ago_is_missed_and_the_next_one_armed():
    memory = Memory("armed", MIDNIGHT + 7 * HOUR, MIDNIGHT + 7 * HOUR)
    late = 7 * HOUR + MISSED_S + 60
    assert Sleeper(memory, at=late).did == [("missed", late / MINUTE)]
    again = Sleeper(memory, at=late, armed=True)
    assert again.alarm.memory.deadline == MIDNIGHT + 31 * HOUR
    assert again.rang == []


def test_killed_while_ringing_or_snoozed_it_goes_on():
    ringing = Memory("ringing", MIDNIGHT, MIDNIGHT + 600)
    assert Sleeper(ringing, at=60.0).alarm.memory.state == "ringing"
    snoozed = Memory("snoozed", MIDNIGHT, MIDNIGHT + 600, 1)
    again = Sleeper(snoozed, at=60.0)
    again.until(11)
    assert again.rang == [10]
    assert again.alarm.memory.snoozes == 1


def test_disarmed_by_command_it_stays_so_over_a_restart():
    sleeper = Sleeper(armed=True)
    sleeper.note(sleeper.alarm.disarm(sleeper.now))
    again = Sleeper(sleeper.alarm.memory, at=60.0, armed=True)
    assert again.alarm.memory.state == "disarmed"
    again.arm()
    assert again.alarm.memory.state == "armed"


def at(hours):
    return MIDNIGHT + hours * HOUR


@pytest.mark.parametrize(
    ("before", "asked", "after", "armed_for"),
    [
        ({"armed": True}, None, {"armed": True, "deadline": "06:00"}, 6),
        ({"armed": True}, None, {"armed": True, "zone": "Europe/Berlin"}, 6),  # 07:00 there
        ({"armed": True}, None, {"armed": False}, None),
        ({"armed": True}, None, {"armed": True}, 7),
        ({"armed": True}, None, {"armed": True, "window_min": 5}, 7),
        ({"armed": True}, "05:00", {"armed": True}, 5),
        ({"armed": True}, "05:00", {"armed": False}, None),
        ({"armed": True}, "05:00", {"armed": True, "deadline": "06:00"}, 6),
        ({}, "05:00", {"armed": True, "deadline": "06:00"}, 6),
        ({}, "05:00", {}, 5),
        ({}, "05:00", {"deadline": "06:00"}, 5),  # what a command without a time would mean
        ({}, "", {"deadline": "06:00"}, 6),
        ({}, "05:00", {"zone": "Europe/Berlin"}, 4),
        ({"armed": True}, "disarm", {"armed": True}, None),
        ({"armed": True}, "disarm", {"armed": True, "deadline": "06:00"}, 6),
    ],
)
def test_the_later_intent_wins(before, asked, after, armed_for):
    sleeper = Sleeper(at=60.0, **before)
    if asked == "disarm":
        sleeper.note(sleeper.alarm.disarm(sleeper.now))
    elif asked is not None:
        sleeper.arm(asked)
    again = Sleeper(sleeper.alarm.memory, at=120.0, steady=9.0, **after)
    memory = again.alarm.memory
    assert (memory.deadline if memory.state == "armed" else None) == (armed_for and at(armed_for))
    kept = (sleeper.alarm.memory.state, sleeper.alarm.memory.deadline) == (memory.state, memory.deadline)
    assert kept or again.began  # and it is said
    twice = Sleeper(memory, at=180.0, **after)
    assert (twice.alarm.memory.deadline, twice.began) == (memory.deadline, [])


def test_it_remembers_the_settings_also_when_it_was_never_armed():
    memory = Sleeper(armed=True).alarm.memory
    quiet = Sleeper(memory, armed=False).alarm.memory
    assert Sleeper(quiet, armed=True).alarm.memory.state == "armed"
    assert Sleeper().alarm.memory.settings


@pytest.mark.parametrize(("configured", "state"), [("07:00:00", "disarmed"), ("", "armed")])
def test_an_earlier_version_left_what_it_knew(configured, state):
    memory = Memory("armed", at(7), at(7), configured=configured)
    assert Sleeper(memory, at=60.0).alarm.memory.state == state


# ---- clocks


def test_a_clock_set_forward_past_the_deadline_rings_at_once():
    sleeper = Sleeper(armed=True)
    sleeper.until(300)
    sleeper.now += 3 * HOUR
    sleeper.until(480.1, hop_s=1)
    assert sleeper.rang == [pytest.approx(480.02, abs=0.01)]
    sleeper.now += 3 * HOUR  # again: that must not silence it
    sleeper.note(sleeper.alarm.tick(sleeper.now, sleeper.steady))
    assert sleeper.alarm.memory.state == "ringing"


def test_a_clock_set_back_does_not_put_it_off():
    sleeper = Sleeper(armed=True)
    sleeper.until(360)
    sleeper.now -= 3 * HOUR
    sleeper.until(245)
    assert sleeper.rang == [240]


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "at", "rings"),
    [
        ("2026-03-28T22:00+01:00", "07:00", "2026-03-29T07:00+02:00"),  # clocks go forward: 8 h of night
        ("2026-10-24T22:00+02:00", "07:00", "2026-10-25T07:00+01:00"),  # and back: 10 h
        ("2026-03-28T22:00+01:00", "02:30", "2026-03-29T03:30+02:00"),  # never on the clock
        ("2026-10-24T22:00+02:00", "02:30", "2026-10-25T02:30+02:00"),  # the first of two
        ("2026-10-25T02:45+02:00", "02:30", "2026-10-26T02:30+01:00"),
        ("2026-12-31T23:59+01:00", "00:00", "2027-01-01T00:00+01:00"),
        ("2026-06-01T07:00+02:00", "07:00", "2026-06-02T07:00+02:00"),
    ],
)
def test_clock_times_in_dst_nights(now, at, rings):
    after = datetime.fromisoformat(now).timestamp()
    found = next_time(time.fromisoformat(at), after, BERLIN)
    assert found == datetime.fromisoformat(rings).timestamp()


# ---- at work: tasks, memory, noise


class Home:
    """A folder and a clock that outlive the process."""

    def __init__(self, folder):
        self.path = folder / "anna@home.alarm.json"
        self.clock = FakeClock(MIDNIGHT + 6.9 * HOUR)
        self.told = []
        self.bells = 0
        self.rung = asyncio.Event()
        self.problems = []

    @asynccontextmanager
    async def process(self, past=(), **more):
        clock = AlarmClock("anna", settings(**more), self.path, self.clock, past, self.ring)
        clock.hear(lambda change, memory: self.told.append(change.what), self.problems.append)
        async with clock:
            yield clock

    def ring(self):
        self.bells += 1
        self.rung.set()


def test_at_the_deadline_the_bell_rings_until_dismissed(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        async with home.process(armed=True) as alarm:
            await home.clock.advance(359)
            assert home.bells == 0
            await home.clock.advance(10)
            assert 9 <= home.bells <= 10
            assert home.told == ["armed", "window_began", "ringing"]
            assert alarm.obey("dismiss_alarm") == ""
            await home.clock.advance(60)
            assert home.bells <= 10
            await asyncio.wait_for(alarm.over(), 60)

    asyncio.run(scenario())


def test_killed_and_restarted_it_rings(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        async with home.process() as alarm:
            assert alarm.obey("arm_alarm", "06:55") == ""
            await alarm.saved.wait()
            kept = home.path.read_bytes()
        home.path.write_bytes(kept)  # what kill -9 would have left
        home.clock.now += 50  # 50 s later the deadline is 10 s away, and nothing runs
        home.clock.now += 30
        async with home.process():
            await home.clock.advance(250)
            assert home.bells > 0

    asyncio.run(scenario())


def test_without_its_file_the_newest_session_tells(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        data = {"what": "armed", "state": "armed", "deadline": MIDNIGHT + 25_200, "due": MIDNIGHT + 25_200}
        event = EventPayload(
            session="s",
            seq=1,
            t=utc(MIDNIGHT),
            event="alarm",
            data={**data, "snoozes": 0, "by_command": False, "configured": ""},
        )
        async with home.process(past=[event]) as alarm:
            assert alarm.memory.state == "armed"
            await home.clock.advance(361)
            assert home.bells > 0

    asyncio.run(scenario())


def test_a_test_rings_briefly_and_changes_nothing(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        async with home.process(test_s=5) as alarm:
            assert alarm.obey("test_alarm") == ""
            assert alarm.obey("test_alarm") == "it rings already"
            await home.clock.advance(30)
            assert 5 <= home.bells <= 6
            assert alarm.memory.state == "disarmed"
            assert home.told == ["ringing", "dismissed"]
            assert alarm.obey("test_alarm") == ""

    asyncio.run(scenario())


def test_a_command_makes_the_noise_and_the_bell_helps_out(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        rang = tmp_path / "rang"
        command = "sh", "-c", f'echo "$SLEEPSTREAM_STREAM" >> {rang}; exit 3'
        async with home.process(armed=True, command=command) as alarm:
            home.clock.now += 361
            await home.clock.advance(1)
            await asyncio.wait_for(home.rung.wait(), 60)
            assert set(rang.read_text().split()) == {"anna"}
            assert alarm.obey("dismiss_alarm") == ""
        home.rung.clear()
        async with home.process(command=(str(tmp_path / "none"),)) as alarm:
            alarm.obey("test_alarm")
            await asyncio.wait_for(home.rung.wait(), 60)
        assert ["exit code 3" in home.problems[0], "No such file" in home.problems[1]] == [True, True]
        assert all("bell" in problem for problem in home.problems)

    asyncio.run(scenario())


def test_a_noise_without_end_is_cut_off_by_the_sleeper(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        async with home.process(armed=True, command=("sleep", "600")) as alarm:
            home.clock.now += 361
            await home.clock.advance(1)
            ringing = next(task for task in asyncio.all_tasks() if task.get_name() == "ringing for anna")
            assert alarm.obey("dismiss_alarm") == ""
            await asyncio.wait_for(asyncio.wait([ringing]), 60)
        assert home.bells == 0

    asyncio.run(scenario())


def test_a_late_score_does_not_ring(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        async with home.process(armed=True, confirm_s=0) as alarm:
            alarm.push(score(100, "N2"), 120)
            assert "ringing" not in home.told
            alarm.push(score(105, "N2"), 1)
            assert home.told[-1] == "ringing"

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "asleep"}'])
def test_a_spoilt_file_is_as_good_as_none(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    memory, said = load_memory(path, (), MIDNIGHT)
    assert memory is None
    assert "a.json" in said


def test_a_folder_that_cannot_be_written_does_not_silence_it(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        home.path = tmp_path / "file" / "x.json"
        (tmp_path / "file").write_text("")
        async with home.process(armed=True):
            await home.clock.advance(400)
            assert home.bells > 0
            return home.problems

    problems = asyncio.run(scenario())
    assert len(problems) == 2  # that it cannot be read, and once that it cannot be written
    assert "may forget" in problems[1]
