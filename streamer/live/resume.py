"""Continues a session whose process died: restores its clock and the pipeline's state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from streamer.journal import NOT_RECORDED, JournalReader
from streamer.journal.file import Mark
from streamer.live.stream import Losses
from streamer.messages import Chunk, Gap, Item, Marker, Score
from streamer.night.session import read_items
from streamer.payloads import EventName, EventPayload
from streamer.pipeline import Output, Pipeline
from streamer.sinks.publisher import Publisher
from streamer.sources.settings import SimulatedSettings, SourceSettings
from streamer.sources.simulated import SimulatedSource
from streamer.sources.source import SampleStream, keep_together

NOT_RUNNING = "not received: sleepstream was not running, or had lost the device"
REBOOTED = f"{NOT_RUNNING}; the computer was started anew, and its wall clock tells how long it took"
LASTING: tuple[EventName, ...] = ("lights_off", "lights_on", "mark", "trigger", "alarm")  # matter all night
RECENT = 500  # events of whatever kind, for the page
LATEST_S = 0.001  # resolution of a loss's start in events of an earlier version
SLICE = 32  # rows of the session file (about a second each) or outputs per slice of work
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Rewarmed:
    """The output of a new pipeline for the samples that a session has recorded."""

    stop: int = 0  # index one past the last sample
    scores: list[Score] = field(default_factory=list)  # provisional ones without their windows
    heard: int = 0  # number of all scores; of provisional ones in a loss only the last is kept
    gaps: list[Gap] = field(default_factory=list)  # as in the ledger

    def take(self, output: Output) -> None:
        """Keep an output that may have to be published."""
        if isinstance(output, Gap):
            self.gaps.append(output)
        elif isinstance(output, Score):
            self.heard += 1
            if self.scores and _says_no_more(self.scores[-1], output):
                self.scores.pop()
            # Windows are kept for the page's picture of the night, which shows losses as blank.
            blank = output.epoch is None or output.quality.lost_fraction == 1
            self.scores.append(replace(output, window=None) if blank else output)

    @property
    def epochs(self) -> list[Score]:
        """The scores that commit one."""
        return [score for score in self.scores if score.epoch is not None]


def _says_no_more(score: Score, later: Score) -> bool:
    """Return whether a provisional score in a loss repeats the one before."""
    lost = score.quality.lost_fraction == 1 == later.quality.lost_fraction
    return lost and score.epoch is None and score.smoothed == later.smoothed


async def rewarm(path: Path, pipeline: Pipeline, worker: Executor, until: int) -> Rewarmed:
    """Run a session's samples and gaps through a new pipeline, which then continues as if never stopped.

    Eight hours take about ten seconds of `worker`, in slices, so that other streams get their turn. When
    cancelled, it ends after the current slice, and the pipeline must be discarded.

    Args:
        path: the session file; it may be open for writing, and grow.
        pipeline: a new pipeline.
        worker: the thread that pipelines run on.
        until: sample index at which to end; samples missing from the file up to there count as lost.

    Raises:
        JournalError: the file is damaged.

    """
    loop, past, recorded = asyncio.get_running_loop(), Rewarmed(), read_items(path)
    work = _pushed(pipeline, recorded, until, past)

    def step() -> bool:
        """Do one step; return whether there is more."""
        return sum(1 for _ in islice(work, SLICE)) == SLICE

    try:
        while await loop.run_in_executor(worker, step):
            pass
    finally:
        await loop.run_in_executor(worker, recorded.close)  # its connection belongs to that thread
    return past


def _pushed(pipeline: Pipeline, recorded: Iterable[Item], until: int, past: Rewarmed) -> Iterator[None]:
    """Push the items before `until`, and a gap up to there if the file ends earlier; yields as `_push`."""
    for item in recorded:
        if item.start >= until:
            break
        yield from _push(pipeline, _before(item, until), past)
    if past.stop < until:
        yield from _push(pipeline, Gap(past.stop, until, NOT_RECORDED), past)


def _push(pipeline: Pipeline, item: Item, past: Rewarmed) -> Iterator[None]:
    """Push one item; yields after each output, because a long loss is one item with thousands of outputs."""
    for output in pipeline.push(item):
        past.take(output)
        yield
    past.stop = item.stop
    yield


def _before(item: Item, stop: int) -> Item:
    """Return the part of an item before `stop`."""
    if item.stop <= stop:
        return item
    if isinstance(item, Gap):
        return replace(item, stop=stop)
    return replace(item, samples=item.samples[:, : stop - item.start])


def replay_scores(publisher: Publisher, path: Path) -> tuple[EventPayload, ...]:
    """Set a publisher's counters from a session file; return the events that still matter, in order.

    Of frequent events only the last are read: a night with a bad device has hundreds of thousands.
    """
    with JournalReader(path) as reader:
        epochs, events = tuple(reader.epochs()), tuple(reader.events(*LASTING, last=RECENT))
        publisher.resume(epochs, events, reader.tally(), reader.position().event_seq)
    return events


def restore(publisher: Publisher, path: Path, past: Rewarmed) -> None:
    """Continue a publisher's session: publish what was missed, and nothing twice."""
    with JournalReader(path) as reader:
        stages = {payload.epoch: payload.stage for payload in reader.epochs()}
        told = _told_up_to(reader.newest("gap"), publisher)
        missing = reader.missing
    publisher.restore(past.scores, past.heard)
    again = [score for score in past.epochs if stages.get(score.epoch or 0, score.stage) != score.stage]
    publisher.event(
        "session_resumed",
        f"after {past.stop / publisher.info.rate_hz / 60:.1f} min, {len(stages)} epochs of them scored",
        {"epochs": len(stages), "samples": past.stop, "differing": len(again)},
    )
    for line in missing:
        publisher.event("warning", line)
    losses = Losses(publisher)
    for gap in past.gaps:
        if gap.stop > told:
            losses.push(gap)
    losses.flush()
    for score in past.epochs:
        if score.epoch is not None and score.epoch > max(stages, default=-1):
            publisher.commit(score)


