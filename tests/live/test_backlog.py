"""What an earlier session could not deliver goes first, in order, and each is forgotten in its own file."""

import asyncio
from dataclasses import replace

from streamer.journal import Journal, JournalReader
from streamer.live.backlog import Backlog, undelivered
from tests.journals import META, HastyClock, epoch, take

NAMES = ("20260101T000000Z-anna-aaaaaa", "20260102T000000Z-anna-aaaaaa", "20260103T000000Z-anna-aaaaaa")


def session(folder, name, numbers, stream="anna"):
    journal = Journal.create(
        folder / f"{name}.sqlite", replace(META, session=name, stream=stream), HastyClock()
    )
    for number in numbers:
        journal.epoch(epoch(number))
    return journal


def test_parcels_of_several_sessions_come_in_order_and_leave_their_own_files(tmp_path):
    async def deliver():
        backlog = Backlog()
        journals = [session(tmp_path, name, range(2)) for name in NAMES[:2]]
        for journal in journals:
            backlog.add(journal.outbox)
        assert len(backlog) == 4
        ids, last = [], -1
        for _ in range(4):
            last = (await backlog.after(last)).id
            ids.append(last)
        assert ids == sorted(set(ids))
        for one in (ids[0], ids[3]):
            backlog.acknowledge(one)
        assert [len(journal.outbox) for journal in journals] == [1, 1]
        assert (await backlog.after(-1)).id == ids[1]
        waiting = asyncio.create_task(backlog.after(ids[3]))
        await asyncio.sleep(0)
        third = session(tmp_path, NAMES[2], [0])  # a session that begins while the reader waits
        backlog.add(third.outbox)
        assert (await asyncio.wait_for(waiting, 60)).id > ids[3]
        for journal in (*journals, third):
            await asyncio.to_thread(journal.close)

    asyncio.run(asyncio.wait_for(deliver(), 60))
    left = []
    for name in NAMES:
        with JournalReader(tmp_path / f"{name}.sqlite") as reader:
            left.append([parcel.id for parcel in reader.parcels()])
    assert left == [[1], [0], [0]]


def test_only_this_stream_s_unfinished_sessions_are_opened(tmp_path):
    session(tmp_path, NAMES[0], range(2)).close()
    session(tmp_path, NAMES[1], []).close()  # nothing to deliver
    session(tmp_path, "20260102T000000Z-anna-b-aaaaaa", [0], "anna-b").close()
    (tmp_path / "20260104T000000Z-anna-ffffff.sqlite").write_text("damaged")
    recorded = session(tmp_path, NAMES[2], [0])  # by another process
    clock = HastyClock()
    found = undelivered(tmp_path, META.node, "anna", None, clock)
    assert [journal.meta.session for journal in found] == [NAMES[0]]
    recorded.close()
    for journal in found:
        journal.close()
    goes_on = tmp_path / f"{NAMES[2]}.sqlite"
    again = undelivered(tmp_path, META.node, "anna", goes_on, clock)
    assert [journal.meta.session for journal in again] == [NAMES[0]]
    assert asyncio.run(take(again[0], 2)) == [0, 1]
    for journal in again:
        journal.close()


def test_a_late_message_of_an_earlier_session_does_not_wait_for_a_reconnect(tmp_path):
    async def deliver():
        backlog = Backlog()
        first, second = (session(tmp_path, name, []) for name in NAMES[:2])
        for journal in (first, second):
            backlog.add(journal.outbox)
        waiting = asyncio.create_task(backlog.after(-1))
        await asyncio.sleep(0)
        second.epoch(epoch(0))
        parcel = await asyncio.wait_for(waiting, 60)
        backlog.acknowledge(parcel.id)
        waiting = asyncio.create_task(backlog.after(-1))  # as who delivers asks, once all is delivered
        await asyncio.sleep(0)
        first.epoch(epoch(5))
        late = await asyncio.wait_for(waiting, 60)
        assert late.id < parcel.id
        assert '"epoch":5' in late.body
        for journal in (first, second):
            await asyncio.to_thread(journal.close)

    asyncio.run(asyncio.wait_for(deliver(), 60))
