"""Goes on with a session whose process died: which one, where on its clock, and with what memory."""

from __future__ import annotations

import asyncio
import glob
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from streamer.clock import Clock, boot_id
from streamer.errors import DamagedError, JournalError
from streamer.journal import NOT_RECORDED, JournalReader, Meta
from streamer.journal.file import Mark
from streamer.journal.lock import outrun
from streamer.live.intake import Source
from streamer.messages import Chunk, Gap, Item, Score
from streamer.payloads import EventPayload
from streamer.pipeline import Output, Pipeline
from streamer.publisher import Publisher
from streamer.session import items
from streamer.settings import StreamSettings
from streamer.sources.settings import SimulatedSettings, SourceSettings
from streamer.sources.simulated import SimulatedSource

NOT_RUNNING = "not received: sleepstream was not running, or had lost the device"
LOOK_BACK = 100  # sessions of a stream, some three months
SLICE = 32  # rows of the session file, about a second each, and outputs before another stream's turn
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What an earlier process left behind."""

    path: Path | None  # the session to go on with, or None: begin a new one
    why: str  # in one line


def find(folder: Path, fresh: Meta, clock: Clock, within_s: float) -> Found:
    """Look for a session to go on with.

    Args:
        folder: of the session files.
        fresh: what a new session would say about itself; the old one has to agree.
        clock: tells the age of the old session's last sample.
        within_s: how old that may be, seconds.

    """
    try:
        newest = _newest(folder, fresh, clock)
        if newest is None:
            return Found(None, "there is no earlier session")
        with JournalReader(newest) as reader:
            why = _refusal(reader, fresh, clock, within_s)
        if not why:
            with JournalReader(newest, thorough=True) as reader:
                reader.position()
    except JournalError as error:
        return Found(None, str(error))
    return Found(None, f"{newest.stem} is not continued: {why}") if why else Found(newest, "")


def sessions(folder: Path, node: str, stream: str) -> Iterator[Path]:
    """The session files of one stream, the newest first; those that cannot be read are left out."""
    for path in sorted(folder.glob(f"*-{glob.escape(stream)}-*.sqlite"), reverse=True):
        try:
            with JournalReader(path) as reader:
                meta = reader.meta
        except JournalError:
            continue  # whoever asks for this very file is told
        if (meta.node, meta.stream) == (node, stream):
            yield path


def _newest(folder: Path, fresh: Meta, clock: Clock) -> Path | None:
    """The session whose last sample is the youngest; names tell less, because wall clocks are set."""
    ages = {}
    for path in islice(sessions(folder, fresh.node, fresh.stream), LOOK_BACK):
        try:
            with JournalReader(path) as reader:
                if reader.last().index:
                    ages[path] = _age_s(reader, clock)
        except DamagedError as error:  # it must not stand in the way of a sound one
            log.warning("%s", error)
    return min(ages, key=ages.__getitem__, default=None)


def _age_s(reader: JournalReader, clock: Clock) -> float:
    """Of the last sample; by the clock that nobody sets, if the computer has been up since."""
    last = reader.last()
    if reader.meta.boot == boot_id():
        return clock.monotonic() - last.monotonic
    return clock.wall() - last.wall


def _refusal(reader: JournalReader, fresh: Meta, clock: Clock, within_s: float) -> str:
    """Why the session cannot be continued, or ""."""
    old = reader.meta
    if any(event.event == "session_ended" for event in reader.events()):
        return "it was ended"
    if outrun(reader.path):
        return "the disk refused when its process died, so epochs may be out that are not in it"
    age_s = _age_s(reader, clock)
    if age_s > within_s:
        return f"its last sample is {age_s / 60:.0f} min old, more than {within_s / 60:g} min"
    if (old.info.rate_hz, old.info.channels) != (fresh.info.rate_hz, fresh.info.channels):
        return "the device has another rate or other channels"
    if old.model_sha256 != fresh.model_sha256:
        return "the model is another one"
    try:
        settings = StreamSettings.model_validate(old.settings)
    except ValidationError:
        return "its settings are of another version"
    changed = _changed(settings, StreamSettings.model_validate(fresh.settings))
    return f"{changed} was changed in the settings" if changed else ""


def _changed(old: StreamSettings, new: StreamSettings) -> str:
    """The first setting that differs, or ""."""
    return next((name for name in type(old).model_fields if getattr(old, name) != getattr(new, name)), "")


@dataclass(slots=True)
class Past:
    """What the pipeline makes of a session's own samples."""

    stop: int = 0  # index one past the last of them
    scores: list[Score] = field(default_factory=list)  # provisional ones without their windows
    heard: int = 0  # how many scores there were; of provisional ones in a loss only the last is kept
    gaps: list[Gap] = field(default_factory=list)  # as the ledger says them

    def take(self, output: Output) -> None:
        """Keep what may have to be said again."""
        if isinstance(output, Gap):
            self.gaps.append(output)
        elif isinstance(output, Score):
            self.heard += 1
            if self.scores and _says_no_more(self.scores[-1], output):
                self.scores.pop()
            # Windows are kept for the page's picture of the night, in which what was lost is blank.
            blank = output.epoch is None or output.quality.lost_fraction == 1
            self.scores.append(replace(output, window=None) if blank else output)

    @property
    def epochs(self) -> list[Score]:
        """The scores that commit one."""
        return [score for score in self.scores if score.epoch is not None]


