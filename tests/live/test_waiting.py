"""Why nothing arrives stands in the log, on the page and at the broker at once, until something comes."""

import asyncio
import json
import logging
from collections import deque

import pytest

from streamer.errors import SourceError
from streamer.live.waiting import Waiting
from streamer.web.page import Page
from tests.fakes import FakeClock


def waiting(clock):
    told = []
    return Waiting("anna", clock, told.append), told


def test_each_reason_is_told_when_it_changes_and_logged_once_an_hour(caplog):
    clock = FakeClock()
    one, told = waiting(clock)
    one.because("")  # nothing was in the way, and nothing is said
    assert told == []
    for _ in range(50):
        one.because("no stream")
    one.because("another rate")
    one.because("no stream")
    one.because("")
    assert [(payload.waiting, payload.reason) for payload in told] == [
        (True, "no stream"),
        (True, "another rate"),
        (True, "no stream"),
        (False, ""),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "stream anna waits for its signal: no stream",
        "stream anna waits for its signal: another rate",
    ]
    asyncio.run(clock.advance(3601))
    one.because("no stream")
    assert len(caplog.records) == 3
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_what_a_source_says_while_it_is_opened_is_the_reason():
    async def scenario():
        clock = FakeClock()
        one, told = waiting(clock)
        remarks, opened = deque(), asyncio.Event()

        async def entered():
            await opened.wait()
            return "open"

        opening = asyncio.create_task(one.opening(entered(), remarks))
        await clock.advance(1)
        remarks.append("no LSL stream matches so far; there are: none")
        await clock.advance(1)
        assert told[-1].reason == "no LSL stream matches so far; there are: none"
        opened.set()
        assert await asyncio.wait_for(opening, 60) == "open"

        async def failing():
            raise SourceError("gone")

        with pytest.raises(SourceError):
            await one.opening(failing(), remarks)

    asyncio.run(scenario())


def test_the_page_shows_it_before_there_is_a_session():
    page = Page(FakeClock())
    view = page.view()
    page.waits("anna", "no channel 'AF7'; there are: C3")
    assert view.changed.is_set()
    assert json.loads(view.update()) == {
        "streams": [],
        "waiting": {"anna": "no channel 'AF7'; there are: C3"},
    }
    page.waits("anna", "")
    page.waits("anna", "")
    assert json.loads(view.update())["waiting"] == {}
