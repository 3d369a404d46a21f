"""An outbox that lives in memory, for tests of what reads from one."""

import asyncio
from collections import OrderedDict

from streamer.journal.outbox import Parcel


class MemoryOutbox:
    def __init__(self):
        # Not a dict: finding a dict's oldest entry walks over everything deleted before it.
        self._parcels: OrderedDict[int, Parcel] = OrderedDict()
        self._next_id = 0
        self._filled = asyncio.Event()

    def __len__(self):
        return len(self._parcels)

    def append(self, kind, body, created):
        self._parcels[self._next_id] = Parcel(self._next_id, kind, body, created)
        self._next_id += 1
        self._filled.set()

    async def after(self, last_id):
        while True:
            for parcel in self._parcels.values():  # those at or before `last_id` are few: what is in flight
                if parcel.id > last_id:
                    return parcel
            self._filled.clear()
            await self._filled.wait()

    def acknowledge(self, parcel_id):
        self._parcels.pop(parcel_id, None)
