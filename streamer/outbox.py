"""Messages that must arrive, in order, however long the broker is away: where sinks read them.

`stage` and `summary` never pass through here: they are only worth their newest value. `epoch` and `event` do.
The journal keeps them (`journal/recorder.py`); `live/backlog.py` joins the outboxes of several sessions.
"""

from __future__ import annotations

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

    async def after(self, last_id: int) -> Parcel:
        """Wait for the oldest parcel whose id is greater than `last_id` (-1: the oldest of all)."""
        ...

    def acknowledge(self, parcel_id: int) -> None:
        """The broker has this parcel; forget it. Again: nothing happens."""
        ...

    def __len__(self) -> int:
        """How many parcels are not acknowledged yet."""
        ...
