"""Chaos finds that the engine names the session that it gives up, whatever earlier faults left behind."""

import asyncio
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from streamer.clock import SystemClock
from streamer.journal import Journal, Meta
from streamer.journal.candidates import find
from streamer.journal.lock import LOCK
from tests.chaos.check import Verdict
from tests.chaos.nights import Nights
from tests.journals import HandClock, chunk, event
from tests.paths import info

META = Meta("20260101T220000Z-anna-abc123", "node", "anna", info(100, ("AF7", "AF8")), boot="first")


def record(folder, session, *events):
    path = folder / f"{session}.sqlite"
    with Journal.create(path, replace(META, session=session), SystemClock()) as journal:
        journal.record(chunk(0, 300))
        for one in events:
            journal.event(one)
    path.with_name(path.name + LOCK).touch()  # as after a death
    return path


class Engine:
    """Looks for a session to continue, as the real one, and begins another that says why there is none."""

    def __init__(self, folder, told):
        self._folder, self._told = folder, told

    def start(self):
        found = find(self._folder, META, SystemClock(), 600)
        why = self._told(found.why)
        started = event(0).model_copy(update={"event": "session_started", "data": {"why": why}})
        record(self._folder, "20260101T230000Z-anna-ffffff", started)


async def nobody():
    """The engine does not run."""


@pytest.mark.parametrize(("told", "stuck"), [(str, 0), (lambda why: "", 1)])
def test_a_clock_behind_is_judged_by_the_session_written_last(tmp_path, monkeypatch, told, stuck):
    monkeypatch.setattr("tests.chaos.nights.BEGIN_S", 0.1)
    verdict = Verdict()
    record(tmp_path, "20260101T200000Z-anna-abc000")
    rig = SimpleNamespace(sessions=tmp_path, engine=Engine(tmp_path, told))
    strike = Nights(rig, verdict, nobody).faults["clock behind after boot"]
    record(tmp_path, META.session)
    asyncio.run(strike(random.Random(1)))
    assert find(tmp_path, META, HandClock(), 600).path is None, "another look, which leaves logs"
    (tmp_path / "20260101T230000Z-anna-ffffff.sqlite").unlink()
    asyncio.run(strike(random.Random(2)))
    assert verdict.given_up == {f"{META.session}.sqlite"}
    assert verdict.stuck == 2 * stuck
