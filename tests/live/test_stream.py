"""The live loop: silence, stops, broken sources, wrong units; with a fake clock and a fake device."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streamer.errors import SignalError, SourceError
from streamer.journal import Journal, JournalReader
from streamer.journal.file import Meta
from streamer.live.batching import Batcher
from streamer.live.intake import Intake
from streamer.live.stream import Stream
from streamer.messages import Chunk, Gap
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from streamer.sinks.handover import Reaction
from streamer.sinks.publisher import Publisher
from tests.fakes import FakeClock, FakeSource, Witness
from tests.paths import default_model, eeg, info

EEG = eeg(300, 100)


class Rig:
    """A stream with everything around it."""

    def __init__(self, folder, live=True):
        self.clock = FakeClock()
        self.witness = Witness()
        self.source = FakeSource(info(100))
        self.stop = asyncio.Event()
        self.worker = ThreadPoolExecutor(1)
        self.journal = Journal.create(
            folder / "session.sqlite", Meta("s", "node", "anna", self.source.info), self.clock, deliver=False
        )
        pipeline = Pipeline(self.source.info, SignalSettings(), 5, default_model())
        self.publisher = Publisher(
            "anna",
            "s",
            self.source.info,
            self.journal,
            [self.witness],
            self.clock,
            60.0 if live else None,
        )
        self.task = asyncio.create_task(self.run(pipeline, Batcher(self.worker, self.clock).lane(live)))

    async def run(self, pipeline, lane):
        async with Intake(self.source, self.journal, lane.live, self.clock) as intake:
            stream = Stream(
                intake, pipeline, self.journal, self.publisher, lane, self.clock, 10, self.source.remarks
            )
            await stream.run(self.stop)

    async def until(self, condition):
        """Let the loop and the worker thread run until something is true."""
        await self.witness.until(condition, 20)

    def give(self, start_s, stop_s, factor=1.0):
        """Hand over seconds of EEG, one chunk."""
        self.source.give(Chunk(start_s * 100, EEG[:, start_s * 100 : stop_s * 100] * factor))


@asynccontextmanager
async def rig(folder, live=True):
    made = Rig(folder, live)
    try:
        yield made
    finally:
        made.task.cancel()
        await asyncio.wait([made.task])
        made.worker.shutdown()
        await asyncio.to_thread(made.journal.close)


def test_silence_is_said_once_and_its_end_too(tmp_path):
    async def scenario():
        async with rig(tmp_path) as r:
            r.give(0, 40)
            await r.until(lambda: r.witness.stages)
            await r.clock.advance(9.5)
            assert "no_signal" not in r.witness.event_names()
            await r.clock.advance(1)
            assert r.witness.event_names()[-1] == "no_signal"
            assert r.witness.stages[-1].stage == "no_signal"
            assert r.witness.stages[-1].quality.grade == "off"
            await r.clock.advance(600)
            assert r.witness.event_names().count("no_signal") == 1
            r.source.give(Gap(4000, 7000, "radio silence"))
            r.give(70, 110)
            await r.until(lambda: r.witness.stages[-1].stage not in ("no_signal", "unscored"))
            assert r.witness.event_names().count("reconnected") == 2
            assert "gap" in r.witness.event_names()

    asyncio.run(scenario())


def test_a_device_that_sends_no_numbers_again_and_again_is_told_of_in_few_events(tmp_path):
    """It was 270 events a minute. Everything it sent is recorded, and every loss is in one of the events."""

    async def scenario():
        async with rig(tmp_path) as r:
            signal = EEG[:, :12_000].copy()
            for at in range(100, 12_000, 22):
                signal[:, at] = np.nan
            for at in range(0, 12_000, 500):
                r.source.give(Chunk(at, signal[:, at : at + 500]))
            r.source.give(None)
            await asyncio.wait_for(r.task, 60)
            gaps = [one for one in r.witness.events if one.event == "gap"]
            assert len(gaps) < 20
            assert sum(one.data.get("count", 1) for one in gaps) == len(range(100, 12_000, 22))
            assert r.journal.next_sample == 12_000

    asyncio.run(scenario())


def test_stop_keeps_what_has_arrived_and_ends_a_silent_source_at_once(tmp_path):
    async def scenario():
        async with rig(tmp_path) as r:
            r.give(0, 61)
            await r.until(lambda: len(r.publisher.labels) == 2)
            r.stop.set()
            await asyncio.wait_for(r.task, 60)
            assert r.journal.next_sample == 6100
            assert len(r.publisher.labels) == 2  # the half-second behind the grid is not forced out

    asyncio.run(scenario())


def test_the_end_of_a_recording_brings_out_the_last_epoch(tmp_path):
    async def scenario():
        async with rig(tmp_path, live=False) as r:
            r.give(0, 60)
            r.source.give(None)
            await asyncio.wait_for(r.task, 60)
            assert len(r.publisher.labels) == 2

    asyncio.run(scenario())


def test_a_broken_source_is_passed_on_after_all_that_came_before_it(tmp_path):
    async def scenario():
        async with rig(tmp_path) as r:
            r.give(0, 35)
            r.source.give(SourceError("unplugged"))
            with pytest.raises(SourceError, match="unplugged"):
                await asyncio.wait_for(r.task, 60)
            assert len(r.publisher.labels) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("live", [True, False])
def test_a_wrong_unit_warns_a_device_and_refuses_a_recording(tmp_path, live):
    async def scenario():
        async with rig(tmp_path, live) as r:
            r.give(0, 35, factor=1e-6)
            if live:
                await r.until(lambda: "warning" in r.witness.event_names())
                assert "looks like V" in r.witness.events[-1].text
                assert not r.task.done()
            else:
                with pytest.raises(SignalError, match="looks like V"):
                    await asyncio.wait_for(r.task, 60)

    asyncio.run(scenario())


def test_an_epoch_that_ended_long_ago_is_historical(tmp_path):
    async def scenario():
        async with rig(tmp_path) as r:
            r.give(0, 35)
            await r.until(lambda: len(r.publisher.labels) == 1)
            await r.clock.advance(300)
            r.source.give(Gap(3500, 20_000, "radio silence"))
            r.give(200, 245)
            await r.until(lambda: len(r.publisher.labels) == 8)
        found = [
            (e.epoch, e.historical, e.stage == "unscored")
            for e in JournalReader(tmp_path / "session.sqlite").epochs()
        ]
        assert found[0] == (0, False, False)
        assert found[2] == (2, True, True)
        assert [epoch for epoch, _, _ in found] == list(range(8))

    asyncio.run(scenario())


def test_cancelling_half_way_closes_what_was_open(tmp_path):
    async def scenario():
        async with rig(tmp_path) as r:
            r.give(0, 35)
            await r.until(lambda: r.witness.stages)
            r.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await r.task
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert not names & {"watchdog", "stop", "intake"}

    asyncio.run(scenario())


@pytest.mark.parametrize("live", [False, True])
def test_what_happens_has_its_place_in_the_recording_whatever_the_host_s_clock_says(tmp_path, live):
    async def scenario():
        async with rig(tmp_path, live) as r:
            r.publisher.first(Reaction("test", lambda *_: r.publisher.urgent("trigger", "now", {})))
            r.give(0, 47)
            await r.until(lambda: len(r.witness.stages) == 4)
            r.publisher.command("mark", "")
            r.clock.now += 3  # the device goes on; a recording does not
            r.publisher.event("warning", "later")
            r.source.give(Gap(4700, 5200, "lost"))
            r.give(52, 60)
            await r.until(lambda: "gap" in r.witness.event_names())
            return [(event.event, event.at_s) for event in r.witness.events if event.event != "reconnected"]

    seen = asyncio.run(scenario())
    triggers = [at_s for name, at_s in seen if name == "trigger"]
    assert triggers[:4] == ([47.0] * 4 if live else [30.0, 35.0, 40.0, 45.0])
    places = {name: at_s for name, at_s in seen if name != "trigger"}
    assert places == {"mark": 47.0 if live else 45.0, "warning": 50.0 if live else 45.0, "gap": 47.0}


@pytest.mark.parametrize("live", [True, False])
def test_what_the_source_has_to_say_is_said_in_order_and_once(tmp_path, live):
    async def scenario():
        async with rig(tmp_path, live) as r:
            r.source.remarks.append("a column of text was left out")
            r.give(0, 40)
            await r.until(lambda: "warning" in r.witness.event_names())
            r.source.remarks += ["row 7 was left out", "row 9 was left out"]
            r.source.give(None)
            await asyncio.wait_for(r.task, 60)
            said = [one.text for one in r.witness.events if one.event == "warning"]
            assert said == [
                "a column of text was left out",
                "row 7 was left out",
                "row 9 was left out",
            ]

    asyncio.run(scenario())


@pytest.mark.parametrize("live", [False, True])
def test_a_stop_in_a_loss_of_hours_is_heard_at_once_and_a_device_s_epochs_are_kept(tmp_path, live):
    async def scenario():
        async with rig(tmp_path, live) as r:
            r.give(0, 40)
            await r.until(lambda: len(r.witness.stages) >= 3)
            r.source.give(Gap(4000, 4000 + 100 * 3600 * 2, "off"))
            r.source.give(Chunk(4000 + 100 * 3600 * 2, EEG[:, :3000]))
            await r.until(lambda: len(r.witness.stages) > 20)
            r.stop.set()
            await asyncio.wait_for(r.task, 60)
            return len(r.publisher.labels), len(r.witness.stages)

    epochs, stages = asyncio.run(scenario())
    assert epochs == 242 if live else epochs < 100
    assert stages < 700  # of some 1,450 at a hop of 5 s
