"""Messages that must arrive, in order, however long the broker is away: where sinks read them.

`stage` and `summary` never pass through here: they are only worth their newest value. `epoch` and `event` do.
The journal keeps them (`journal/recorder.py`); `live/backlog.py` joins the outboxes of several sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamer.clock import Clock


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message on its way."""

    id: int  # strictly increasing within one outbox
    kind: str  # "epoch" or "event": the last level of the topic
    body: str  # JSON
    created: float  # Unix time at which it was put in
    since: float | None = None  # the same moment on the steady clock, s; None: nobody noted it

    def age_s(self, clock: Clock) -> float:
        """How long ago it was put in; tells late from live, also when the wall clock is set meanwhile."""
        return clock.wall() - self.created if self.since is None else clock.monotonic() - self.since


class Outbox(Protocol):
    """A queue of parcels with one reader: first in, first out, kept until acknowledged.

    The reader may begin anew at any time: a parcel of an earlier session can come late.
    """

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel whose id is greater than `last_id` (-1: the oldest of all)."""
        ...

    def acknowledge(self, parcel_id: int) -> None:
        """The broker has this parcel; forget it. Again: nothing happens."""
        ...

    def __len__(self) -> int:
        """How many parcels are not acknowledged yet."""
        ...
