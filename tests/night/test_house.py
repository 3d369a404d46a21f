"""Nights that end by themselves, in a whole engine: what is told and written, and when the next begins."""

import asyncio

import pytest

from streamer.journal import JournalReader
from streamer.night.session import read_night
from streamer.payloads import CommandPayload
from tests.night.house import EVENING, House

OFF = "the night has ended: the band was off or silent for 90 min"


def ends(path):
    with JournalReader(path) as reader:
        return [event.text for event in reader.events("session_ended")]


def test_a_band_that_is_taken_off_ends_the_night_and_one_that_is_put_on_begins_the_next(tmp_path):
    async def scenario():
        house = House(tmp_path)
        async with house.run():
            await house.wear(3.5)
            await house.silence(1.4)
            assert house.recording
            await house.silence(0.2)
            await house.said("report")
            assert not house.recording
            assert house.heard.stages[-1].stage == "no_signal"
            await house.wear(0.5, worn=False)  # on its table
            await house.wear(120 / 3600, piece_s=120)  # a blip
            await house.wear(120 / 3600, worn=False, piece_s=120)
            assert house.heard.count("session_started") == 1
            put_on = house.clock.wall()
            await house.wear(1 / 12)
            await house.said("session_started", 2)
            await house.wear(0.5)
        return house, put_on

    house, put_on = asyncio.run(scenario())
    heard = house.heard
    assert heard.texts("session_ended") == [OFF, "stopped"]
    first, second = (read_night(path) for path in heard.sessions)
    assert first.lights_on == 420  # not an hour and a half later
    assert first.statistics().tib_min == 210
    assert abs(second.started - put_on) < 40
    assert 0 <= second.n_samples - 35 * 60 * 100 < 4000  # what it took to be sure is in the record
    assert len(second.labels) == 70
    (final,) = [one for one in heard.summaries if one.final and one.session == first.meta.session]
    assert final.statistics == first.statistics().to_json()
    assert [one.report for one in heard.nights[:2]] == [None, f"{heard.sessions[0].stem}.html"]
    assert heard.nights[1].date.isoformat() == "2025-12-31"
    assert heard.nights[1].reason == "the band was off or silent for 90 min"
    assert heard.nights[1].statistics == final.statistics
    assert str(tmp_path / f"{heard.sessions[0].stem}.html") in heard.texts("report")[0]


def command(house, engine, name):
    """As the broker or the page would say it."""
    (sleeper,) = engine.sleepers
    return sleeper.obey(CommandPayload(command=name))


@pytest.mark.slow
def test_lights_on_end_the_night_and_the_band_has_to_go_before_another_begins_or_the_lights(tmp_path):
    async def scenario():
        house = House(tmp_path)
        async with house.run() as engine:
            await house.wear(1.0)
            assert command(house, engine, "lights_on") == ""
            await house.said("session_ended")
            await house.wear(1.0, piece_s=60)  # breakfast, with the band on
            assert command(house, engine, "mark") == "no session has begun: the device is looked for"
            assert house.heard.count("session_started") == 1
            await house.silence(0.2)
            await house.wear(0.25)
            await house.said("session_started", 2)
            await house.wear(0.75)
            assert command(house, engine, "lights_on") == ""
            await house.said("session_ended", 2)
            await house.wear(0.1, piece_s=60)
            assert house.heard.count("session_started") == 2
            assert command(house, engine, "lights_off") == ""  # not yet up
            await house.wear(60 / 3600, piece_s=60)
            await house.said("session_started", 3)
        return house

    house = asyncio.run(scenario())
    assert house.heard.texts("session_ended") == [
        "the night has ended: lights on",
        "the night has ended: lights on",
        "stopped",
    ]


def test_before_there_is_a_band_the_page_shows_the_alarm_and_takes_another_time(tmp_path):
    async def scenario():
        alarm = {"deadline": "07:00", "zone": "UTC", "armed": True}
        house = House(tmp_path, stream={"alarm": alarm}, web={"port": 0})
        house.near.clear()
        async with house.run() as engine:
            await house.until(lambda: engine.sleepers)
            (state,) = engine._page.streams
            before = state.alarm["time"]
            engine._page.command('{"stream": "anna", "command": "set_alarm", "text": "06:45"}')
            after = state.alarm["time"]
            house.near.set()
            await house.wear(0.25)
            (state,) = engine._page.streams
            return before, after, state.session, state.alarm["time"]

    before, after, session, then = asyncio.run(scenario())
    assert (before, after, then) == ("07:00", "06:45", "06:45")
    assert session