def _says_no_more(score: Score, later: Score) -> bool:
    """Whether one provisional score in a loss tells nobody anything that the next does not."""
    lost = score.quality.lost_fraction == 1 == later.quality.lost_fraction
    return lost and score.epoch is None and score.smoothed == later.smoothed


async def rewarm(path: Path, pipeline: Pipeline, worker: Executor, until: int) -> Past:
    """Run a session's samples and gaps through a new pipeline, which then is as if it had never stopped.

    Eight hours take some ten seconds of `worker`, in slices, so that other streams get their turn. When it is
    cancelled it ends after the slice under way, and the pipeline is of no use.

    Args:
        path: of the session file; it may be open for writing, and grow.
        pipeline: new.
        worker: the thread that pipelines run on.
        until: sample at which to end; what the file lacks up to there counts as lost.

    Raises:
        JournalError: the file is damaged.

    """
    loop, past, recorded = asyncio.get_running_loop(), Past(), items(path)
    work = _pushed(pipeline, recorded, until, past)

    def step() -> bool:
        """Whether there is more to come."""
        return sum(1 for _ in islice(work, SLICE)) == SLICE

    try:
        while await loop.run_in_executor(worker, step):
            pass
    finally:
        await loop.run_in_executor(worker, recorded.close)  # its connection belongs to that thread
    return past


def _pushed(pipeline: Pipeline, recorded: Iterable[Item], until: int, past: Past) -> Iterator[None]:
    """Push what lies before `until`, and then what the file lacks up to there; pauses as `_push` does."""
    for item in recorded:
        if item.start >= until:
            break
        yield from _push(pipeline, _before(item, until), past)
    if past.stop < until:
        yield from _push(pipeline, Gap(past.stop, until, NOT_RECORDED), past)


def _push(pipeline: Pipeline, item: Item, past: Past) -> Iterator[None]:
    """Push one item; pauses after each output, because a long loss is one item and has thousands of them."""
    for output in pipeline.push(item):
        past.take(output)
        yield
    past.stop = item.stop
    yield


def _before(item: Item, stop: int) -> Item:
    """The part of an item that lies before `stop`."""
    if item.stop <= stop:
        return item
    if isinstance(item, Gap):
        return replace(item, stop=stop)
    return replace(item, samples=item.samples[:, : stop - item.start])


def recall(publisher: Publisher, path: Path) -> tuple[EventPayload, ...]:
    """Have a publisher count on from what a session's file says; the events in it."""
    with JournalReader(path) as reader:
        epochs, events = tuple(reader.epochs()), tuple(reader.events())
    publisher.resume(epochs, events)
    return events


def restore(publisher: Publisher, path: Path, past: Past) -> None:
    """Have it go on with the session: nothing is said again, and what was not yet said is said now."""
    with JournalReader(path) as reader:
        epochs, events = tuple(reader.epochs()), tuple(reader.events())
    publisher.recall(past.scores, past.heard)
    said = {
        (event.data.get("t_start"), event.data.get("seconds")) for event in events if event.event == "gap"
    }
    scored = past.epochs
    again = [score for score in scored[: len(epochs)] if score.stage != epochs[score.epoch or 0].stage]
    publisher.event(
        "session_resumed",
        f"after {past.stop / publisher.info.rate_hz / 60:.1f} min, {len(epochs)} epochs of them scored",
        {"epochs": len(epochs), "samples": past.stop, "differing": len(again)},
    )
    for gap in past.gaps:
        if publisher.gap_data(gap) not in said:
            publisher.gap(gap)
    for score in scored[len(epochs) :]:
        publisher.commit(score)


class Continued:
    """A source on the clock of a session that is already under way: first what was missed, then its items.

    Args:
        source: open.
        start: index on the session's clock at which the source's own index 0 lies.
        begin: where the session's ledger ends; what the source gives of earlier samples is dropped.
        arrived: monotonic seconds at which the source's index 0 was taken.

    """

    def __init__(self, source: Source, start: int, begin: int, arrived: float) -> None:
        self.info = source.info
        self._source = source
        self._start = start
        self._begin = begin
        self._arrived = arrived

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Items in order, without holes."""
        at = self._begin
        if at < self._start:
            yield Gap(at, self._start, NOT_RUNNING, self._arrived)
            at = self._start
        async for item in self._source:
            moved = _moved(item, self._start, at)
            if moved is not None:
                yield moved
                at = moved.stop


def _moved(item: Item, by: int, at: int) -> Item | None:
    """The part of an item that lies at or after `at` on the session's clock; empty chunks are left out."""
    start, stop = max(at, item.start + by), item.stop + by
    if stop <= start:
        return None
    if isinstance(item, Gap):
        return replace(item, start=start, stop=stop)
    return Chunk(start, item.samples[:, start - item.start - by :], item.arrived)


def skip_to(source: Source, settings: SourceSettings, begin: int, start: int) -> int:
    """Where the source's index 0 lies on the session's clock: at `start`, if it went on by itself.

    A simulated night with a fixed start is the same night again: it lies at 0, and goes on at `begin`.
    """
    if isinstance(settings, SimulatedSettings) and settings.started is not None:
        assert isinstance(source, SimulatedSource)
        source.first = begin
        return 0
    return start


def index_at(last: Mark, monotonic: float, rate_hz: float) -> int:
    """Where on a session's clock a moment lies that came after its last mark.

    Counted from the last sample by a clock that nobody sets, so that neither the device's drift over the
    night nor a wall clock that was set in the meantime looks like a loss.
    """
    return last.index + max(0, round((monotonic - last.monotonic) * rate_hz))
