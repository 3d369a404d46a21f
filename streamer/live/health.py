"""Reports when the disk refuses or the machine cannot keep up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamer.clock import Clock
from streamer.journal import Journal, JournalStatus
from streamer.live.batching import Lane
from streamer.messages import EPOCH_S
from streamer.sinks.publisher import Publisher

LOOK_S = 5.0  # between two checks; one a second was a tenth of the event loop's work with 600 sleepers


async def watch_health(
    journal: Journal,
    publisher: Publisher,
    lane: Lane,
    hop_s: int,
    clock: Clock,
    failures: Callable[[], int],
) -> None:
    """Report when the disk refuses or the machine cannot keep up, and when that is over; runs forever.

    Args:
        journal: of the session.
        publisher: publishes the reports.
        lane: has the present distance between stages.
        hop_s: the distance in the settings.
        clock: time.
        failures: returns how often the stream was restarted.

    """
    before: JournalStatus | None = None
    before_hop_s = 0
    while True:
        status, least_hop_s = journal.status, lane.least_hop_s if lane.least_hop_s > hop_s else 0
        remade = before is not None and status.remade != before.remade
        if before is None or status.state != before.state or remade or least_hop_s != before_hop_s:
            publisher.health(status, failures(), least_hop_s, lane.thinned)
        if before is not None and status.state != before.state:
            publisher.event("warning", _told(status), {"recording": status.state})
        if remade:
            publisher.event("warning", _remade(journal.path), {"remade": status.remade})
        if least_hop_s != before_hop_s:
            text = _thinning(least_hop_s, lane.thinned)
            publisher.event("warning", text, {"least_hop_s": least_hop_s, "thinned": lane.thinned})
        before, before_hop_s = status, least_hop_s
        await clock.sleep(LOOK_S)


def _told(status: JournalStatus) -> str:
    if status.state == "recording":
        return f"the disk takes the recording again; {status.dropped_samples} samples were not kept"
    return f"the recording cannot be written: {status.reason}; staging goes on, make room"


def _remade(path: Path) -> str:
    return (
        f"{path} was deleted or moved during the recording; it was written again in its place, with all that "
        "it held, and the recording goes on"
    )


def _thinning(hop_s: int, thinned: int) -> str:
    if hop_s:
        sparse = "none" if hop_s == EPOCH_S else f"{hop_s} s apart"
        return f"the machine cannot keep up: provisional stages {sparse}; every epoch is staged"
    return f"the machine keeps up again; {thinned} provisional stages were left out"
