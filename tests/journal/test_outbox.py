"""An outbox is first in, first out, and keeps until acknowledged: the journal's, and the one of the tests."""

import asyncio
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.journal import Journal
from tests.journals import META, HastyClock
from tests.outbox import MemoryOutbox


@contextmanager
def journal():
    with (
        tempfile.TemporaryDirectory() as folder,
        Journal.create(Path(folder) / "s.sqlite", META, HastyClock()) as journal,
    ):
        yield journal.outbox


@contextmanager
def memory():
    yield MemoryOutbox()


BOTH = pytest.mark.parametrize("kind", [journal, memory])


@BOTH
@settings(max_examples=30)
@given(steps=st.lists(st.one_of(st.just("put"), st.integers(0, 20)), max_size=40))
def test_it_behaves_as_a_list_does(kind, steps):
    """`put` appends, a number acknowledges the parcel of that id, if it is there."""

    async def main(outbox):
        model, count = [], 0
        for step in steps:
            if step == "put":
                outbox.append("epoch", str(count), 0.0)
                model.append(count)
                count += 1
            else:
                outbox.acknowledge(step)
                model = [number for number in model if number != step]
            assert len(outbox) == len(model)
        last_id, seen = -1, []
        while len(seen) < len(model):
            parcel = await outbox.after(last_id)
            last_id = parcel.id
            seen.append(int(parcel.body))
        assert seen == model

    with kind() as outbox:
        asyncio.run(main(outbox))


@BOTH
def test_a_reader_that_waits_is_woken_by_the_next_parcel(kind):
    async def main(outbox):
        waiting = asyncio.create_task(outbox.after(-1))
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.append("event", "x", 12.5)
        async with asyncio.timeout(60):
            parcel = await waiting
        assert (parcel.kind, parcel.body, parcel.created) == ("event", "x", 12.5)

    with kind() as outbox:
        asyncio.run(main(outbox))
