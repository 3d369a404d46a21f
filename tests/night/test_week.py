"""A week of a home, end to end: a real broker, real reports, what goes wrong in a week; a fake clock."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from streamer.errors import SourceError
from streamer.journal import JournalReader
from streamer.messages import Chunk
from streamer.night.morning import write_aside
from streamer.night.session import read_items, read_night
from streamer.sinks.homeassistant import device_id
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.night.house import RATE, House
from tests.sinks.fakes import Subscriber

BEGIN = datetime(2026, 1, 1, 3, tzinfo=UTC).timestamp()
ALARM = {"deadline": "07:00", "zone": "UTC", "armed": True, "daily": True, "command": ["true"]}
PUT_ON_H, UP_H, EVENING_H, DAY_H = 0.75, 4.25, 20.0, 24.0  # hours since three in the morning
WORN = 420  # epochs: three and a half hours
NIGHTS = 7
REPORTS_S = 600  # a process each, at a lower priority; the week goes by faster than that
LIT, OFF = "the night has ended: lights on", "the night has ended: the band was off or silent for 90 min"


@contextmanager
def a_full_disk():
    """No file may grow any more: as full as a disk can be for one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Week(House):
    """The house with its broker, and somebody who listens there; `day` counts from 0."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        more = {"stream": {"alarm": ALARM}, "mqtt": {"port": broker.port}, "homeassistant": {}}
        super().__init__(folder, wall=BEGIN, launch=write_aside, web={"port": 0}, **more)
        self.broker = broker
        self.ears: list[Subscriber] = []  # a new one after each death of the broker
        self.pieces = 0  # that were given before this night
        self.missed: dict[int, int] = {}  # by night: samples that the band never gave

    async def listen(self) -> None:
        self.ears.append(await Subscriber(self.broker.port, "#").__aenter__())

    def told(self, kind):
        """Everything of a kind that came over the broker, in order."""
        return [one for ear in self.ears for one in ear.of(kind)]

    async def command(self, name, text=""):
        """Ask for something as a home does."""
        before = len(self.told("answer"))
        async with aiomqtt.Client("127.0.0.1", self.broker.port) as client:
            body = json.dumps({"command": name, "text": text})
            await client.publish("sleepstream/house/anna/command", body, qos=1)
        await self.until(lambda: len(self.told("answer")) > before)
        answer = self.told("answer")[-1]
        assert answer["done"], answer

    async def hours(self, until: float) -> None:
        """Let time pass, without a band, until so many hours after the week began."""
        left = until * 3600 - self.clock.now
        if left > 0:
            await self.clock.go(left, 300)

    def rings(self):
        return [event for event in self.heard.events if event.data.get("what") == "ringing"]

    async def put_on(self, day: int) -> None:
        """The band is put on, a quarter to four."""
        await self.hours(day * DAY_H + PUT_ON_H)
        began, self.pieces = self.heard.count("session_started"), len(self.given)
        await self.wear(0.25)
        await self.said("session_started", began + 1)

    async def morning(self, day: int) -> None:
        """The alarm has rung; the sleeper says so."""
        await self.until(lambda: len(self.rings()) == day + 1)
        await self.command("dismiss_alarm")

    async def get_up(self, day: int, lights_on: bool) -> None:
        """The sleeper has been woken; the lights go on, or the band is just taken off."""
        await self.morning(day)
        ended = self.heard.count("session_ended")
        if lights_on:
            await self.command("lights_on")
        else:
            await self.silence(1.6)
        await self.said("session_ended", ended + 1)
        await self.hours(day * DAY_H + EVENING_H)

    async def night(self, day: int, lights_on: bool) -> None:
        """A night in which nothing is the matter."""
        await self.put_on(day)
        await self.wear(UP_H - PUT_ON_H - 0.25)
        await self.get_up(day, lights_on)

    async def power_cut(self) -> Path:
        """What is on the disk two seconds after the last sample: all that the next start will find."""
        given = sum(piece.shape[1] for piece in self.given[self.pieces :])

        def whole():
            with JournalReader(self.heard.sessions[-1]) as reader:
                return reader.last().index == given

        await self.clock.go(2, 1)
        await self.until(whole)
        return Path(shutil.copytree(self.folder, self.folder.with_name("cut")))

    def power_back(self, disk: Path) -> None:
        """Whatever the engine still wrote as it was taken down was never written."""
        shutil.rmtree(self.folder)
        disk.rename(self.folder)

    async def without_broker(self, hours: float) -> None:
        """It dies, and comes back after so long, having forgotten everything."""
        self.broker.kill()
        await self.ears[-1].until_disconnected()
        await self.wear(hours)
        self.broker.start()
        await self.listen()
        await self.passing(lambda: self.ears[-1].of("epoch"))

    async def without_band(self, day: int, hours: float) -> None:
        """It is out of reach for so long."""
        self.near.clear()
        self.band.give(SourceError("the radio is gone"))
        await self.until(lambda: not self.band.open)
        await self.silence(hours)
        self.near.set()
        await self.until(lambda: self.band.open)
        self.missed[day] = self.lost[-1]


async def until_the_power_cut(week):
    """Two calm nights, and two hours of the third."""
    async with week.run(kill=True):
        await week.until(lambda: week.told("alarm"))  # before there is any band
        assert week.heard.sessions == []
        assert week.told("alarm")[-1]["time"] == "07:00"
        await week.hours(PUT_ON_H)
        week.near.set()
        await week.night(0, lights_on=True)
        await week.night(1, lights_on=False)
        await week.put_on(2)
        await week.wear(1.75)
        disk = await week.power_cut()
    week.power_back(disk)
    await week.silence(5 / 60)


async def all_that_comes_then(week):
    """The rest of that night, one without the broker, none, one without the band and the disk, a calm one."""
    before = week.band
    async with week.run() as engine:
        await week.until(lambda: week.band is not before and week.band.open)
        week.missed[2] = week.lost[-1]
        await week.wear(UP_H - PUT_ON_H - 2)
        assert week.heard.count("session_resumed") == 1
        await week.get_up(2, lights_on=True)
        await week.put_on(3)
        await week.without_broker(0.5)
        await week.wear(UP_H - PUT_ON_H - 0.75)
        await week.get_up(3, lights_on=False)
        await week.hours(4 * DAY_H + UP_H)  # the band stays in its drawer
        await week.morning(4)
        await week.put_on(5)
        await week.wear(1)
        await week.without_band(5, 10 / 60)
        await week.wear(UP_H - PUT_ON_H - 1.25)
        await week.get_up(5, lights_on=True)
        await week.put_on(6)
        with a_full_disk():
            await week.wear(0.5)
        await week.wear(UP_H - PUT_ON_H - 0.75)
        await week.get_up(6, lights_on=False)
        await week.command("set_alarm", "06:30")
        await week.night(7, lights_on=True)
        await week.until(lambda: len(reported(week)) == NIGHTS, REPORTS_S)
        await week.until(lambda: len(finals(week)) == NIGHTS)
        await week.until(lambda: week.told("night")[-1]["report"])
        return engine._page.links("anna")


async def scenario(folder, broker):
    folder.mkdir()
    week = Week(folder, broker)
    week.near.clear()
    await week.listen()
    try:
        await until_the_power_cut(week)
        return week, await all_that_comes_then(week)
    finally:
        for ear in week.ears:
            await ear.__aexit__(None, None, None)


def reported(week):
    """Sessions whose report was told; once more where a power cut came after it was written."""
    return {event.data["session"] for event in week.heard.events if event.event == "report"}


def finals(week):
    return {one["session"]: one for one in week.told("summary") if one["final"]}


def samples(paths):
    """All that was recorded, night after night."""
    chunks = [one.samples for path in paths for one in read_items(path) if isinstance(one, Chunk)]
    return np.concatenate(chunks, axis=1)


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_week_has_seven_nights_reports_and_summaries_an_alarm_each_morning_and_loses_nothing(tmp_path):
    with Mosquitto() as broker:
        week, links = asyncio.run(scenario(tmp_path / "home", broker))
    paths = list(dict.fromkeys(week.heard.sessions))
    nights = dict(zip((0, 1, 2, 3, 5, 6, 7), map(read_night, paths), strict=True))

    assert np.array_equal(samples(paths), np.concatenate(week.given, axis=1))  # each once, in order
    assert week.missed[2] >= 300 * RATE  # and what the engine took to go down, by its own clock
    assert week.missed[5] == 600 * RATE
    for day, night in nights.items():
        missed = week.missed.get(day, 0)
        assert [gap.stop - gap.start for gap in night.gaps] == [missed][: missed > 0], day
        assert night.n_samples == WORN * 30 * RATE + missed, day
        assert len(night.labels) == night.lights_on == WORN + missed // (30 * RATE), day
        assert night.lights_off == 0
        assert sum(label != "unscored" for label in night.labels) >= WORN - 1, day
        assert night.ended
        assert night.missing == ()

    for path, night in zip(paths, nights.values(), strict=True):
        for kind in (".html", ".png", ".json"):
            assert path.with_suffix(kind).stat().st_size > 500
        assert finals(week)[night.meta.session]["statistics"] == night.statistics().to_json()
    assert week.heard.texts("session_ended") == [LIT, OFF, LIT, OFF, LIT, OFF, LIT]
    assert [link.path for link in links[1:]] == [path.with_suffix(".html") for path in reversed(paths)]
    assert (links[0].title, (week.folder / "trend-anna.html").is_file()) == ("trend", True)

    rings = [event.t - datetime.fromtimestamp(BEGIN, UTC) for event in week.rings()]
    assert [ring.days for ring in rings] == list(range(8))  # also of the day without a band
    hours = [ring.seconds / 3600 for ring in rings]
    assert all(3.5 <= hour <= 4.1 for hour in hours[:7])  # 06:30 to 07:00
    assert 3 <= hours[7] <= 3.6

    last = week.told("night")[-1]
    assert (last["date"], last["trend"]) == ("2026-01-07", "trend-anna.html")
    epochs = [(one["session"], one["epoch"]) for one in week.told("epoch")]
    told = [(night.meta.session, epoch.epoch) for night in nights.values() for epoch in night.epochs]
    assert list(dict.fromkeys(epochs)) == told  # all, in order, over two deaths
    config = f"homeassistant/device/{device_id('house', 'anna')}/config"
    for ear in week.ears:
        assert any(item.topic == config and b"night_sleep" in item.payload for item in ear.heard)
