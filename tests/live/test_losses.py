"""Losses are told one by one while they are few, together while they are many; none is left out."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing

from streamer.clock import SystemClock
from streamer.journal import Journal, JournalReader
from streamer.live.resume import LASTING, RECENT, Rewarmed, replay_scores, restore
from streamer.live.stream import AT_ONCE, EVERY_S, Losses
from streamer.messages import Gap
from streamer.sinks.publisher import Publisher
from tests.journals import META, HandClock, chunk, event

RATE_HZ = 256


def publisher(journal):
    return Publisher("anna", "s1", META.info, journal, (), SystemClock(), None)


def told(path):
    with JournalReader(path) as reader:
        return [one for one in reader.events() if one.event == "gap"]


def test_a_device_that_loses_samples_four_times_a_second_is_told_of_in_few_events(tmp_path):
    path, gaps = tmp_path / "s.sqlite", [Gap(64 * n, 64 * n + 5, "radio") for n in range(1, 2001)]
    with Journal.create(path, META, HandClock()) as journal:
        losses = Losses(publisher(journal))
        for gap in gaps:
            losses.push(gap)
        losses.flush()
    events = told(path)
    assert AT_ONCE < len(events) <= AT_ONCE + 64 * 2000 / RATE_HZ / EVERY_S + 1
    assert sum(one.data.get("count", 1) for one in events) == 2000
    assert abs(sum(one.data["seconds"] for one in events) - 2000 * 5 / RATE_HZ) < 0.01
    assert events[0].text == f"{0.0195:.3f} s lost: radio"
    assert "places within" in events[-1].text


def test_few_losses_are_told_at_once(tmp_path):
    path = tmp_path / "s.sqlite"
    with Journal.create(path, META, HandClock()) as journal:
        losses = Losses(publisher(journal))
        for n in range(1, 50):
            losses.push(Gap(n * 5000, n * 5000 + 100, "radio"))
    assert [one.data["seconds"] for one in told(path)] == [round(100 / RATE_HZ, 4)] * 49


def test_what_was_held_back_is_told_when_its_time_has_come(tmp_path):
    path = tmp_path / "s.sqlite"
    with Journal.create(path, META, HandClock()) as journal:
        losses = Losses(publisher(journal))
        for n in range(20):
            losses.push(Gap(n * 10, n * 10 + 5, "radio"))
        losses.passed(EVERY_S + 1)
    assert sum(one.data.get("count", 1) for one in told(path)) == 20


def test_after_a_death_only_what_was_not_told_is_told(tmp_path):
    path, gaps = tmp_path / "s.sqlite", [Gap(n * 10, n * 10 + 5, "radio") for n in range(1, 40)]
    with Journal.create(path, META, HandClock()) as journal:
        losses = Losses(publisher(journal))
        for gap in gaps[:30]:
            losses.push(gap)  # and dies while some are held back
    before = sum(one.data.get("count", 1) for one in told(path))
    assert before < 30
    with Journal.resume(path, HandClock()) as journal:
        again = publisher(journal)
        replay_scores(again, path)
        restore(again, path, Rewarmed(400, [], 0, list(gaps)))
    assert sum(one.data.get("count", 1) for one in told(path)) == 39


def flooded(path, count):
    """A session with hundreds of thousands of events, and some that matter among the first."""
    with Journal.create(path, META, HandClock(), deliver=False) as journal:
        journal.record(chunk(0, 256))
        journal.event(event(0).model_copy(update={"event": "lights_off", "data": {"epoch": 0}}))
    body = event(1).model_copy(update={"event": "gap"}).model_dump_json(by_alias=True)
    with closing(sqlite3.connect(path)) as db, db:
        rows = ((seq, "", "gap", body.replace('"seq":1', f'"seq":{seq}')) for seq in range(1, count))
        db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)


def test_a_session_with_hundreds_of_thousands_of_events_is_gone_on_with_in_little_memory(tmp_path):
    """It took 17 s and 780 MB, for every one was read, several times."""
    path = tmp_path / "s.sqlite"
    flooded(path, 300_000)
    with Journal.resume(path, HandClock()) as journal:
        tracemalloc.start()
        again = publisher(journal)
        said = replay_scores(again, path)
        restore(again, path, Rewarmed(256))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        again.event("mark", "on")
    assert len(said) <= RECENT + len(LASTING)
    assert said[0].event == "lights_off"
    assert peak < 10e6
    with JournalReader(path) as reader:
        assert reader.newest("mark").seq >= 300_000
