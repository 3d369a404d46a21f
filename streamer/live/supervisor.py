"""Supervises one sleeper: after a failure it restarts the stream, in the same session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from streamer.clock import Clock, retry_after_s, unless_stopped
from streamer.errors import DamagedError, RunError, SleepstreamError, UsageError
from streamer.journal import Journal
from streamer.live.arrival import Arrival, Arrived
from streamer.live.batching import Batcher
from streamer.live.health import watch_health
from streamer.live.intake import Intake
from streamer.live.resume import NOT_RUNNING, REBOOTED, Continued, Rewarmed, index_at, rewarm, skip_to
from streamer.live.stream import Stream
from streamer.live.waiting import Waiting
from streamer.messages import Item, Label, StreamInfo
from streamer.night.ending import Ending
from streamer.night.statistics import Statistics
from streamer.payloads import EventData, SignalPayload
from streamer.pipeline import Pipeline
from streamer.settings import StreamSettings
from streamer.sinks.publisher import Publisher
from streamer.sources.opener import Opener, open_source
from streamer.sources.settings import LIVE
from streamer.sources.source import SampleStream, Source

BACKOFF_S = 1.0, 60.0  # between two attempts: first, longest
HELD_S = 120.0  # an attempt that lasted so long was a success
FLUSH_S = 5.0  # longest wait for the disk before the session file is read back
NIGHT_LOOK_S = 10.0  # between two checks whether the night has ended
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one stream."""

    stream: str
    session: Path | None  # the session file; None when the source could not be opened
    labels: tuple[Label, ...] = ()  # the stage of each committed epoch
    smoothed: tuple[Label, ...] = ()  # likewise, after the smoother
    statistics: Statistics | None = None
    error: SleepstreamError | None = None


@dataclass(slots=True)
class OngoingNight:
    """The session that is being recorded."""

    info: StreamInfo  # of the session, with the time of its index 0
    journal: Journal
    pipeline: Pipeline | None  # None: to be rebuilt from the journal
    publisher: Publisher
    # Called once, when the pipeline has its state, with the scores of the record (None for a new session).
    ready: Callable[[Rewarmed | None], Awaitable[None]] | None = None
    ending: Ending | None = None  # decides when the night is over; None: when its source ends
    hear: Callable[[Item], None] | None = None  # gets samples as they come


class Nights(Protocol):
    """What happens before a device's first night, and between two."""

    async def before(self) -> Arrival | None:
        """Return how to wait for the first night's signal; None: the night begins at once."""
        ...

    async def between(self, recording: OngoingNight, why: str) -> Arrival:
        """Do what is due after a night; return how to wait for the next signal."""
        ...