def _told_up_to(event: EventPayload | None, publisher: Publisher) -> int:
    """Return the index one past the last sample whose loss this event has reported."""
    if event is None:
        return 0
    stop, seconds = event.data.get("stop"), event.data.get("seconds")
    if isinstance(stop, int):
        return stop
    begin = event.data.get("t_start")  # by an earlier version, which published one event per loss
    if not isinstance(begin, str) or not isinstance(seconds, int | float):
        return 0
    since_s = datetime.fromisoformat(begin).timestamp() - publisher.info.started + seconds
    return int((since_s + LATEST_S) * publisher.info.rate_hz)


class Continued:
    """A source on the clock of a running session: first the missed part as a gap, then its items.

    Args:
        source: the opened source.
        start: index on the session's clock of the source's index 0.
        begin: end of the session's ledger; earlier samples of the source are dropped.
        arrived: monotonic seconds at which the source's index 0 was recorded.
        reason: the reason of the gap up to `start`.

    """

    def __init__(
        self, source: SampleStream, start: int, begin: int, arrived: float, reason: str = NOT_RUNNING
    ) -> None:
        self.info = source.info
        self._reason = reason
        self._source = source
        self._start = start
        self._begin = begin
        self._arrived = arrived

    def wait_for(self, missing: Callable[[], int]) -> None:
        """Pass on to the source how many samples are missing, see `Patient`."""
        keep_together(self._source, missing)

    async def __aiter__(self) -> AsyncIterator[Item | Marker]:
        """Items in order, without holes."""
        at = self._begin
        if at < self._start:
            yield Gap(at, self._start, self._reason, self._arrived)
            at = self._start
        async for item in self._source:
            if isinstance(item, Marker):
                if item.at + self._start >= self._begin:
                    yield replace(item, at=item.at + self._start)
                continue
            moved = _moved(item, self._start, at)
            if moved is not None:
                yield moved
                at = moved.stop


def _moved(item: Item, by: int, at: int) -> Item | None:
    """Return the part of an item at or after `at` on the session's clock; None if there is none."""
    start, stop = max(at, item.start + by), item.stop + by
    if stop <= start:
        return None
    if isinstance(item, Gap):
        return replace(item, start=start, stop=stop)
    return Chunk(start, item.samples[:, start - item.start - by :], item.arrived)


def skip_to(source: SampleStream, settings: SourceSettings, begin: int, start: int) -> int:
    """Return the index on the session's clock of the source's index 0.

    A simulated night with a fixed start is the same night again: its index 0 is the session's, and it
    continues at `begin`.
    """
    if isinstance(settings, SimulatedSettings) and settings.started is not None:
        assert isinstance(source, SimulatedSource)
        source.first = begin
        return 0
    return start


def index_at(last: Mark, monotonic: float, rate_hz: float) -> int:
    """Return the index on a session's clock of a moment after its last mark.

    Counted from the last sample by the steady clock, so that neither the device's drift over the night nor a
    change of the wall clock looks like a loss.
    """
    return last.index + max(0, round((monotonic - last.monotonic) * rate_hz))
