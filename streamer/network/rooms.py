"""Keeps the memories of streams that share a pass side by side from one pass to the next.

A pass needs the memories of its streams, 240 kB each, beside one another. To copy them for each pass takes
almost as long as the pass itself when the machine's memory is slow. But a stream's memory changes only with
its epochs, every 30 s, and streams whose windows end at about the same time of the second meet in each
second. So a full pass has a room: memory with a place for each of its windows, in which the memories of an
earlier pass still lie. Its windows are put in the order of their places, and only those are copied whose
memory does not lie there yet.

A room holds copies. So a place can be given to another stream at any time, and a stream that ends has nothing
to give back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from streamer.network.runner import Singles

STREAMS = 4  # the axis of streams in a memory
KNOWN = 8  # windows of a pass whose memories must lie in a room, or the pass gets a new one
ROOMS = 64  # at most, of 7.7 MB with the packaged network: for two thousand streams


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What one stream remembers; its values never change, so that a copy with its number is right."""

    values: Singles  # with the axis of streams, of length 1
    number: int = field(default_factory=count().__next__)  # of no other memory


class Room:
    """Places for the memories of one pass."""

    def __init__(self, like: Singles, places: int) -> None:
        self.values: Singles = np.empty(
            (*like.shape[:STREAMS], places, *like.shape[STREAMS + 1 :]), np.float32
        )
        self.numbers = [-1] * places  # of the memory in each place

    def put(self, place: int, memory: Memory) -> None:
        """Copy a memory into a place."""
        np.moveaxis(self.values, STREAMS, 0)[place] = np.moveaxis(memory.values, STREAMS, 0)[0]
        self.numbers[place] = memory.number


class Rooms:
    """The rooms of one network; all passes have the same number of windows.

    Args:
        most: how many rooms there may be.

    Attributes:
        copied: how many memories were copied so far.

    """

    def __init__(self, most: int = ROOMS) -> None:
        self.copied = 0
        self._most = most
        self._rooms: list[Room] = []  # the one that was used last is the last
        self._seats: dict[int, tuple[Room, int]] = {}  # room and place of a memory, by its number

    def order(self, memories: Sequence[Memory]) -> list[int]:
        """Return in which order `joined` takes these memories with the fewest copies."""
        room = self._best(memories)
        places: list[int | None] = [None] * len(memories)
        left = []
        for at, memory in enumerate(memories):
            found, place = self._seats.get(memory.number, (None, 0))
            if found is not None and found is room and places[place] is None:
                places[place] = at
            else:
                left.append(at)
        others = iter(left)
        return [next(others) if at is None else at for at in places]

    def joined(self, memories: Sequence[Memory]) -> Singles:
        """Return the memories side by side; valid until the next call."""
        room = self._best(memories) or self._another(memories)
        self._rooms.remove(room)
        self._rooms.append(room)
        for place, memory in enumerate(memories):
            before = room.numbers[place]
            if before == memory.number:
                continue
            if self._seats.get(before) == (room, place):
                del self._seats[before]
            room.put(place, memory)
            self._seats[memory.number] = room, place
            self.copied += 1
        return room.values

    def _best(self, memories: Sequence[Memory]) -> Room | None:
        """Return the room in which most of them lie; None: in none that is worth it."""
        seats = [seat for memory in memories if (seat := self._seats.get(memory.number)) is not None]
        if not seats:
            return None
        (room, known), *_ = Counter(room for room, _ in seats).most_common(1)
        return room if known >= KNOWN or len(self._rooms) == self._most else None

    def _another(self, memories: Sequence[Memory]) -> Room:
        """Return a new room, or the one that was not used for longest."""
        if len(self._rooms) < self._most:
            self._rooms.append(Room(memories[0].values, len(memories)))
            return self._rooms[-1]
        return self._rooms[0]
