"""What a source gives is recorded when it comes, in order, whoever is busy meanwhile."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streamer.errors import JournalError, SourceError
from streamer.journal import Journal, JournalReader
from streamer.live import intake as module
from streamer.live.intake import Intake
from streamer.live.resume import Continued
from streamer.messages import Gap
from tests.fakes import FakeSource, settle
from tests.journals import INFO, META, HandClock, chunk

BYTES = chunk(0, 256).samples.nbytes


@asynccontextmanager
async def taking(folder, live=True):
    """A source, its journal, and what takes from the one into the other."""
    source = FakeSource(INFO)
    journal = Journal.create(folder / "s.sqlite", META, HandClock(), deliver=False)
    try:
        async with Intake(source, journal, live, HandClock()) as intake:
            yield source, journal, intake
    finally:
        await asyncio.to_thread(journal.close)


def test_what_arrives_is_recorded_while_nobody_has_time_for_it(tmp_path):
    async def scenario():
        async with taking(tmp_path) as (source, journal, intake):
            source.give(chunk(0, 256), Gap(256, 300, "radio"), chunk(300, 100))
            await settle()
            assert journal.next_sample == 400
            assert intake.waiting == 3
            assert [(await intake.next()).stop for _ in range(3)] == [256, 300, 400]
            assert intake.waiting == 0

    asyncio.run(scenario())
    with JournalReader(tmp_path / "s.sqlite") as session:
        assert session.last().index == 400


def test_an_item_that_comes_late_wakes_whoever_waits(tmp_path):
    async def scenario():
        async with taking(tmp_path) as (source, _, intake):
            waiting = asyncio.create_task(intake.next())
            await settle()
            assert not waiting.done()
            source.give(chunk(0, 256))
            return await asyncio.wait_for(waiting, 60)

    assert asyncio.run(scenario()).stop == 256


@pytest.mark.parametrize("ending", [None, SourceError("unplugged")])
def test_the_end_comes_after_all_that_came_before_it(tmp_path, ending):
    async def scenario():
        async with taking(tmp_path) as (source, _, intake):
            source.give(chunk(0, 256), chunk(256, 256), ending)
            await settle()
            assert [(await intake.next()).stop for _ in range(2)] == [256, 512]
            if ending is None:
                assert await intake.next() is None
            else:
                with pytest.raises(SourceError, match="unplugged"):
                    await intake.next()

    asyncio.run(scenario())


def test_a_journal_that_takes_nothing_is_told_and_not_overlooked(tmp_path):
    async def scenario():
        async with taking(tmp_path) as (source, journal, intake):
            await asyncio.to_thread(journal.close)
            source.give(chunk(0, 256))
            with pytest.raises(JournalError, match="is closed"):
                await intake.next()

    asyncio.run(scenario())


@pytest.mark.parametrize(("live", "ahead"), [(True, 3), (False, 1)])
def test_a_device_is_read_ahead_so_far_and_a_recording_not(tmp_path, monkeypatch, live, ahead):
    monkeypatch.setattr(module, "AHEAD_BYTES", 3 * BYTES)

    async def scenario():
        async with taking(tmp_path, live) as (source, journal, intake):
            source.give(*(chunk(256 * at, 256) for at in range(10)))
            await settle()
            assert intake.waiting == ahead
            assert journal.next_sample == 256 * ahead
            for at in range(10):
                assert (await intake.next()).start == 256 * at
                await settle()
                assert intake.waiting == min(ahead, 9 - at)

    asyncio.run(scenario())


def test_at_the_end_nothing_more_is_taken_in_and_the_rest_is_given(tmp_path):
    async def scenario():
        async with taking(tmp_path) as (source, journal, intake):
            source.give(chunk(0, 256), chunk(256, 256))
            await settle()
            left = await intake.end()
            source.give(chunk(512, 256))
            await settle()
            assert [item.stop for item in left] == [256, 512]
            assert journal.next_sample == 512
            assert intake.waiting == 0
        assert "intake" not in {task.get_name() for task in asyncio.all_tasks()}

    asyncio.run(scenario())


def test_small_pieces_are_recorded_at_once_and_given_together(tmp_path):
    async def scenario():
        async with taking(tmp_path) as (source, journal, intake):
            source.give(*(chunk(12 * at, 12) for at in range(20)))
            await settle()
            assert journal.next_sample == 240
            assert (await intake.next()).stop == 12  # the first says that samples come
            waiting = asyncio.create_task(intake.next())
            await settle()
            assert not waiting.done()
            assert intake.waiting == 19
            source.give(*(chunk(12 * at, 12) for at in range(20, 24)))
            item = await asyncio.wait_for(waiting, 60)
            assert (item.start, item.stop) == (12, 288)
            np.testing.assert_array_equal(item.samples[0], np.arange(12, 288))
            source.give(chunk(288, 12), None)
            assert (await intake.next()).stop == 300
            assert await intake.next() is None

    asyncio.run(scenario())


class PatientSource(FakeSource):
    """One that keeps samples together if its reader says for how long."""

    missing = None

    def wait_for(self, missing):
        self.missing = missing


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("hear", [None, lambda item: None])
def test_a_device_may_keep_samples_together_unless_somebody_hears_each(tmp_path, live, hear):
    source = PatientSource(INFO)
    with Journal.create(tmp_path / "s.sqlite", META, HandClock(), deliver=False) as journal:
        Intake(Continued(source, 0, 0, 0.0), journal, live, HandClock(), hear)
    assert (source.missing is not None) == (live and hear is None)
