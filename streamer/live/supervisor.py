"""One sleeper's whole night: whatever breaks is begun again, and goes on in the same session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from streamer.clock import Clock
from streamer.errors import DamagedError, RunError, SleepstreamError, UsageError
from streamer.journal import Journal, JournalStatus
from streamer.live.batching import Batcher
from streamer.live.intake import Intake
from streamer.live.resume import NOT_RUNNING, REBOOTED, Continued, Past, index_at, rewarm, skip_to
from streamer.live.stream import Stream
from streamer.messages import EPOCH_S, Label, StreamInfo
from streamer.pipeline import Pipeline
from streamer.publisher import Publisher
from streamer.settings import StreamSettings
from streamer.sources import Opener, open_source
from streamer.sources.settings import LIVE
from streamer.sources.source import Given, Source
from streamer.statistics import Statistics
from streamer.stopping import unless_stopped

BACKOFF_S = 1.0, 60.0  # between two attempts: first, longest
HELD_S = 120.0  # an attempt that lasted so long was a success
FLUSH_S = 5.0  # for the disk, before the session file is read back
LOOK_S = 1.0  # at the journal
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one stream."""

    stream: str
    session: Path | None  # the session file; None when the source could not be opened
    labels: tuple[Label, ...] = ()  # the stage of each committed epoch
    smoothed: tuple[Label, ...] = ()  # likewise, after the smoother
    statistics: Statistics | None = None
    error: SleepstreamError | None = None


@dataclass(slots=True)
class Recording:
    """One session while it is recorded."""

    info: StreamInfo  # of the session: where its index 0 lies
    journal: Journal
    pipeline: Pipeline | None  # None: to be made anew from the journal
    publisher: Publisher
    # To be called once, when the pipeline has its memory: what it made of the record, None of a new session.
    ready: Callable[[Past | None], Awaitable[None]] | None = None


