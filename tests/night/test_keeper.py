"""What is told of ended nights: in order, also where two reports come at once."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from streamer.night.keeper import Nights
from streamer.payloads import NightPayload, utc
from streamer.settings import validate
from tests.fakes import FakeClock

NIGHTS = [Path("first.sqlite"), Path("second.sqlite")]


def figures_of(session, **more):
    ended = utc(1e9 + 86400.0 * NIGHTS.index(session))
    night = {"session": session.stem, "seq": 0, "t": ended, "date": date(2001, 9, 9), "ended": ended}
    said = {"started": ended, "reason": "lights on", "scored_min": 400.0, "statistics": {}}
    return NightPayload.model_validate({**night, **said, **more})


@dataclass
class Told:
    """Hears what is told; `caught_up` is set once it knows of the second night."""

    nights: list = field(default_factory=list)
    linked: list = field(default_factory=list)
    caught_up: threading.Event = field(default_factory=threading.Event)

    def night(self, payload):
        self.nights.append((payload.session, payload.report))

    def links(self, links):
        self.linked = links
        if NIGHTS[1] in links:
            self.caught_up.set()

    def say(self, name, text, data):
        assert name == "report", text


class SlowMorning:
    """What it does for the first night takes until the second night was told, if that can come before it."""

    def __init__(self, herald):
        self.herald, self.reported, self.both = herald, [], asyncio.Barrier(2)

    def figures(self, session):
        return figures_of(session)

    async def report(self, session, figures):
        if session == NIGHTS[1]:
            await self.both.wait()  # the first night's links have been listed
        self.reported.append(session)
        return figures_of(session, report=f"{session.stem}.html", picture="a.png", trend="t.html")

    def keep(self, payload):
        pass

    def links(self):
        found = list(self.reported)
        if found == NIGHTS[:1]:
            asyncio.run_coroutine_threadsafe(self.both.wait(), self.loop)
            self.herald.caught_up.wait(0.3)
        return found

    def said(self, session):
        pass


@pytest.fixture
def settings(tmp_path):
    stream = {"name": "anna", "source": {"kind": "lsl"}}
    return validate({"session_dir": str(tmp_path), "stream": [stream]}, "")


def test_an_earlier_list_of_reports_never_replaces_a_later_one(settings):
    async def scenario():
        told = Told()
        nights = Nights(settings.stream[0], settings, FakeClock(), asyncio.Semaphore(), told)
        nights._morning = morning = SlowMorning(told)
        morning.loop = asyncio.get_running_loop()
        nights.ended(NIGHTS[0])
        nights.ended(NIGHTS[1])
        while nights._tasks:
            await asyncio.wait(nights._tasks)
        return told

    told = asyncio.run(scenario())
    assert told.linked == NIGHTS
    assert told.nights[-1] == ("second", "second.html")