def test_noon_ends_one_night_and_a_band_that_is_worn_on_begins_another(tmp_path):
    async def scenario():
        house = House(tmp_path, night={"at": "03:00"}, wall=EVENING)
        async with house.run():
            await house.wear(4.25)
            await house.said("session_started", 2)
            await house.wear(0.25)
        return house

    house = asyncio.run(scenario())
    assert house.heard.texts("session_ended") == ["the night has ended: it is 03:00", "stopped"]
    first, second = (read_night(path) for path in house.heard.sessions)
    assert abs(first.started + first.duration_s - second.started) < 310  # the piece in which it was three


def test_a_night_goes_on_over_a_death_and_its_end_is_not_forgotten(tmp_path):
    async def scenario():
        house = House(tmp_path)
        async with house.run(kill=True):
            await house.wear(2.5)
        await house.silence(0.1)
        async with house.run(kill=True):
            await house.wear(1.0)
            await house.said("session_resumed")
            await house.silence(1.55)
            await house.said("session_ended")
        await house.silence(1.0)
        async with house.run():  # a restart in the day: what comes now is the next night
            await house.wear(120 / 3600, piece_s=120)
            assert house.heard.count("session_started") == 1
            await house.wear(0.25)
            await house.said("session_started", 2)
        return house

    house = asyncio.run(scenario())
    assert house.heard.texts("session_ended")[0] == OFF
    assert len(set(house.heard.sessions)) == 2


def test_a_power_cut_after_a_report_was_written_and_before_it_was_announced(tmp_path):
    written = asyncio.Event()

    async def scenario():
        house = House(tmp_path)
        usual = house._launch

        async def then_dies(paths):
            await usual(paths)
            written.set()
            await asyncio.Event().wait()

        house._launch = then_dies
        async with house.run(kill=True):
            await house.wear(3.5)
            await house.silence(1.55)
            await house.said("session_ended")
            await written.wait()
        assert house.heard.count("report") == 0
        house._launch = usual
        await house.silence(1.0)
        async with house.run():
            await house.until(lambda: len(house.launched) == 2)
            await house.wear(0.25)
            await house.said("session_started", 2)
        async with house.run():
            await house.wear(0.1, piece_s=60)
        return house

    house = asyncio.run(scenario())
    assert house.heard.count("report") == 1
    assert list(tmp_path.glob("*.unsaid")) == []


@pytest.mark.parametrize("how", ["between the end and the report", "in the night, for good"])
def test_a_power_cut_costs_no_report(tmp_path, how):
    begun = asyncio.Event()

    async def never(paths):
        begun.set()
        await asyncio.Event().wait()

    async def scenario():
        house = House(tmp_path, launch=never)
        async with house.run(kill=True):
            await house.wear(3.5)
            if how.startswith("between"):
                await house.silence(1.55)
                await house.said("session_ended")
                await begun.wait()
        assert house.heard.count("report") == 0
        await house.silence(1.0)
        house._launch = house.launch
        async with house.run():
            await house.until(lambda: house.launched)
            await house.wear(0.25)
            await house.said("session_started", 2)
        async with house.run():  # and it is written once
            await house.wear(0.1, piece_s=60)
        return house

    house = asyncio.run(scenario())
    assert house.heard.count("report") == 1
    assert [paths[0] for paths in house.launched] == [house.heard.sessions[0]]


def test_what_is_too_short_to_be_a_night_is_neither_told_nor_reported(tmp_path):
    async def scenario():
        house = House(tmp_path, night={"lights_on_after_min": 5})
        async with house.run() as engine:
            await house.wear(0.25)
            command(house, engine, "lights_on")
            await house.said("session_ended")
            await house.silence(2)
        return house

    house = asyncio.run(scenario())
    assert house.heard.nights == house.launched == []


def test_a_report_that_fails_is_said_and_harms_no_night(tmp_path):
    async def fails(paths):
        raise OSError(28, "No space left on device")

    async def scenario():
        house = House(tmp_path, launch=fails)
        async with house.run() as engine:
            await house.wear(1.0)
            command(house, engine, "lights_on")
            await house.said("warning")
            await house.silence(0.5)
            await house.wear(0.25)
            await house.said("session_started", 2)
        return house

    house = asyncio.run(scenario())
    assert "No space left on device; trying again at the next start" in house.heard.texts("warning")[0]
    assert len(house.heard.nights) == 1
