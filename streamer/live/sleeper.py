"""One sleeper's sessions: begins each or goes on with an earlier one, and connects all who hear of it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import platform
import secrets
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from streamer import __version__, private
from streamer.clock import Clock, boot_id
from streamer.errors import JournalError, SettingsError, SleepstreamError
from streamer.handover import DRAIN_S, Aside, Guard, Outlet, explain
from streamer.journal import Journal, Meta
from streamer.journal.disk import too_small
from streamer.live.backlog import Backlog, undelivered
from streamer.live.candidates import Found, find
from streamer.live.resume import Past, recall, restore
from streamer.live.supervisor import Recording
from streamer.messages import StreamInfo
from streamer.network.stager import Model
from streamer.news import Sink
from streamer.payloads import CommandPayload, EventPayload, utc
from streamer.pipeline import Pipeline
from streamer.publisher import Publisher
from streamer.reactions.bedside import Bedside
from streamer.reactions.settings import codes
from streamer.settings import Settings, StreamSettings
from streamer.sinks.codes import table
from streamer.sinks.jsonl import MOST, JsonlSink
from streamer.sinks.mqtt import MqttSink
from streamer.sinks.settings import LslSinkSettings, TtlSettings
from streamer.sinks.sleepasandroid import SleepAsAndroid
from streamer.sinks.topics import MqttStream
from streamer.sinks.ttl import TtlSink
from streamer.sources.settings import LIVE, ReplaySettings
from streamer.web.page import Page

if TYPE_CHECKING:
    from streamer.sinks.lsl import LslOutlets

OUTLETS_S = 20.0  # for LSL's outlets to be made
PATIENCE_S = 60.0  # with the disk, for the epochs of a recording: nobody waits to be woken
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all sleepers of a process have in common."""

    settings: Settings
    model: Model
    clock: Clock
    watcher: Outlet
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
        self._sinks: list[Sink | Outlet] | None = None  # the same for every session
        self._page = None if shared.page is None else Guard(shared.page, shared.clock)
        self._topic: MqttStream | None = None
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
        if self._sinks is None:
            self._sinks = await self._open_sinks()
        publisher = self._make_publisher(journal, self._sinks)
        # First of all: from now on somebody may ask it to say something.
        said = recall(publisher, journal.path) if found.path is not None else ()
        self._publisher = publisher
        self._show(publisher, made.label, said)
        ready = partial(self._ready, journal, publisher, made.label, said, found)
        pipeline = made if found.path is None else None
        return Recording(journal.meta.info, journal, pipeline, publisher, ready)

    async def _ready(
        self,
        journal: Journal,
        publisher: Publisher,
        channel: str,
        said: tuple[EventPayload, ...],
        found: Found,
        past: Past | None,
    ) -> None:
        """The pipeline has its memory: what it made of the record, None of a new session; let all begin."""
        name, page = self._settings.name, self._shared.page
        if past is not None:
            restore(publisher, journal.path, past)
            if page is not None and self._page is not None:
                with self._page.trying():
                    page.recall(name, past.epochs)
        await self._bedside.attach(publisher, journal.path, self._shared.stack, past, said, found.before)
        publisher.opened(channel, journal.path)
        if past is None:
            what = f"{publisher.info.name}, channel {channel}"
            meaning = json.dumps(table(codes(self._settings.trigger)))
            publisher.event("session_started", what, {"why": found.why, "codes": meaning})
        for warning in (found.why if found.unknown else "", journal.clock_was_set):
            if warning:
                publisher.event("warning", warning)
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

    async def _open_sinks(self) -> list[Sink | Outlet]:
        """Whoever hears of this stream; a marker does not wait for a screen.

        Raises:
            SettingsError: several streams would write into one file.
            SinkError: the file for a recording's epochs cannot be opened; a device's night goes on without.

        """
        settings, shared = self._shared.settings, self._shared
        sinks: list[Sink | Outlet] = [shared.watcher]
        if settings.jsonl is not None:
            sinks.append(await self._jsonl(str(settings.jsonl.path)))
        if settings.lsl is not None:
            sinks = [*await self._outlets(settings.lsl), *sinks]
        if self._settings.ttl is not None:
            sinks.insert(0, self._ttl(self._settings.ttl))
        if self._page is not None:
            sinks.append(self._page)
        if self._topic is not None:
            if settings.sleep_as_android is not None:
                topic = settings.sleep_as_android.topic.replace("{stream}", self._settings.name)
                sinks.append(SleepAsAndroid(topic, self._topic.say))
            sinks.append(self._topic)
        return sinks

    async def _jsonl(self, path: str) -> Aside:
        shared = self._shared
        if len(shared.settings.stream) > 1 and "{stream}" not in path:
            raise SettingsError(
                f"jsonl.path {path!r} would mix several streams; put {{stream}} into the name"
            )
        sink = JsonlSink(Path(path.replace("{stream}", self._settings.name)))
        drain_s = DRAIN_S
        if not isinstance(self._settings.source, LIVE):
            await asyncio.to_thread(sink.open)
            drain_s = PATIENCE_S
        aside = Aside(sink, self._clock, MOST).__enter__()
        shared.stack.push_async_callback(asyncio.to_thread, aside.close, drain_s)
        return aside

    def _ttl(self, settings: TtlSettings) -> Aside:
        """The serial port, opened on a thread of its own; without it the night goes on."""
        aside = Aside(TtlSink(settings), self._clock).__enter__()
        self._shared.stack.push_async_callback(asyncio.to_thread, aside.close)
        return aside

    async def _outlets(self, settings: LslSinkSettings) -> list[Guard]:
        """LSL's outlets, which recorders keep when a new session begins; without them the night goes on."""
        node, name, stack = self._shared.settings.node, self._settings.name, self._shared.stack
        try:
            async with asyncio.timeout(OUTLETS_S):
                outlets = await asyncio.to_thread(_make_outlets, settings, node, self._settings)
        except SleepstreamError as error:
            log.warning("no LSL outlets for %s: %s; the night goes on", name, error)
            return []
        except Exception as error:
            log.exception("no LSL outlets for %s: %s; the night goes on", name, explain(error))
            return []
        stack.push_async_callback(asyncio.to_thread, outlets.__exit__, None, None, None)
        return [Guard(outlets, self._clock)]

    def _make_publisher(self, journal: Journal, sinks: Iterable[Sink | Outlet]) -> Publisher:
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

    def _obey(self, command: CommandPayload) -> str:
        return self._bedside.obey(command, self._publisher)

    def _refuse(self, reason: str) -> None:
        if self._publisher is not None:
            self._publisher.event("refused", reason)
        else:
            log.warning("%s: refused: %s", self._settings.name, reason)

    def _show(self, publisher: Publisher, channel: str, said: Iterable[EventPayload]) -> None:
        """Let the live page see the stream and what has been said of it, and its buttons be obeyed."""
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
                lambda command: self._bedside.obey(command, publisher),
                lambda reason: publisher.event("refused", reason),
                alarm=self._settings.alarm is not None,
            )
        for payload in said:
            self._page.hear(name, payload)


def _make_outlets(settings: LslSinkSettings, node: str, stream: StreamSettings) -> LslOutlets:
    """In a thread: liblsl is loaded, and looks for the networks of this machine."""
    from streamer.sinks.lsl import LslOutlets  # pylsl: only where it is wanted

    return LslOutlets(settings, node, stream.name, stream.hop_s, codes(stream.trigger))


def _create_journal(path: Path, meta: Meta, clock: Clock, deliver: bool) -> Journal:
    try:
        private.make_folder(path.parent)
    except OSError as error:
        raise JournalError(f"cannot make folder {path.parent}: {error.strerror}; choose another") from error
    return Journal.create(path, meta, clock, deliver=deliver)


def utc_compact(seconds: float) -> str:
    """Write a Unix time as 20261123T221500Z, fit for a file name."""
    return utc(seconds).strftime("%Y%m%dT%H%M%SZ")
