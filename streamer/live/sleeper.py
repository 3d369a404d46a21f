"""One sleeper's sessions: starts or continues each, and connects its sinks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path

from streamer import __version__
from streamer.clock import Clock, boot_id
from streamer.errors import JournalError
from streamer.host import private
from streamer.journal import Journal, JournalReader, Meta
from streamer.journal.candidates import Found, find
from streamer.journal.disk import few_nights, too_small
from streamer.live.arrival import Arrival
from streamer.live.backlog import Backlog, undelivered
from streamer.live.bedside import Bedside
from streamer.live.hearers import open_sinks
from streamer.live.resume import Rewarmed, replay_scores, restore
from streamer.live.shared import Shared
from streamer.live.supervisor import FLUSH_S, OngoingNight
from streamer.messages import StreamInfo
from streamer.news import Sink
from streamer.night.ending import LIGHTS_ON
from streamer.night.keeper import Nights
from streamer.night.morning import Link
from streamer.payloads import (
    CommandPayload,
    EventData,
    EventName,
    EventPayload,
    NightPayload,
    SignalPayload,
    utc,
)
from streamer.pipeline import Pipeline
from streamer.reactions.alarm_clock import AlarmClock
from streamer.reactions.settings import codes
from streamer.settings import StreamSettings
from streamer.sinks.codes import table
from streamer.sinks.handover import Guard
from streamer.sinks.publisher import Publisher
from streamer.sinks.topics import MqttStream
from streamer.sources.settings import LIVE, ReplaySettings
from streamer.web.traces import Traces, list_traces

UNSAID = 16  # events of earlier nights that wait for a session
log = logging.getLogger(__name__)


class Sleeper:
    """One stream's sessions, one after the other; its supervisor calls `begin` and `pipeline`.

    The broker's commands reach it from the start, so that an alarm can be dismissed before there is a
    session.

    Args:
        settings: of the stream.
        bedside: its triggers and alarm.
        shared: with the other sleepers.

    Raises:
        SettingsError: another sleeper has the same name.

    """

    def __init__(self, settings: StreamSettings, bedside: Bedside, shared: Shared) -> None:
        self._settings = settings
        self._bedside = bedside
        self._shared = shared
        self._clock = shared.clock
        self._backlog = Backlog()
        self._publisher: Publisher | None = None  # of the present session
        self._sinks: list[Sink | Guard] | None = None  # the same for every session
        self._page = None if shared.page is None else Guard(shared.page, shared.clock)
        self._topic: MqttStream | None = None
        self._traces: Traces  # of the present session
        self._open: list[Journal] = []  # of this and earlier sessions, until all of them is delivered
        self._stack = AsyncExitStack()  # of what ends with the session
        shared.stack.push_async_callback(self._close)
        self._unsaid: deque[tuple[EventName, str, EventData]] = deque(maxlen=UNSAID)
        self._alarms = 0  # how often the alarm was told where no session is open
        self._between: Arrival | None = None  # since the night has ended
        self._nights = Nights(settings, shared.settings, shared.clock, shared.turn, self, shared.launch)
        shared.stack.push_async_callback(self._nights.close)
        if shared.mqtt is not None:
            self._topic = shared.mqtt.stream(settings.name, self._backlog, self.obey, self._refuse)

        if shared.page is not None and self._page is not None:
            with self._page.trying():
                shared.page.await_session(settings.name, self.obey, bedside.alarm is not None)
        if bedside.alarm is not None:
            bedside.alarm.watch(partial(self._say_alarm, bedside.alarm))
            self._say_alarm(bedside.alarm)

    def _say_alarm(self, alarm: AlarmClock) -> None:
        """Publish the alarm's state while no session is open."""
        if self._publisher is not None:
            return
        said = alarm.said("", self._alarms)
        self._alarms += 1
        if self._topic is not None:
            self._topic.hear("", said)
        if self._page is not None:
            self._page.hear(self._settings.name, said)

    def pipeline(self, info: StreamInfo) -> Pipeline:
        """Make a new pipeline.

        Raises:
            UsageError: the channel asked for is not there, or is no voltage.
            SignalError: the stream's rate is outside 50 to 1024 Hz.

        """
        return Pipeline(info, self._settings.signal, self._settings.hop_s, self._shared.model)

    async def begin(self, info: StreamInfo, afresh: bool) -> OngoingNight:
        """Find the session to continue, or start a new one (`afresh`: always).

        Raises:
            JournalError: its file cannot be made: no room, or no permission.
            UsageError, SignalError: as for `pipeline`; then no file is made.

        """
        made = self.pipeline(info)
        self._publisher = None
        await self._leave()
        session = f"{utc_compact(self._clock.wall())}-{self._settings.name}-{secrets.token_hex(3)}"
        meta = self._meta(session, info)
        found = await self._find(meta, afresh)
        try:
            journal = await self._open_journal(found.path, meta)
        except JournalError as error:
            if found.path is None:
                raise
            # The cause may last all night: another user's lock, or a read-only disk.
            why = f"{found.path.stem} is not continued: {error}"
            found = Found(None, why, unknown=True, before=found.path)
            journal = await self._open_journal(None, meta)
        if self._sinks is None:
            self._sinks = await open_sinks(self._settings, self._shared, self._page, self._topic)
        ending = self._nights.ending() if isinstance(self._settings.source, LIVE) else None
        sinks = self._sinks if ending is None else [*self._sinks, ending]
        publisher = self._make_publisher(journal, sinks)
        # First, because from now on commands may publish events.
        said = replay_scores(publisher, journal.path) if found.path is not None else ()
        if ending is not None and found.path is not None:
            with JournalReader(journal.path) as reader:
                ending.restore(reader.epochs(), reader.events("lights_off", "lights_on"))
        self._publisher, self._between = publisher, None
        named = list_traces(self._settings, self._shared.settings)
        self._traces = Traces(journal.meta.info, named, self._settings.signal.unit)
        if self._shared.resume_s is not None and ending is not None:
            self._nights.began(journal.path)
        self._show(publisher, made.label, said)
        ready = partial(self._ready, journal, publisher, made.label, said, found)
        pipeline = made if found.path is None else None
        hear = None
        if any(one.phase is not None for one in self._settings.trigger):
            hear = partial(self._bedside.hear, publisher.session)
        return OngoingNight(journal.meta.info, journal, pipeline, publisher, ready, ending, hear)

    async def before(self) -> Arrival | None:
        """Write reports that an earlier process did not; return how to wait if its night had ended."""
        if self._shared.resume_s is None:
            return None
        ended = await self._nights.begin(self._shared.resume_s)
        if ended and self._shared.resume_s:
            self._between = self._arrival(still_worn=False)
        return self._between

    async def between(self, recording: OngoingNight, why: str) -> Arrival:
        """Have the report of the ended night written; return how to wait for the next signal."""
        with contextlib.suppress(TimeoutError, JournalError):  # if the disk refuses, it is written later
            async with asyncio.timeout(FLUSH_S):
                await recording.journal.flush()
        self._nights.ended(recording.journal.path)
        self._between = self._arrival(still_worn=why == LIGHTS_ON)
        return self._between

    def _arrival(self, still_worn: bool) -> Arrival:
        night = self._shared.settings.night
        signal, worker = self._settings.signal, self._shared.worker
        return Arrival(signal, worker, self._clock, 60 * night.begin_min, still_worn)

    def night(self, payload: NightPayload) -> None:
        """Publish the last night's statistics, also without a session."""
        if self._publisher is not None:
            self._publisher.tell(payload)
        elif self._topic is not None:
            self._topic.hear("", payload)

    def links(self, links: Sequence[Link]) -> None:
        """Show links to the reports on the page."""
        if self._shared.page is not None and self._page is not None:
            with self._page.trying():
                self._shared.page.reported(self._settings.name, links)

    def signal(self, payload: SignalPayload) -> None:
        """Publish why no samples arrive, or that they do; also without a session."""
        if self._topic is not None:
            self._topic.hear("", payload)
        if self._shared.page is not None and self._page is not None:
            with self._page.trying():
                self._shared.page.waits(self._settings.name, payload.reason)

    def say(self, name: EventName, text: str, data: EventData) -> None:
        """Publish an event; without a session the next one gets it."""
        if self._publisher is not None:
            self._publisher.event(name, text, data)
        else:
            log.info("%s: %s: %s", self._settings.name, name, text)
            self._unsaid.append((name, text, data))

    async def _leave(self) -> None:
        """Close the last session, unless it has undelivered messages."""
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        await self._shut([one for one in self._open if not len(one.outbox)])
        self._shared.closed()

    async def _close(self) -> None:
        """Close everything at the end of the process."""
        await self._stack.aclose()
        await self._shut(self._open)

    async def _shut(self, journals: Iterable[Journal]) -> None:
        for journal in list(journals):
            self._open.remove(journal)
            try:
                await asyncio.to_thread(journal.close)
            except JournalError as error:
                log.warning("%s", error)

    async def _ready(
        self,
        journal: Journal,
        publisher: Publisher,
        channel: str,
        said: tuple[EventPayload, ...],
        found: Found,
        past: Rewarmed | None,
    ) -> None:
        """Start everything else, once the pipeline is ready; `past` is that of a continued session."""
        name, page = self._settings.name, self._shared.page
        if past is not None:
            restore(publisher, journal.path, past)
            if page is not None and self._page is not None:
                with self._page.trying():
                    page.restore(name, past.epochs)
        await self._bedside.attach(publisher, journal.path, self._stack, past, said, found.before)
        publisher.opened(channel, journal.path)
        if past is None:
            what = f"{publisher.info.name}, channel {channel}"
            meaning = json.dumps(table(codes(self._settings.trigger)))
            publisher.event("session_started", what, {"why": found.why, "codes": meaning})
        told = (found.why if found.unknown else "", journal.clock_was_set, *self._traces.complaints)
        for warning in told:
            if warning:
                publisher.event("warning", warning)
        while self._unsaid:
            publisher.event(*self._unsaid.popleft())
        warning = too_small(journal.path.parent, publisher.info) or self._few_nights(
            journal.path.parent, publisher
        )
        if warning:
            publisher.event("warning", warning)
        self._shared.begun()

    def _few_nights(self, folder: Path, publisher: Publisher) -> str:
        """Return a warning if the disk holds only a few more nights and nothing is pruned, or ""."""
        settings = self._shared.settings
        if settings.storage.bounded or not isinstance(self._settings.source, LIVE):
            return ""
        return few_nights(folder, publisher.info, len(settings.stream), settings.storage.pack)

    async def _find(self, meta: Meta, afresh: bool) -> Found:
        """Find the session of an earlier process to continue, if wanted."""
        resume_s = self._shared.resume_s
        if not resume_s or afresh:
            return Found(None, "a new session was asked for")
        if self._between is not None:
            return Found(None, "the night before has ended")
        if isinstance(self._settings.source, ReplaySettings):
            return Found(None, "a recording is played from its start")
        folder = self._shared.settings.session_dir
        return await asyncio.to_thread(find, folder, meta, self._clock, resume_s)

    def _meta(self, session: str, info: StreamInfo) -> Meta:
        contract = self._shared.model.contract
        return Meta(
            session=session,
            node=self._shared.settings.node,
            stream=self._settings.name,
            info=info,
            model_sha256=contract.weights_sha256,
            settings=self._settings.model_dump(mode="json"),
            versions={
                "sleepstream": __version__,
                "python": platform.python_version(),
                "onnxruntime": version("onnxruntime"),
                "model": f"{contract.size} of {contract.created:%Y-%m-%d}",
            },
            boot=boot_id(),
        )

    async def _open_journal(self, found: Path | None, meta: Meta) -> Journal:
        """Create or continue a session file; earlier sessions' undelivered messages come before its own."""
        shared, backlog = self._shared, self._backlog
        deliver = self._topic is not None
        if deliver and shared.resume_s is not None and not len(backlog):
            folder = shared.settings.session_dir
            earlier = await asyncio.to_thread(undelivered, folder, meta.node, meta.stream, found, self._clock)
            for old in earlier:
                self._open.append(old)
                backlog.add(old.outbox)
        if found is not None:
            journal = await asyncio.to_thread(Journal.resume, found, self._clock, deliver=deliver)
        else:
            path = shared.session_path(meta.session)
            journal = await asyncio.to_thread(_create_journal, path, meta, self._clock, deliver)
        self._open.append(journal)
        backlog.add(journal.outbox)
        return journal

    def _make_publisher(self, journal: Journal, sinks: Iterable[Sink | Guard]) -> Publisher:
        late_after_s, mqtt = None, self._shared.settings.mqtt
        if isinstance(self._settings.source, LIVE):
            late_after_s = inf if mqtt is None else mqtt.late_after_s
        return Publisher(
            self._settings.name,
            journal.meta.session,
            journal.meta.info,
            journal,
            sinks,
            self._clock,
            late_after_s,
        )

    def obey(self, command: CommandPayload) -> str:
        """Carry out a client's command; return why it was refused, or ""."""
        if self._between is not None:
            if command.command == "lights_off":
                self._between.begin()
                return ""
            return self._bedside.obey(command, None)
        return self._bedside.obey(command, self._publisher)

    def _refuse(self, reason: str) -> None:
        if self._publisher is not None:
            self._publisher.event("refused", reason)
        else:
            log.warning("%s: refused: %s", self._settings.name, reason)

    def _show(self, publisher: Publisher, channel: str, said: Iterable[EventPayload]) -> None:
        """Show the stream on the live page, and connect its buttons."""
        name, page = self._settings.name, self._shared.page
        if page is None or self._page is None:
            return
        with self._page.trying():
            page.open(
                name,
                publisher.session,
                publisher.info,
                channel,
                self._settings.hop_s,
                publisher.labels,
                self.obey,
                lambda reason: publisher.event("refused", reason),
                alarm=self._settings.alarm is not None,
                traces=self._traces,
            )
        for payload in said:
            self._page.hear(name, payload)


def _create_journal(path: Path, meta: Meta, clock: Clock, deliver: bool) -> Journal:
    try:
        private.make_folder(path.parent)
    except OSError as error:
        raise JournalError(f"cannot make folder {path.parent}: {error.strerror}; choose another") from error
    return Journal.create(path, meta, clock, deliver=deliver)


def utc_compact(seconds: float) -> str:
    """Write a Unix time as 20261123T221500Z, fit for a file name."""
    return utc(seconds).strftime("%Y%m%dT%H%M%SZ")
