"""A firing is on disk before anything comes of it, on any disk; what cannot be kept does not happen."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.journal import Journal
from streamer.reactions.firings import RECORD, ROOM, FiringLog, Kept, firings
from streamer.reactions.reflexes import OFF_S, Lateness, Reflexes
from streamer.reactions.settings import TriggerSettings
from tests.fakes import FakeClock
from tests.journals import META, HandClock
from tests.live.test_recall import Notes
from tests.reactions.test_triggers import score
from tests.sinks.samples import NIGHT

FIRST, SECOND = Kept("t", 0, 30.0), Kept("u", 0, 31.5)


def test_a_firing_is_on_disk_when_it_is_told_to_be(tmp_path):
    path, seen = tmp_path / "s.firings", []

    async def night():
        async with FiringLog(path, True) as log:
            assert path.stat().st_size == ROOM  # made ahead
            log.keep(FIRST, lambda problem: seen.append((problem, firings(path))))
            log.keep(SECOND, lambda problem: seen.append((problem, firings(path))))
            assert seen == []

    asyncio.run(night())
    assert seen == [("", [FIRST, SECOND]), ("", [FIRST, SECOND])] or seen[0] == ("", [FIRST])
    assert path.stat().st_size == 2 * RECORD  # the room that was not needed is given back
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_next_process_goes_on_behind_and_reads_past_a_torn_record(tmp_path):
    path = tmp_path / "s.firings"
    path.write_bytes(FIRST.record() + b'{"trigger": "t", "num' + bytes(RECORD))

    async def night():
        async with FiringLog(path, True) as log:
            assert log.kept == [FIRST]
            log.keep(SECOND, lambda problem: None)

    asyncio.run(night())
    assert firings(path) == [FIRST, SECOND]


def test_a_night_in_which_nothing_fires_leaves_no_file(tmp_path):
    async def night():
        async with FiringLog(tmp_path / "s.firings", True):
            pass

    asyncio.run(night())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("live", [True, False])
def test_a_folder_that_was_taken_away_is_made_again_with_all_that_has_fired(tmp_path, live):
    folder, told = tmp_path / "night", []

    async def night():
        first = asyncio.Event()
        async with FiringLog(folder / "s.firings", live) as log:
            log.keep(FIRST, lambda problem: (told.append(problem), first.set()))
            await first.wait()
            folder.rename(tmp_path / "elsewhere")
            log.keep(SECOND, told.append)

    asyncio.run(night())
    assert told == ["", ""]
    assert firings(folder / "s.firings") == [FIRST, SECOND]


def test_a_session_that_died_and_cannot_be_gone_on_with_hands_its_firings_on(tmp_path):
    """The disk refused, or nobody knows for how long the power was off: refractory time and limits hold."""
    old, new = tmp_path / "old.sqlite", tmp_path / "new.firings"
    Journal.create(old, META, HandClock()).close()
    old.with_suffix(".firings").write_bytes(Kept("t", 0, 30.0).record() + Kept("t", 1, 95.0).record())

    async def night():
        async with FiringLog(new, True) as log:
            log.inherit(old, META.info.started + 100)
            log.inherit(old, META.info.started + 100)
            clock = FakeClock(NIGHT)
            made, _, actions = reflexes(tmp_path, log, clock, refractory_s=60, max_per_night=3)
            for at in range(30, 90, 5):
                clock.now = float(at)
                made.push(arrived(at, clock), NIGHT + at)
            log.keep(SECOND, lambda problem: None)
        return actions.done

    asyncio.run(night())
    assert [(one.number, one.end) for one in firings(new) if one.trigger == "t"] == [
        (0, -70.0),
        (1, -5.0),
        (2, 55.0),
    ]


def test_a_clock_that_is_behind_makes_no_firing_one_of_the_future(tmp_path):
    old = tmp_path / "old.sqlite"
    Journal.create(old, META, HandClock()).close()
    old.with_suffix(".firings").write_bytes(FIRST.record() + replace(FIRST, number=1, end=95.0).record())
    log = FiringLog(tmp_path / "new.firings", False)
    log.open()
    log.inherit(old, META.info.started - 1200)
    assert [one.end for one in log.kept] == [FIRST.end - 95, 0.0]
    assert len({one.key for one in log.kept}) == 2, "or they would count as one"


# ---- what the triggers make of it


class Actions:
    def __init__(self):
        self.done = []

    def carry_out(self, action, facts):
        self.done.append(facts["name"])


def reflexes(folder, log, clock, **more):
    settings = {"name": "t", "stages": ["N3"], "action": {"command": ["true"]}, **more}
    notes, actions = Notes(), Actions()
    made = Reflexes(
        [TriggerSettings.model_validate(settings)], notes, actions, clock, True, folder / "s.sqlite", log
    )
    return made, notes, actions


def arrived(end_s, clock, stage="N3"):
    one = score(end_s, stage)
    object.__setattr__(one, "arrived", clock.monotonic())
    return one


class Disk:
    """A firing log whose disk says what a test wants, when it wants."""

    kept = ()

    def __init__(self):
        self.due = []

    def keep(self, firing, done):
        self.due.append((firing, done))


@pytest.mark.parametrize("sham", [0.0, 0.999])
def test_nothing_comes_of_a_firing_before_the_disk_has_it(tmp_path, sham):
    disk, clock = Disk(), FakeClock(NIGHT)
    made, notes, actions = reflexes(tmp_path, disk, clock, sham=sham)
    clock.now = 30.0
    made.push(arrived(30, clock), NIGHT + 30)
    assert (notes.events, actions.done, made.arms.exists()) == ([], [], False)
    ((firing, done),) = disk.due
    assert firing == Kept("t", 0, 30.0)
    done("")
    assert [one.event for one in notes.events] == ["trigger"]
    assert actions.done == ([] if sham else ["t"])


def test_what_cannot_be_kept_or_took_too_long_does_not_happen_and_is_said(tmp_path):
    disk, clock = Disk(), FakeClock(NIGHT)
    made, notes, actions = reflexes(tmp_path, disk, clock)
    for at in (30, 60):
        clock.now = float(at)
        made.push(arrived(at, clock), NIGHT + at)
    disk.due[0][1]("No space left on device")
    clock.now += 3
    disk.due[1][1]("")
    assert actions.done == []
    assert [one.event for one in notes.events] == ["warning", "warning"]
    assert "did not fire" in notes.events[0].text
    assert "No space left" in notes.events[0].text
    assert "the disk took 3.0 s" in notes.events[1].text


def test_a_disk_that_refuses_is_said_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    told = []

    async def night():
        async with FiringLog(tmp_path / "file" / "s.firings", True) as log:
            log.keep(FIRST, told.append)

    asyncio.run(night())
    assert told == ["Not a directory"] or told == ["File exists"]


def test_windows_that_are_caught_up_after_a_resume_never_fire(tmp_path):
    disk, clock = Disk(), FakeClock(NIGHT)
    made, _, _ = reflexes(tmp_path, disk, clock, dwell_s=20)
    clock.now = 100.0
    waiting = [arrived(at, clock) for at in (35, 40, 45, 50, 55, 60)]
    clock.now = 100.5  # the record was read back so quickly that they are hardly late
    made.restore([score(30)], [])
    for one in waiting:
        made.push(one, NIGHT + one.end / 100)
    assert disk.due == []
    clock.now = 101.0
    made.push(arrived(65, clock), NIGHT + 65)
    assert [firing.end for firing, _ in disk.due] == [65.0]  # the dwell has gone on


def test_it_is_said_when_stages_come_too_late_for_a_trigger_and_when_they_are_in_time_again(tmp_path):
    clock = FakeClock(NIGHT)
    made, notes, _ = reflexes(tmp_path, Disk(), clock, max_age_s=1.0)

    def hear(seconds, late_s):
        for _ in range(round(seconds)):
            hear.at += 1
            one = arrived(hear.at, clock)
            clock.now = max(clock.now, hear.at + late_s)
            object.__setattr__(one, "arrived", hear.at)
            made.push(one, NIGHT + hear.at)

    hear.at = 0
    hear(60, 0.0)
    assert notes.events == []
    hear(OFF_S + 5, 3.0)
    (off,) = [one for one in notes.events if one.event == "warning"]
    assert "trigger t is off" in off.text
    assert off.data == {"trigger_off": "t", "off": True}
    hear(OFF_S + 10, 0.0)
    assert [one.text for one in notes.events if one.event == "warning"][1:] == [
        "trigger t is on again: stages come in time"
    ]


def test_a_band_that_was_off_for_long_does_not_turn_a_trigger_off(tmp_path):
    clock = FakeClock(NIGHT)
    made, notes, _ = reflexes(tmp_path, Disk(), clock)
    clock.now = 4000.0
    for at in range(30, 3930, 30):
        one = arrived(at, clock, "unscored")
        made.push(one, NIGHT + at)
    assert notes.events == []


def test_the_file_does_not_tell_a_sham_from_a_true_firing(tmp_path):
    clock = FakeClock(NIGHT)
    log = FiringLog(tmp_path / "s.firings", False)
    log.open()
    made, _, _ = reflexes(tmp_path, log, clock, sham=0.5, seed=5)
    for at in range(30, 90, 5):
        made.push(score(at), NIGHT + at)
    assert len(firings(tmp_path / "s.firings")) == 12
    assert b"sham" not in (tmp_path / "s.firings").read_bytes()
    assert os.listdir(tmp_path)
    assert Path(tmp_path / "s.arms.jsonl").exists()


def test_a_device_whose_clock_stood_still_turns_its_triggers_off_for_a_minute_and_not_for_good():
    lateness = Lateness()
    assert [lateness.push(at, at) for at in range(60)] == [0] * 60
    ages = [lateness.push(60 + at, 3660 + at) for at in range(120)]
    assert min(ages[:59]) > 3500
    assert max(ages[62:]) < 1.1


def test_what_catches_up_is_late_to_the_end():
    lateness = Lateness()
    for at in range(60):
        lateness.push(at, at)
    at, now = 60.0, 180.0  # two minutes behind, at 1.2 times the pace
    while now - at > 10:
        assert lateness.push(at, now) > 1
        at, now = at + 1.2, now + 1.0
