"""The outbox: messages that must arrive, in order, however long the broker is away.

These are `epoch` and `event`; of `stage` and `summary` only the newest message matters. The journal keeps the
outbox (`journal/recorder.py`); `live/backlog.py` joins those of several sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamer.clock import Clock


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message in the outbox."""

    id: int  # strictly increasing within one outbox
    kind: str  # "epoch" or "event": the last level of the topic
    body: str  # JSON
    created: float  # Unix time at which it was added
    since: float | None = None  # the same on the steady clock, s; None: unknown

    def age_s(self, clock: Clock) -> float:
        """Return how long ago it was added, s, by the steady clock if possible."""
        return clock.wall() - self.created if self.since is None else clock.monotonic() - self.since


class Outbox(Protocol):
    """A queue of parcels with one reader: first in, first out, kept until acknowledged.

    The reader may start over at any time, because a parcel of an earlier session can be added late.
    """

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel whose id is greater than `last_id` (-1: the oldest of all)."""
        ...

    def acknowledge(self, parcel_id: int) -> None:
        """Remove a parcel that the broker has; a second call does nothing."""
        ...

    def __len__(self) -> int:
        """How many parcels are not acknowledged yet."""
        ...
