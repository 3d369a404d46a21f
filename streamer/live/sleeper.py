"""One sleeper's sessions: begins each or goes on with an earlier one, and connects all who hear of it."""

from __future__ import annotations

import asyncio
import gc
import platform
import secrets
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Protocol

from streamer import __version__, private
from streamer.clock import Clock, boot_id
from streamer.errors import JournalError, SettingsError
from streamer.journal import Journal, Meta
from streamer.journal.disk import too_small
from streamer.live.backlog import Backlog, undelivered
from streamer.live.resume import Found, Past, find, recall, restore
from streamer.live.supervisor import Recording
from streamer.messages import StreamInfo
from streamer.network.staging import Stager
from streamer.payloads import CommandPayload, EventPayload, utc
from streamer.pipeline import Pipeline
from streamer.publisher import Observer, Publisher
from streamer.reactions.bedside import Bedside
from streamer.settings import Settings, StreamSettings
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.mqtt import MqttSink, MqttStatus
from streamer.sinks.sleepasandroid import SleepAsAndroid
from streamer.sources.settings import LIVE, ReplaySettings
from streamer.web.page import Page


class Watcher(Observer, Protocol):
    """An observer that also hears about the process as a whole."""

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """A stream is open."""
        ...

    def broker(self, status: MqttStatus) -> None:
        """The connection to the broker has come, gone or failed."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all sleepers of a process have in common."""

    settings: Settings
    model: Stager
    clock: Clock
    watcher: Watcher
    mqtt: MqttSink | None
    page: Page | None
    stack: AsyncExitStack  # of what their sessions hold open; outlives every session
    session_path: Callable[[str], Path]  # where the file of a session goes, by its identity
    resume_s: float | None  # see Engine


