"""Messages that must arrive, in order, however long the broker is away: the contract and the in-memory one.

`stage` and `summary` never pass through here: they are only worth their newest value. `epoch` and `event` do.
The journal (`journal/recorder.py`) offers the same methods over its SQLite table, which is what a night uses.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message on its way."""

    id: int  # strictly increasing within one outbox
    kind: str  # "epoch" or "event": the last level of the topic
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

    def __len__(self) -> int:
        """How many parcels are not acknowledged yet."""
        ...


class MemoryOutbox:
    """An outbox that lives and dies with the process.

    Bounded: beyond `capacity` the oldest parcel is dropped and counted in `dropped`.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self.capacity = capacity
        self.dropped = 0
        # Not a dict: finding a dict's oldest entry walks over everything deleted before it.
        self._parcels: OrderedDict[int, Parcel] = OrderedDict()
        self._next_id = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._parcels)

    def append(self, kind: str, body: str, created: float) -> None:
        """Put a message in; never blocks."""
        if len(self._parcels) >= self.capacity:
            self._parcels.popitem(last=False)
            self.dropped += 1
        self._parcels[self._next_id] = Parcel(self._next_id, kind, body, created)
        self._next_id += 1
        self._filled.set()

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel whose id is greater than `last_id`."""
        while True:
            for parcel in self._parcels.values():  # those at or before `last_id` are few: what is in flight
                if parcel.id > last_id:
                    return parcel
            self._filled.clear()
            await self._filled.wait()

    def acknowledge(self, parcel_id: int) -> None:
        """The broker has this parcel; forget it. Again, or after it was dropped: nothing happens."""
        self._parcels.pop(parcel_id, None)
