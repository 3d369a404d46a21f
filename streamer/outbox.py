"""Messages that must arrive, in order, however long the broker is away: the contract and the in-memory one.

`stage` never passes through here: a live stage is only worth its newest value. `epoch` and `event` do. The
journal (`journal.py`) offers the same three methods over its SQLite table, which is what a night uses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message on its way."""

    id: int  # strictly increasing within one outbox
    kind: str  # "epoch", "event" or "summary": the last level of the topic
    body: str  # JSON
    created: float  # Unix time at which it was put in; tells late from live


class Outbox(Protocol):
    """A queue of parcels with one reader: first in, first out, kept until acknowledged."""

    def append(self, kind: str, body: str, created: float) -> None:
        """Put a message in; never blocks."""
        ...

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel whose id is greater than `last_id` (-1: the oldest of all)."""
        ...

    def acknowledge(self, parcel_id: int) -> None:
        """The broker has this parcel; forget it."""
        ...


class MemoryOutbox:
    """An outbox that lives and dies with the process.

    Bounded: beyond `capacity` the oldest parcel is dropped and counted in `dropped`.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self.capacity = capacity
        self.dropped = 0
        self._parcels: deque[Parcel] = deque()
        self._next_id = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._parcels)

    def append(self, kind: str, body: str, created: float) -> None:
        """Put a message in; never blocks."""
        if len(self._parcels) >= self.capacity:
            self._parcels.popleft()
            self.dropped += 1
        self._parcels.append(Parcel(self._next_id, kind, body, created))
        self._next_id += 1
        self._filled.set()

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel whose id is greater than `last_id`."""
        while True:
            for parcel in self._parcels:
                if parcel.id > last_id:
                    return parcel
            self._filled.clear()
            await self._filled.wait()

    def acknowledge(self, parcel_id: int) -> None:
        """The broker has this parcel; forget it."""
        self._parcels = deque(parcel for parcel in self._parcels if parcel.id != parcel_id)
