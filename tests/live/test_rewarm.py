"""While a session is read back after a death: stops are obeyed, commands heard, new samples kept apart."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest

from streamer.clock import SystemClock
from streamer.journal import Journal, Meta
from streamer.live import resume
from streamer.live import sleeper as module
from streamer.live.resume import SLICE, rewarm
from streamer.messages import Chunk, Gap, Score
from streamer.night.session import read_items
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from tests.fakes import Witness, settle
from tests.live.test_resume import STARTED, check, engine, recorded
from tests.mosquitto import needs_mosquitto, on_mosquitto
from tests.paths import default_model, eeg, info
from tests.sinks.fakes import Subscriber

EEG = eeg(300, 100)
NIGHT = {"kind": "simulated", "hours": 0.2, "speed": 600, "started": STARTED, "dropouts_per_hour": 60}


class Gated(Pipeline):
    """Does nothing while its gate is closed; tells that it was asked to, and how often."""

    gate = threading.Event()
    asked = threading.Event()
    pushed = 0

    def push(self, item):
        Gated.pushed += 1
        Gated.asked.set()
        assert Gated.gate.wait(60)
        return super().push(item)


@pytest.fixture
def gate(monkeypatch):
    """Every pipeline of an engine is a gated one, the gate open at first; it is the test's to close."""
    monkeypatch.setattr(module, "Pipeline", Gated)
    monkeypatch.setattr(resume, "SLICE", 1)
    Gated.gate.set()
    yield Gated
    Gated.gate.set()


def close(gate):
    gate.gate.clear()
    gate.asked.clear()
    gate.pushed = 0


async def asked(gate):
    assert await asyncio.to_thread(gate.asked.wait, 60)


async def cut_short(folder):
    """A night whose process died in the middle of it; how many epochs it has."""
    witness = Witness()
    running = asyncio.create_task(engine(folder, NIGHT, witness).run())
    await witness.until(lambda: len(witness.stages) > 30)
    running.cancel()
    await asyncio.wait([running])
    (path,) = folder.glob("*.sqlite")
    return path, len(recorded(path))


@pytest.mark.slow
def test_a_stop_ends_it_at_once_and_the_next_start_goes_on(tmp_path, gate):
    async def scenario():
        path, epochs = await cut_short(tmp_path)
        close(gate)
        witness = Witness()
        second = engine(tmp_path, NIGHT, witness)
        running = asyncio.create_task(second.run())
        await asked(gate)
        second.stop()
        await settle()
        gate.gate.set()
        (stopped,) = await asyncio.wait_for(running, 60)
        assert gate.pushed == 1
        assert stopped.error is None
        assert stopped.session == path
        assert len(stopped.labels) == epochs
        assert witness.events == []
        (rest,) = await engine(tmp_path, NIGHT).run()
        (whole,) = await engine(tmp_path / "whole", NIGHT).run()
        return rest, whole

    rest, whole = asyncio.run(scenario())
    assert recorded(rest.session) == recorded(whole.session)
    check(rest.session, resumed=1)


@needs_mosquitto
def test_a_command_meanwhile_is_obeyed_and_does_not_end_the_connection(tmp_path, gate):
    async def scenario(port):
        await cut_short(tmp_path)
        close(gate)
        witness = Witness()
        second = engine(tmp_path, NIGHT, witness, mqtt={"port": port})
        running = asyncio.create_task(second.run())
        async with Subscriber(port) as client:
            await asked(gate)
            await witness.until(lambda: witness.brokers)
            while "mark" not in witness.event_names():  # it may not have subscribed yet
                body = json.dumps({"command": "mark", "text": "woke up"})
                await client._client.publish("sleepstream/test/anna/command", body, qos=1)
                await asyncio.sleep(0.05)
            gate.gate.set()
            await client.until(lambda _: "session_ended" in [one["event"] for one in client.of("event")])
            (outcome,) = await running
        assert all(status.connected for status in witness.brokers)
        return outcome, witness.event_names()

    outcome, events = on_mosquitto(scenario)
    assert events.index("mark") < events.index("session_resumed")
    check(outcome.session, resumed=1)


# ---- the reading alone


def session(folder):
    """A session file whose every tenth second is lost: 60 rows, twice as many as one slice takes."""
    path = folder / "s.sqlite"
    with Journal.create(path, Meta("s", "node", "anna", info(100)), SystemClock(), deliver=False) as journal:
        for start in range(0, 30_000, 1000):
            journal.record(Chunk(start, EEG[:, start : start + 900]))
            journal.record(Gap(start + 900, start + 1000, "radio"))
    return path


def pipeline(kind=Pipeline):
    return kind(info(100), SignalSettings(), 10, default_model())


@pytest.mark.parametrize("until", [15_050, 16_950, 30_000])
def test_it_goes_as_far_as_it_is_told_in_a_file_that_grows(tmp_path, until):
    path = session(tmp_path)
    unbroken = pipeline()
    whole = [one for item in read_items(path) for one in unbroken.push(item) if isinstance(one, Score)]
    warmed = pipeline()
    with ThreadPoolExecutor(1) as worker:
        past = asyncio.run(rewarm(path, warmed, worker, until))
    assert past.stop == until
    assert len(past.scores) == sum(one.end <= until for one in whole)
    later = [
        replace(item, start=max(item.start, until))
        if isinstance(item, Gap)
        else Chunk(max(item.start, until), item.samples[:, max(0, until - item.start) :])
        for item in read_items(path)
        if item.stop > until
    ]
    again = [one for item in later for one in warmed.push(item) if isinstance(one, Score)]
    assert [one.probabilities for one in again] == [one.probabilities for one in whole[len(past.scores) :]]


def test_cancelled_it_ends_after_the_slice_under_way(tmp_path):
    path = session(tmp_path)
    Gated.gate.set()
    close(Gated)

    async def scenario():
        with ThreadPoolExecutor(1) as worker:
            running = asyncio.create_task(rewarm(path, pipeline(Gated), worker, 30_000))
            await asked(Gated)
            running.cancel()
            await settle()
            assert not running.done(), "its connection belongs to the thread that is busy"
            Gated.gate.set()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(scenario())
    assert 0 < Gated.pushed <= SLICE


class Counting(Pipeline):
    """Counts what comes of it."""

    given = 0

    def push(self, item):
        for output in super().push(item):
            Counting.given += 1
            yield output


def test_a_long_loss_is_read_back_in_slices_and_little_of_it_is_kept(tmp_path):
    path, lost_s = tmp_path / "s.sqlite", 1800
    stop = 4000 + 100 * lost_s
    with Journal.create(path, Meta("s", "node", "anna", info(100)), SystemClock(), deliver=False) as journal:
        journal.record(Chunk(0, EEG[:, :4000]))
        journal.record(Gap(4000, stop, "off"))
        journal.record(Chunk(stop, EEG[:, :4000]))
    slices = []

    class Thread(ThreadPoolExecutor):
        def submit(self, work, /, *args):
            slices.append(Counting.given)
            return super().submit(work, *args)

    counting = Counting(info(100), SignalSettings(), 1, default_model())
    with Thread(1) as worker:
        past = asyncio.run(rewarm(path, counting, worker, stop + 100))
    assert max(after - before for before, after in pairwise(slices)) <= SLICE
    assert past.heard == stop // 100 + 1 - 29
    assert len(past.epochs) == stop // 3000
    assert len(past.scores) < 2 * len(past.epochs) + 90
    lost = [score for score in past.scores if score.quality.lost_fraction == 1]
    assert len(lost) > 50
    assert all(score.window is None for score in lost)
    assert past.scores[-1].end == stop + 100