class Supervisor:
    """Runs one stream until it has ended or is stopped; a live one is restarted whenever it fails.

    No exception here reaches another stream: this is the place where any exception is caught, logged with its
    traceback, and reported.

    Args:
        settings: of the stream.
        clock: time.
        batcher: the thread on which pipelines run.
        begin: starts the session for an open source, or finds the one to continue; its second argument says
            whether it must be a new one.
        pipeline: makes a new pipeline for a session.
        sources: makes a stream's source from its settings; default: `open_source`.
        nights: what happens between two nights; None: there is only one.
        told: called with the reason why nothing arrives, whenever that changes.

    Attributes:
        failures: how often the stream was restarted.
        stream: the loop that is running, or None.

    """

    def __init__(
        self,
        settings: StreamSettings,
        clock: Clock,
        batcher: Batcher,
        begin: Callable[[StreamInfo, bool], Awaitable[OngoingNight]],
        pipeline: Callable[[StreamInfo], Pipeline],
        sources: Opener | None = None,
        nights: Nights | None = None,
        told: Callable[[SignalPayload], None] | None = None,
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
        self._waiting = Waiting(settings.name, clock, told)
        self._nights = nights if self._live else None
        self._arrival: Arrival | None = None  # between two nights
        self._over = ""  # why the night has ended
        self._lane = batcher.lane(self._live)
        self._recording: OngoingNight | None = None
        self._afresh = False  # the earlier session could not be continued
        self._warming = False  # the pipeline's state is being rebuilt from a session

    async def run(self, stop: asyncio.Event) -> Outcome:
        """Run night after night, to the end."""
        if self._nights is not None:
            self._arrival = await self._nights.before()
        last: Outcome | None = None
        while True:
            end = asyncio.Event()  # of this night, or of all
            watch = asyncio.create_task(self._watch_night(stop, end), name=f"night of {self._settings.name}")
            try:
                outcome = await self._run_night(end)
            finally:
                watch.cancel()
                await asyncio.wait([watch])
            if outcome.session is None and last is not None:
                outcome = replace(last, error=outcome.error)
            if not self._over or self._recording is None or self._nights is None:
                return outcome
            recording, why, last = self._recording, self._over, outcome
            self._recording, self._over = None, ""
            self._arrival = await self._nights.between(recording, why)

    async def _watch_night(self, stop: asyncio.Event, end: asyncio.Event) -> None:
        """Set `end` when the night is over or `stop` is set."""
        if not stop.is_set():
            watching = await unless_stopped(stop, self._until_over())
            if not watching.cancelled():
                watching.result()
        end.set()

    async def _until_over(self) -> None:
        """Wait until the night is over."""
        while True:
            recording = self._recording
            if recording is not None and recording.ending is not None and not self._warming:
                self._over = recording.ending.due(recording.publisher.now_s, self._clock.wall())
                if self._over:
                    return
            await self._clock.sleep(NIGHT_LOOK_S)

    async def _run_night(self, stop: asyncio.Event) -> Outcome:
        """Run one night to its end, with restarts after failures."""
        in_a_row = 0
        while True:
            began = self._clock.monotonic()
            error = await self._attempt(stop)
            if error is None or not self._again(error, stop):
                return self._conclude(error, stop)
            self.failures += 1
            in_a_row = 1 if self._clock.monotonic() - began > HELD_S else in_a_row + 1
            self._say(error)
            await unless_stopped(stop, self._clock.sleep(retry_after_s(in_a_row, *BACKOFF_S)))
            if stop.is_set():
                return self._conclude(None, stop)

    async def _attempt(self, stop: asyncio.Event) -> SleepstreamError | None:
        """Open the source and run it to its end; return the error, or None."""
        settings = self._settings
        try:
            async with contextlib.AsyncExitStack() as stack:
                source = self._sources(settings.source, settings.signal.channel, self._clock)
                entered = self._waiting.opening(stack.enter_async_context(source), source.remarks)
                opening = await unless_stopped(stop, entered)
                if not opening.cancelled():
                    opened = opening.result()
                    self._waiting.because("")
                    await self._drive(opened, stop)
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
        """Discard the pipeline, whose state may be wrong; start a new session if the record crashes it."""
        if self._recording is not None:
            self._recording.pipeline = None
        if self._warming:
            self._afresh = True
            if self._recording is not None and self._recording.ready is None:
                self._end(self._recording, "it could not be read back; a new session begins")
            self._recording = None
        self._warming = False

    def _again(self, error: SleepstreamError, stop: asyncio.Event) -> bool:
        """Whether another attempt makes sense: a device may come back, but a wrong setting stays wrong.

        The first attempt is no exception. A UsageError after the settings have worked in this session comes
        from another device, which may be replaced.
        """
        if stop.is_set() or not self._live:
            return False
        return self._recording is not None or self._arrival is not None or not isinstance(error, UsageError)

    async def _drive(self, source: Source, stop: asyncio.Event) -> None:
        if self._arrival is None:
            await self._record(source, stop)
            return
        waiting = await unless_stopped(stop, self._arrival.of(source))
        arrived = None if waiting.cancelled() else waiting.result()
        if arrived is not None:
            await self._record(arrived, stop)

    async def _record(self, source: Source | Arrived, stop: asyncio.Event) -> None:
        """Start the session, or continue it."""
        info = source.info
        taken = self._clock.monotonic() - (self._clock.wall() - info.started)  # when its index 0 was
        recording = self._recording
        if recording is not None and not _alike(recording.info, info):
            self._pipeline(info)  # first, so that a stream that cannot be staged ends no session
            self._end(recording, "the device has another rate or other channels")
            recording = self._recording = None
        self._warming = True
        begun_before = recording is not None
        if recording is None:
            recording = self._recording = await self._begin(info, self._afresh)
            self._arrival = None
        given: SampleStream = source
        if begun_before or recording.journal.next_sample:
            given = self._continued(source, recording, taken)
        until = recording.journal.next_sample
        async with Intake(given, recording.journal, self._live, self._clock, recording.hear) as intake:
            try:
                if await self._warm(recording, until, stop):
                    self._warming = False
                    await self._stream(intake, recording, source.remarks, stop)
            finally:
                if intake.waiting:  # the record has samples that the pipeline has not seen
                    recording.pipeline = None

    def _continued(self, source: SampleStream, recording: OngoingNight, taken: float) -> Continued:
        """Put the source on the session's clock; its index 0 was taken at `taken` s."""
        journal = recording.journal
        start = index_at(journal.last, taken, source.info.rate_hz)
        start = skip_to(source, self._settings.source, journal.next_sample, start)
        recording.publisher.continues(start, taken)
        reason = REBOOTED if journal.rebooted else NOT_RUNNING
        journal.rebooted = False  # later losses are not due to the restart of the computer
        return Continued(source, start, journal.next_sample, taken, reason)

    async def _warm(self, recording: OngoingNight, until: int, stop: asyncio.Event) -> bool:
        """Rebuild the pipeline's state up to sample `until`; False if `stop` came first."""
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

    async def _remade(self, recording: OngoingNight, until: int) -> tuple[Pipeline, Rewarmed]:
        """Make a new pipeline with the state of the session so far."""
        pipeline = self._pipeline(recording.info)
        journal = recording.journal
        if recording.ready is None:  # otherwise an earlier process wrote all of it
            with contextlib.suppress(TimeoutError):  # samples that the disk refuses count as lost
                async with asyncio.timeout(FLUSH_S):
                    await journal.flush()
        return pipeline, await rewarm(journal.path, pipeline, self._worker, until)

    async def _stream(
        self, intake: Intake, recording: OngoingNight, remarks: deque[str], stop: asyncio.Event
    ) -> None:
        """Run the live loop."""
        assert recording.pipeline is not None
        name, silence_s = intake.info.name, self._settings.silence_s
        self.stream = Stream(
            intake,
            recording.pipeline,
            recording.journal,
            recording.publisher,
            self._lane,
            self._clock,
            silence_s,
            remarks,
            lambda mute: self._waiting.because(
                f"{name} has sent nothing for {silence_s:g} s" if mute else ""
            ),
        )
        said = watch_health(
            recording.journal,
            recording.publisher,
            self._lane,
            self._settings.hop_s,
            self._clock,
            lambda: self.failures,
        )
        watch = asyncio.create_task(said, name=f"health of {self._settings.name}")
        try:
            await self.stream.run(stop)
        finally:
            self.stream = None
            watch.cancel()
            await asyncio.wait([watch])

    def _say(self, error: SleepstreamError) -> None:
        """Report a failure: an old stage must not look like a live one."""
        self._waiting.because(str(error))
        if self._recording is not None:
            publisher = self._recording.publisher
            publisher.online(False)
            publisher.no_signal()
            publisher.event("error", str(error), {"failures": self.failures})

    def _conclude(self, error: SleepstreamError | None, stop: asyncio.Event) -> Outcome:
        recording = self._recording
        if self._live:  # other streams or an alarm may go on for hours before the outcome is shown
            self._waiting.because("" if error is None else str(error))
        if recording is None:
            return Outcome(self._settings.name, None, error=error)
        publisher = recording.publisher
        if error is not None:
            publisher.event("error", str(error))
        publisher.online(False)
        if self._warming and not self._over:  # not read back completely: the next start continues it
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

    def _end(self, recording: OngoingNight, why: str) -> None:
        publisher, thinned = recording.publisher, self._lane.thinned
        data: EventData = {"thinned": thinned} if thinned else {}
        if self._over:
            why = f"the night has ended: {self._over}"
            data |= {"night": True, "reason": self._over}
            publisher.no_signal()  # the last stage of the night must not stay for the day
        publisher.conclude(recording.ending.worn_s if self._over and recording.ending is not None else None)
        publisher.event("session_ended", why, data)


def _alike(one: StreamInfo, other: StreamInfo) -> bool:
    return (one.rate_hz, one.channels) == (other.rate_hz, other.channels)