class Supervisor:
    """Runs one stream until it has ended or is stopped; a live one is begun again whenever it fails.

    Nothing that happens in here reaches another stream: this is the one edge at which any exception is
    caught, logged with its traceback, and said.

    Args:
        settings: of the stream.
        clock: time.
        batcher: the thread that pipelines run on.
        begin: makes the session for a source that is open, or finds the one to go on with; told whether it
            must be a new one.
        pipeline: makes a new pipeline for a session.
        sources: makes a stream's source from its settings; default: `open_source`.

    Attributes:
        failures: how often the stream had to be begun again.
        stream: the loop that runs now, or None.

    """

    def __init__(
        self,
        settings: StreamSettings,
        clock: Clock,
        batcher: Batcher,
        begin: Callable[[StreamInfo, bool], Awaitable[Recording]],
        pipeline: Callable[[StreamInfo], Pipeline],
        sources: Opener | None = None,
    ) -> None:
        self.failures = 0
        self.stream: Stream | None = None
        self._settings = settings
        self._clock = clock
        self._worker = batcher.worker
        self._begin = begin
        self._pipeline = pipeline
        self._sources = sources or open_source
        self._live = isinstance(settings.source, LIVE)
        self._lane = batcher.lane(self._live)
        self._recording: Recording | None = None
        self._afresh = False  # the earlier session could not be gone on with
        self._warming = False  # the pipeline is being given the memory of a session

    async def run(self, stop: asyncio.Event) -> Outcome:
        """Run to the end."""
        in_a_row = 0
        while True:
            began = self._clock.monotonic()
            error = await self._attempt(stop)
            if error is None or not self._again(error, stop):
                return self._conclude(error, stop)
            self.failures += 1
            in_a_row = 1 if self._clock.monotonic() - began > HELD_S else in_a_row + 1
            longest = min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** min(in_a_row - 1, 16))
            self._say(error)
            await unless_stopped(stop, self._clock.sleep(random.uniform(longest / 2, longest)))
            if stop.is_set():
                return self._conclude(None, stop)

    async def _attempt(self, stop: asyncio.Event) -> SleepstreamError | None:
        """Open the source and drive it to its end; what went wrong."""
        settings = self._settings
        try:
            async with contextlib.AsyncExitStack() as stack:
                source = self._sources(settings.source, settings.signal.channel, self._clock)
                opening = await unless_stopped(stop, stack.enter_async_context(source))
                if not opening.cancelled():
                    await self._drive(opening.result(), stop)
        except SleepstreamError as error:
            if isinstance(error, DamagedError):
                self._distrust()
            return error
        except Exception as error:
            log.exception("stream %s has crashed", settings.name)
            self._distrust()
            return RunError(f"internal error in stream {settings.name}: {error!r}; the log says where")
        return None

    def _distrust(self) -> None:
        """What the pipeline remembers may be wrong; and if the record itself crashes it, begin anew."""
        if self._recording is not None:
            self._recording.pipeline = None
        if self._warming:
            self._afresh = True
            if self._recording is not None and self._recording.ready is None:
                self._end(self._recording, "it could not be read back; a new session begins")
            self._recording = None
        self._warming = False

    def _again(self, error: SleepstreamError, stop: asyncio.Event) -> bool:
        """Whether another attempt makes sense: the world may mend itself, a wrong setting does not.

        The first attempt is like any other. Settings that were right for this session are right: then the
        device is another, and may be changed.
        """
        if stop.is_set() or not self._live:
            return False
        return self._recording is not None or not isinstance(error, UsageError)

    async def _drive(self, source: Source, stop: asyncio.Event) -> None:
        info = source.info
        taken = self._clock.monotonic() - (self._clock.wall() - info.started)  # when its index 0 was
        recording = self._recording
        if recording is not None and not _alike(recording.info, info):
            self._pipeline(info)  # first: what cannot be staged ends no session
            self._end(recording, "the device has another rate or other channels")
            recording = self._recording = None
        self._warming = True
        begun_before = recording is not None
        if recording is None:
            recording = self._recording = await self._begin(info, self._afresh)
        given: Given = source
        if begun_before or recording.journal.next_sample:
            given = self._continued(source, recording, taken)
        until = recording.journal.next_sample
        async with Intake(given, recording.journal, self._live, self._clock) as intake:
            try:
                if await self._warm(recording, until, stop):
                    self._warming = False
                    await self._stream(intake, recording, source.remarks, stop)
            finally:
                if intake.waiting:  # the record holds what the pipeline has not seen
                    recording.pipeline = None

    def _continued(self, source: Source, recording: Recording, taken: float) -> Continued:
        """The source on the clock of a session that is under way; its index 0 was taken at `taken` s."""
        journal = recording.journal
        start = index_at(journal.last, taken, source.info.rate_hz)
        start = skip_to(source, self._settings.source, journal.next_sample, start)
        recording.publisher.continues(start, taken)
        reason = REBOOTED if journal.rebooted else NOT_RUNNING
        journal.rebooted = False  # what is lost from now on is lost under our eyes
        return Continued(source, start, journal.next_sample, taken, reason)

    async def _warm(self, recording: Recording, until: int, stop: asyncio.Event) -> bool:
        """Give the pipeline the memory of the session up to sample `until`; False if `stop` came before."""
        past = None
        if recording.pipeline is None:
            remaking = await unless_stopped(stop, self._remade(recording, until))
            if remaking.cancelled():
                return False
            recording.pipeline, past = remaking.result()
        if recording.ready is not None:
            await recording.ready(past)
            recording.ready = None
        elif past is not None:
            publisher = recording.publisher
            for score in past.scores:  # those that a crash kept from it
                if score.end > publisher.heard:
                    publisher.score(score)
        return True

    async def _remade(self, recording: Recording, until: int) -> tuple[Pipeline, Past]:
        """A new pipeline with the memory of the session so far."""
        pipeline = self._pipeline(recording.info)
        journal = recording.journal
        if recording.ready is None:  # else a former process wrote all of it
            with contextlib.suppress(TimeoutError):  # a disk that refuses: what it lacks counts as lost
                async with asyncio.timeout(FLUSH_S):
                    await journal.flush()
        return pipeline, await rewarm(journal.path, pipeline, self._worker, until)

    async def _stream(
        self, intake: Intake, recording: Recording, remarks: deque[str], stop: asyncio.Event
    ) -> None:
        """Drive the pipeline with what is taken in."""
        assert recording.pipeline is not None
        self.stream = Stream(
            intake,
            recording.pipeline,
            recording.journal,
            recording.publisher,
            self._lane,
            self._clock,
            self._settings.silence_s,
            remarks,
        )
        watch = asyncio.create_task(self._watch_health(recording), name=f"health of {self._settings.name}")
        try:
            await self.stream.run(stop)
        finally:
            self.stream = None
            watch.cancel()
            await asyncio.wait([watch])

    async def _watch_health(self, recording: Recording) -> None:
        """Say when the disk refuses or the machine cannot keep up, and when that is over."""
        before: JournalStatus | None = None
        before_hop_s = 0
        while True:
            status, hop_s = recording.journal.status, self._least_hop_s
            remade = before is not None and status.remade != before.remade
            if before is None or status.state != before.state or remade or hop_s != before_hop_s:
                recording.publisher.health(status, self.failures, hop_s, self._lane.thinned)
            if before is not None and status.state != before.state:
                recording.publisher.event("warning", _told(status), {"recording": status.state})
            if remade:
                path = recording.journal.path
                recording.publisher.event("warning", _remade(path), {"remade": status.remade})
            if hop_s != before_hop_s:
                text = _thinning(hop_s, self._lane.thinned)
                recording.publisher.event(
                    "warning", text, {"least_hop_s": hop_s, "thinned": self._lane.thinned}
                )
            before, before_hop_s = status, hop_s
            await self._clock.sleep(LOOK_S)

    @property
    def _least_hop_s(self) -> int:
        """How far apart provisional stages are for want of time; 0: as configured."""
        hop_s = self._lane.least_hop_s
        return hop_s if hop_s > self._settings.hop_s else 0

    def _say(self, error: SleepstreamError) -> None:
        """Say what failed; a stale stage must not stand for a live one."""
        log.warning("stream %s begins again: %s", self._settings.name, error)
        if self._recording is not None:
            publisher = self._recording.publisher
            publisher.online(False)
            publisher.no_signal()
            publisher.event("error", str(error), {"failures": self.failures})

    def _conclude(self, error: SleepstreamError | None, stop: asyncio.Event) -> Outcome:
        recording = self._recording
        if recording is None:
            return Outcome(self._settings.name, None, error=error)
        publisher = recording.publisher
        if error is not None:
            publisher.event("error", str(error))
        publisher.online(False)
        if self._warming:  # it still lacks what the record gives: the next start goes on with it
            log.warning("stream %s was stopped while its session was read back", self._settings.name)
        else:
            self._end(recording, "stopped" if stop.is_set() else "the source has ended")
        return Outcome(
            self._settings.name,
            recording.journal.path,
            tuple(publisher.labels),
            tuple(publisher.smoothed),
            publisher.night.statistics(),
            error,
        )

    def _end(self, recording: Recording, why: str) -> None:
        thinned = self._lane.thinned
        recording.publisher.event("session_ended", why, {"thinned": thinned} if thinned else {})


def _alike(one: StreamInfo, other: StreamInfo) -> bool:
    return (one.rate_hz, one.channels) == (other.rate_hz, other.channels)


def _told(status: JournalStatus) -> str:
    if status.state == "recording":
        return f"the disk takes the recording again; {status.dropped_samples} samples were not kept"
    return f"the recording cannot be written: {status.reason}; staging goes on, make room"


def _remade(path: Path) -> str:
    return (
        f"{path} was deleted or moved while it was recorded; it was written anew where it was, with all that "
        "it held, and is recorded on"
    )


def _thinning(hop_s: int, thinned: int) -> str:
    if hop_s:
        sparse = "none" if hop_s == EPOCH_S else f"{hop_s} s apart"
        return f"the machine cannot keep up: provisional stages {sparse}; every epoch is staged"
    return f"the machine keeps up again; {thinned} provisional stages were left out"