class Sleeper:
    """One stream's sessions, one after the other; `begin` and `pipeline` are for its supervisor.

    Heard by the broker from the start: an alarm can be told to be quiet before there is a session.

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
        self._outlet: Observer | None = None  # of LSL: recorders keep it when a new session begins
        self._topic = None
        if shared.mqtt is not None:
            self._topic = shared.mqtt.stream(settings.name, self._backlog, self._obey, self._refuse)

    def pipeline(self, info: StreamInfo) -> Pipeline:
        """Make a pipeline that has seen nothing of the session.

        Raises:
            UsageError: the channel asked for is not there, or is no voltage.
            SignalError: the stream's rate is outside 50 to 1024 Hz.

        """
        return Pipeline(info, self._settings.signal, self._settings.hop_s, self._shared.model)

    async def begin(self, info: StreamInfo, afresh: bool) -> Recording:
        """Find the session to go on with, or make one (`afresh`: in any case).

        Raises:
            JournalError: there is no room, or no right, for its file.
            UsageError, SignalError: as `pipeline`; then no file is made.

        """
        made = self.pipeline(info)
        session = f"{utc_compact(self._clock.wall())}-{self._settings.name}-{secrets.token_hex(3)}"
        meta = self._meta(session, info)
        found = await self._find(meta, afresh)
        journal = await self._open_journal(found.path, meta)
        jsonl, observers = self._open_jsonl(), self._observers()
        publisher = self._make_publisher(journal, jsonl, observers)
        # First of all: from now on somebody may ask it to say something.
        said = recall(publisher, journal.path) if found.path is not None else ()
        self._publisher = publisher
        self._show(publisher, made.label, said)
        ready = partial(self._ready, journal, publisher, made.label, said, found.why)
        pipeline = made if found.path is None else None
        return Recording(journal.meta.info, journal, pipeline, publisher, ready)

    async def _ready(
        self,
        journal: Journal,
        publisher: Publisher,
        channel: str,
        said: tuple[EventPayload, ...],
        why: str,
        past: Past | None,
    ) -> None:
        """The pipeline has its memory: what it made of the record, None of a new session; let all begin."""
        name, page = self._settings.name, self._shared.page
        if past is not None:
            restore(publisher, journal.path, past)
            if page is not None:
                page.recall(name, past.epochs)
        await self._bedside.attach(publisher, journal.path, self._shared.stack, past, said)
        self._shared.watcher.started(name, publisher.info, channel, journal.path)
        if past is None:
            what = f"{publisher.info.name}, channel {channel}"
            publisher.event("session_started", what, {"why": why})
        warning = too_small(journal.path.parent, publisher.info)
        if warning:
            publisher.event("warning", warning)
        # What the imports and the sessions' beginnings made stays: to look through it for garbage, as Python
        # does every so often, would hold up everybody's stages and triggers, by a tenth of a second or more.
        gc.freeze()

    async def _find(self, meta: Meta, afresh: bool) -> Found:
        """The session of an earlier process to go on with, if that is wanted and there is one."""
        resume_s = self._shared.resume_s
        if not resume_s or afresh:
            return Found(None, "a new session was asked for")
        if isinstance(self._settings.source, ReplaySettings):
            return Found(None, "a recording is played from its start")
        folder = self._shared.settings.session_dir
        return await asyncio.to_thread(find, folder, meta, self._clock, resume_s)

    def _meta(self, session: str, info: StreamInfo) -> Meta:
        return Meta(
            session=session,
            node=self._shared.settings.node,
            stream=self._settings.name,
            info=info,
            model_sha256=self._shared.model.contract.weights_sha256,
            settings=self._settings.model_dump(mode="json"),
            versions={
                "sleepstream": __version__,
                "python": platform.python_version(),
                "torch": version("torch"),
            },
            boot=boot_id(),
        )

    async def _open_journal(self, found: Path | None, meta: Meta) -> Journal:
        """Make or continue a session file; what earlier ones could not deliver comes before it."""
        shared, backlog = self._shared, self._backlog
        deliver = self._topic is not None
        if deliver and shared.resume_s is not None and not len(backlog):
            folder = shared.settings.session_dir
            earlier = await asyncio.to_thread(undelivered, folder, meta.node, meta.stream, found, self._clock)
            for old in earlier:
                shared.stack.push_async_callback(asyncio.to_thread, old.close)
                backlog.add(old.outbox)
        if found is not None:
            journal = await asyncio.to_thread(Journal.resume, found, self._clock, deliver=deliver)
        else:
            path = shared.session_path(meta.session)
            journal = await asyncio.to_thread(_create_journal, path, meta, self._clock, deliver)
        shared.stack.push_async_callback(asyncio.to_thread, journal.close)
        backlog.add(journal.outbox)
        return journal

    def _open_jsonl(self) -> JsonlSink | None:
        settings = self._shared.settings.jsonl
        if settings is None:
            return None
        path = str(settings.path)
        if len(self._shared.settings.stream) > 1 and "{stream}" not in path:
            raise SettingsError(
                f"jsonl.path {path!r} would mix several streams; put {{stream}} into the name"
            )
        sink = JsonlSink(Path(path.replace("{stream}", self._settings.name)))
        return self._shared.stack.enter_context(sink)

    def _observers(self) -> tuple[Observer, ...]:
        """Whoever watches this stream."""
        settings, shared = self._shared.settings, self._shared
        watching: tuple[Observer, ...] = (shared.watcher,)
        if shared.page is not None:
            watching = (*watching, shared.page)
        if settings.sleep_as_android is not None and self._topic is not None:
            topic = settings.sleep_as_android.topic.replace("{stream}", self._settings.name)
            watching = (*watching, SleepAsAndroid(topic, self._topic.say))
        if settings.lsl is None:
            return watching
        if self._outlet is None:
            from streamer.sinks.lsl import LslOutlets  # pylsl: only where it is wanted

            outlets = LslOutlets(settings.lsl, settings.node, self._settings.name, self._settings.hop_s)
            self._outlet = shared.stack.enter_context(outlets)
        return self._outlet, *watching  # a marker does not wait for a screen

    def _make_publisher(
        self, journal: Journal, jsonl: JsonlSink | None, observers: tuple[Observer, ...]
    ) -> Publisher:
        late_after_s, mqtt = None, self._shared.settings.mqtt
        if isinstance(self._settings.source, LIVE):
            late_after_s = inf if mqtt is None else mqtt.late_after_s
        return Publisher(
            self._settings.name,
            journal.meta.session,
            journal.meta.info,
            journal,
            self._topic,
            jsonl,
            observers,
            self._clock,
            late_after_s,
        )

    def _obey(self, command: CommandPayload) -> None:
        self._bedside.obey(command, self._publisher)

    def _refuse(self, reason: str) -> None:
        if self._publisher is not None:
            self._publisher.event("refused", reason)

    def _show(self, publisher: Publisher, channel: str, said: Iterable[EventPayload]) -> None:
        """Let the live page see the stream and what has been said of it, and its buttons be obeyed."""
        name, page = self._settings.name, self._shared.page
        if page is None:
            return
        page.open(
            name,
            publisher.session,
            publisher.info,
            channel,
            self._settings.hop_s,
            publisher.labels,
            lambda command: self._bedside.obey(command, publisher),
            lambda reason: publisher.event("refused", reason),
            alarm=self._settings.alarm is not None,
        )
        for payload in said:
            page.happened(name, payload)
        publisher.listeners.append(lambda score, _: page.scored(name, score))


def _create_journal(path: Path, meta: Meta, clock: Clock, deliver: bool) -> Journal:
    try:
        private.make_folder(path.parent)
    except OSError as error:
        raise JournalError(f"cannot make folder {path.parent}: {error.strerror}; choose another") from error
    return Journal.create(path, meta, clock, deliver=deliver)


def utc_compact(seconds: float) -> str:
    """Write a Unix time as 20261123T221500Z, fit for a file name."""
    return utc(seconds).strftime("%Y%m%dT%H%M%SZ")
