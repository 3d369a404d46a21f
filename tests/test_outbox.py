"""The in-memory outbox: first in, first out, kept until acknowledged, bounded."""

from __future__ import annotations

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from streamer.outbox import MemoryOutbox


def _fill(outbox, count):
    for number in range(count):
        outbox.append("epoch", str(number), 0.0)


async def _all(outbox):
    """Every parcel in order, without acknowledging any."""
    parcels, last_id = [], -1
    while True:
        try:
            async with asyncio.timeout(0.01):
                parcels.append(await outbox.after(last_id))
        except TimeoutError:
            return parcels
        last_id = parcels[-1].id


def test_parcels_come_in_order_and_stay_until_acknowledged():
    async def main():
        outbox = MemoryOutbox()
        _fill(outbox, 3)
        first = await _all(outbox)
        assert [parcel.body for parcel in first] == ["0", "1", "2"]
        assert await _all(outbox) == first
        outbox.acknowledge(first[1].id)
        assert [parcel.body for parcel in await _all(outbox)] == ["0", "2"]
        assert len(outbox) == 2

    asyncio.run(main())


def test_a_reader_that_waits_is_woken_by_the_next_parcel():
    async def main():
        outbox = MemoryOutbox()
        waiting = asyncio.create_task(outbox.after(-1))
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.append("event", "x", 12.5)
        async with asyncio.timeout(1):
            parcel = await waiting
        assert (parcel.kind, parcel.body, parcel.created) == ("event", "x", 12.5)

    asyncio.run(main())


def test_acknowledging_twice_or_what_was_dropped_is_harmless():
    async def main():
        outbox = MemoryOutbox(capacity=2)
        _fill(outbox, 3)
        assert outbox.dropped == 1
        for parcel_id in (0, 1, 1, 99):
            outbox.acknowledge(parcel_id)
        assert [parcel.body for parcel in await _all(outbox)] == ["2"]

    asyncio.run(main())


@given(steps=st.lists(st.one_of(st.just("put"), st.integers(0, 20)), max_size=60))
def test_it_behaves_as_a_list_does(steps):
    """`put` appends, a number acknowledges the parcel of that id."""

    async def main():
        outbox, model, count = MemoryOutbox(capacity=8), [], 0
        for step in steps:
            if step == "put":
                outbox.append("epoch", str(count), 0.0)
                model = [*model, count][-8:]
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

    asyncio.run(main())


def test_a_long_backlog_is_worked_off_in_linear_time():
    async def main(count):
        outbox = MemoryOutbox(capacity=count)
        _fill(outbox, count)
        began = time.perf_counter()
        last_id = -1
        for _ in range(count):
            parcel = await outbox.after(last_id)
            last_id = parcel.id
            outbox.acknowledge(parcel.id)
        return time.perf_counter() - began

    assert asyncio.run(main(50_000)) < 2  # a scan or a rebuild per parcel would take minutes
