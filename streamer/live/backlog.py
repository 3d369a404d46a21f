"""One stream's undelivered messages over several sessions, the oldest first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

from streamer.clock import Clock
from streamer.errors import JournalError
from streamer.journal import Journal, JournalOutbox, JournalReader
from streamer.journal.candidates import LOOK_BACK, sessions
from streamer.journal.outbox import Parcel

SPAN = 1 << 40  # parcels that one session may have
log = logging.getLogger(__name__)


class Backlog:
    """The outboxes of one stream's sessions as one `Outbox`, in order."""

    def __init__(self) -> None:
        self._outboxes: list[JournalOutbox] = []
        self._grown = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._outboxes))

    def add(self, outbox: JournalOutbox) -> None:
        """Add a session, later than all before."""
        self._outboxes.append(outbox)
        self._grown.set()
        self._grown = asyncio.Event()

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel on disk whose id is greater than `last_id`."""
        at, inner = divmod(last_id, SPAN) if last_id >= 0 else (0, -1)
        while True:
            upcoming = [(number, inner if number == at else -1) for number in range(at, len(self._outboxes))]
            # Wait for one that is not on disk yet, so that parcels of later sessions do not overtake it.
            first = [(n, last) for n, last in upcoming if self._outboxes[n].holds_after(last)][:1]
            found = await self._first(first or upcoming)
            if found is not None:
                number, parcel = found
                return replace(parcel, id=number * SPAN + parcel.id)

    def acknowledge(self, parcel_id: int) -> None:
        """Forget a parcel that the broker has."""
        at, inner = divmod(parcel_id, SPAN)
        self._outboxes[at].acknowledge(inner)

    async def _first(self, places: list[tuple[int, int]]) -> tuple[int, Parcel] | None:
        """Wait for the next parcel after any of these places; None when a later session has begun."""
        waiting = {
            asyncio.ensure_future(self._outboxes[number].after(last)): number for number, last in places
        }
        grown = asyncio.ensure_future(self._grown.wait())
        try:
            await asyncio.wait({*waiting, grown}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waiting, grown):
                task.cancel()
        for task, number in waiting.items():
            if task.done() and not task.cancelled():
                return number, task.result()
        return None


def undelivered(folder: Path, node: str, stream: str, but: Path | None, clock: Clock) -> list[Journal]:
    """Open the earlier sessions of a stream with undelivered messages, the oldest first.

    The session `but`, which is being continued, is left out, and so are sessions open in another process.
    """
    found = []
    for path in islice(sessions(folder, node, stream), LOOK_BACK):
        with contextlib.suppress(JournalError), JournalReader(path) as reader:
            if path != but and next(reader.parcels(), None) is not None:
                found.append(path)
    journals = []
    for path in reversed(found):
        try:
            journals.append(Journal.resume(path, clock))
        except JournalError as error:
            log.warning("its messages are not delivered now: %s", error)
    return journals
