"""The alarm's time and window are set by command; they last, and the settings file gives the default."""

import asyncio

import pytest

from streamer.reactions.alarm_clock import AlarmClock
from streamer.reactions.memory import Memory, load_memory
from tests.fakes import FakeClock, settle
from tests.reactions.test_alarm import MIDNIGHT, Sleeper, settings


def set_to(sleeper, at):
    return sleeper.note(sleeper.alarm.set_time(at, sleeper.now, sleeper.steady))


def window(sleeper, minutes):
    return sleeper.note(sleeper.alarm.set_window(minutes, sleeper.now))


def test_a_time_that_is_set_moves_an_armed_alarm_and_those_of_the_days_after():
    sleeper = Sleeper(armed=True, daily=True)
    assert set_to(sleeper, "06:30").what == "armed"
    sleeper.until(391)
    assert sleeper.rang == [390]
    sleeper.note(sleeper.alarm.dismiss(sleeper.now, sleeper.steady))
    sleeper.until(1440 + 391, hop_s=30)
    assert sleeper.rang == [390, 1830]


def test_a_time_that_is_set_waits_for_the_switch():
    sleeper = Sleeper()
    assert set_to(sleeper, "06:30").what == "set"
    sleeper.until(60)
    assert sleeper.alarm.memory.state == "disarmed"
    sleeper.arm()
    sleeper.until(400)
    assert sleeper.rang == [390]


def test_a_window_that_is_set_counts_tonight():
    sleeper = Sleeper(armed=True)
    assert window(sleeper, "60.0").what == "set"
    sleeper.until(355, "N3")
    sleeper.until(365, "N2")
    assert sleeper.rang == [360]
    none = Sleeper(armed=True)
    window(none, "0")
    none.until(421, "N2")
    assert none.rang == [420]


def test_both_outlast_a_restart_and_the_settings_win_once_they_are_changed():
    sleeper = Sleeper(armed=True)
    set_to(sleeper, "06:30")
    window(sleeper, "10")
    memory = sleeper.alarm.memory
    again = Sleeper(memory, at=3600, steady=5, armed=True)
    again.until(400, "N3")
    assert again.rang == [390]
    assert again.alarm.memory.window_min == 10
    changed = Sleeper(memory, at=3600, armed=True, deadline="08:00", window_min=20)
    changed.until(490, "N3")
    assert changed.rang == [480]
    assert (changed.alarm.memory.at, changed.alarm.memory.window_min) == ("", -1)


@pytest.mark.parametrize("at", ["", "7", "25:00", "noon", "07:00+01:00", "2026-01-02T07:00", "x" * 500])
def test_what_is_no_time_of_day_is_refused_and_changes_nothing(at):
    sleeper = Sleeper(armed=True)
    before = sleeper.alarm.memory
    assert isinstance(set_to(sleeper, at), str)
    assert sleeper.alarm.memory == before


@pytest.mark.parametrize("minutes", ["", "-1", "181", "nan", "inf", "half an hour"])
def test_what_is_no_window_is_refused_and_changes_nothing(minutes):
    sleeper = Sleeper(armed=True)
    before = sleeper.alarm.memory
    assert isinstance(window(sleeper, minutes), str)
    assert sleeper.alarm.memory == before


@pytest.mark.parametrize("spoilt", ['{"at": "26:00"}', '{"window_min": 500}', '{"window_min": NaN}'])
def test_a_file_that_says_what_nobody_can_have_set_is_not_used(tmp_path, spoilt):
    path = tmp_path / "alarm.json"
    path.write_text(spoilt)
    memory, said = load_memory(path, (), MIDNIGHT)
    assert memory is None
    assert "is not used" in said


def test_it_is_seen_without_a_session_and_told_with_the_defaults_of_the_file(tmp_path):
    async def scenario():
        seen = []
        clock = FakeClock(MIDNIGHT)
        alarm = AlarmClock("anna", settings(), tmp_path / "alarm.json", clock)
        async with alarm:
            said = alarm.said("", 0)
            assert (said.state, said.time, said.window_min) == ("disarmed", "07:00", 30)
            alarm.watch(lambda: seen.append(alarm.said("", len(seen))))
            assert alarm.obey("set_alarm", "06:15") == ""
            assert alarm.obey("set_alarm_window", "20.0") == ""
            assert alarm.obey("arm_alarm") == ""
            await settle()
        return seen

    seen = asyncio.run(scenario())
    assert [(one.state, one.time, one.window_min) for one in seen] == [
        ("disarmed", "06:15", 30),
        ("disarmed", "06:15", 20),
        ("armed", "06:15", 20),
    ]
    assert seen[-1].deadline.timestamp() == MIDNIGHT + 6.25 * 3600
    assert Memory().window_min == -1
