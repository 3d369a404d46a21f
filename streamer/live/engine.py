"""All that one process runs: one model, the sinks, and a stream for each sleeper."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from streamer import __version__
from streamer.clock import Clock, boot_id
from streamer.errors import JournalError, SettingsError, SleepstreamError
from streamer.journal import Journal, Meta
from streamer.journal.disk import too_small
from streamer.live.backlog import Backlog, undelivered
from streamer.live.batching import Batcher
from streamer.live.notify import Heart
from streamer.live.resume import Found, Past, find, recall, restore
from streamer.live.supervisor import Outcome, Recording, Supervisor
from streamer.messages import StreamInfo
from streamer.network.staging import Stager, opened
from streamer.payloads import CommandPayload, EventPayload, utc
from streamer.pipeline import Pipeline
from streamer.publisher import Observer, Publisher
from streamer.reactions.bedside import Bedside
from streamer.settings import Settings, StreamSettings
from streamer.sinks.broker import Broker
from streamer.sinks.homeassistant import HomeAssistant
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.mqtt import MqttSink, MqttStatus
from streamer.sinks.sleepasandroid import SleepAsAndroid
from streamer.sinks.topics import MqttStream
from streamer.sources import Opener
from streamer.sources.settings import LIVE, ReplaySettings
from streamer.web.access import TOKEN_VARIABLE
from streamer.web.page import Page
from streamer.web.server import WebServer

__all__ = ["Engine", "Outcome", "Watcher"]

DELIVERY_S = 10.0  # at the end of a recording, for a broker to take what it has not yet


class Watcher(Observer, Protocol):
    """An observer that also hears about the process as a whole."""

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """A stream is open."""
        ...

    def broker(self, status: MqttStatus) -> None:
        """The connection to the broker has come, gone or failed."""
        ...


class Engine:
    """Runs every stream of the settings until all have ended or `stop` is set.

    A stream that fails leaves the others alone; its error is in its outcome. Streams share the model's
    weights and its one thread.

    Args:
        settings: as read from the TOML file.
        clock: time.
        watcher: hears everything; a terminal, a test.
        session_path: where the file of a session goes, by its identity; default: in `settings.session_dir`.
        resume_s: a session in `settings.session_dir` that was not ended is continued if its last sample is
            no older than this; 0: begin anew; None: likewise, and leave alone what earlier sessions could not
            deliver.
        sources: makes a stream's source from its settings; default: `open_source`.

    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        watcher: Watcher,
        session_path: Callable[[str], Path] | None = None,
        resume_s: float | None = None,
        sources: Opener | None = None,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._clock = clock
        self._watcher = watcher
        self._session_path = session_path or (lambda session: settings.session_dir / f"{session}.sqlite")
        self._bedsides: dict[str, Bedside] = {}  # by stream
        self._resume_s = resume_s
        self._page = None if settings.web is None else Page(clock)
        self._supervisors: list[Supervisor] = []
        self._publishers: dict[str, Publisher] = {}  # of the present sessions, by stream
        self._topics: dict[str, MqttStream] = {}  # by stream, the same for all its sessions
        self._outlets: dict[str, Observer] = {}  # of LSL, by stream
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End every stream soon: what has arrived is scored, published and kept."""
        self._stop.set()

    async def run(self) -> list[Outcome]:
        """Run to the end.

        Raises:
            ArtifactError: the model cannot be used.
            SinkError: the embedded broker or the page cannot listen, or a certificate cannot be read.
            SettingsError: the page would be open to the network without a proper token.

        """
        async with AsyncExitStack() as stack:
            for settings in self._settings.stream:
                bedside = Bedside(
                    settings, self._settings.session_dir, self._settings.node, self._clock, self.stop
                )
                self._bedsides[settings.name] = await stack.enter_async_context(bedside)
            try:
                return await self._run()
            except SleepstreamError as error:
                await self._outlast(str(error))
                raise

    async def _outlast(self, why: str) -> None:
        """An alarm that is armed rings, whatever else has come to an end."""
        async with asyncio.TaskGroup() as group:
            for stream, bedside in self._bedsides.items():
                group.create_task(bedside.outlast(why, self._stop), name=f"alarm of {stream}, alone")

    async def _run(self) -> list[Outcome]:
        load = partial(opened, self._settings.model)
        with ThreadPoolExecutor(1, thread_name_prefix="model") as worker:
            model = await asyncio.get_running_loop().run_in_executor(worker, load)
            # What the imports made stays as long as the process: to look through it for garbage, as Python
            # does every so often, would hold up a stage, and a trigger, by a tenth of a second.
            gc.freeze()
            async with AsyncExitStack() as journals, AsyncExitStack() as sinks:
                journals.callback(model.close)
                mqtt = await self._open_mqtt(sinks)
                if self._settings.web is not None and self._page is not None:
                    token = os.environ.get(TOKEN_VARIABLE)
                    await sinks.enter_async_context(WebServer(self._settings.web, self._page, token))
                await sinks.enter_async_context(Heart(self._clock, self._stuck_s))
                batcher = Batcher(worker, self._clock)
                outcomes = await self._run_streams(model, batcher, mqtt, journals)
                if mqtt is not None and not self._stop.is_set():
                    await self._deliver(mqtt)
                await self._outlast("every stream has ended")  # while it can still be told to be quiet
                return outcomes

    def _stuck_s(self) -> float:
        """For how long the slowest stream has been busy with one piece."""
        streams = [one.stream for one in self._supervisors if one.stream is not None]
        return max((stream.stuck_s for stream in streams), default=0.0)

    async def _open_mqtt(self, sinks: AsyncExitStack) -> MqttSink | None:
        settings = self._settings.mqtt
        if settings is None:
            return None
        if settings.embedded:
            await sinks.enter_async_context(Broker(settings.port, settings.host))
        home = None
        if self._settings.homeassistant is not None:
            home = HomeAssistant(
                self._settings.homeassistant,
                self._settings.node,
                self._settings.stream,
                settings.stage_expiry_s,
            )
        sink = MqttSink(settings, self._settings.node, self._clock, self._watcher.broker, home)
        return await sinks.enter_async_context(sink)

    async def _deliver(self, mqtt: MqttSink) -> None:
        """Wait for the broker to have everything; what it does not take stays in the session file."""
        try:
            async with asyncio.timeout(DELIVERY_S):
                await mqtt.flush()
        except TimeoutError:
            self._watcher.broker(mqtt.status)

    async def _run_streams(
        self, model: Stager, batcher: Batcher, mqtt: MqttSink | None, journals: AsyncExitStack
    ) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._run_stream(stream, model, batcher, mqtt, journals), name=stream.name)
                for stream in self._settings.stream
            ]
        return [task.result() for task in tasks]

    async def _run_stream(
        self,
        settings: StreamSettings,
        model: Stager,
        batcher: Batcher,
        mqtt: MqttSink | None,
        stack: AsyncExitStack,
    ) -> Outcome:
        backlog = Backlog()
        if mqtt is not None:  # at once: an alarm can be told to be quiet before there is a session
            obey, refuse = partial(self._obey, settings.name), partial(self._refuse, settings.name)
            self._topics[settings.name] = mqtt.stream(settings.name, backlog, obey, refuse)

        def pipeline(info: StreamInfo) -> Pipeline:
            return Pipeline(info, settings.signal, settings.hop_s, model)

        async def begin(info: StreamInfo, afresh: bool) -> Recording:
            made = pipeline(info)  # first: a channel that is not there makes no session
            session = f"{utc_compact(self._clock.wall())}-{settings.name}-{secrets.token_hex(3)}"
            meta = self._meta(session, settings, info, model)
            found = await self._find(settings, meta, afresh)
            journal = await self._open_journal(found.path, meta, backlog, stack)
            info = journal.meta.info
            jsonl = self._open_jsonl(settings.name, stack)
            observers = self._observers(settings, stack)
            publisher = self._publisher(settings, info, journal, jsonl, observers)
            # First of all: from now on somebody may ask it to say something.
            said = recall(publisher, journal.path) if found.path is not None else ()
            self._publishers[settings.name] = publisher
            self._show(settings, publisher, made.label, said)

            async def ready(past: Past | None) -> None:
                if past is not None:
                    restore(publisher, journal.path, past)
                    if self._page is not None:
                        self._page.recall(settings.name, past.epochs)
                await self._bedsides[settings.name].attach(publisher, journal.path, stack, past, said)
                self._watcher.started(settings.name, info, made.label, journal.path)
                if past is None:
                    what = f"{info.name}, channel {made.label}"
                    publisher.event("session_started", what, {"why": found.why})
                warning = too_small(journal.path.parent, info)
                if warning:
                    publisher.event("warning", warning)

            return Recording(info, journal, made if found.path is None else None, publisher, ready)

        supervisor = Supervisor(settings, self._clock, batcher, begin, pipeline, self._sources)
        self._supervisors.append(supervisor)
        return await supervisor.run(self._stop)

    async def _find(self, settings: StreamSettings, meta: Meta, afresh: bool) -> Found:
        """The session of an earlier process to go on with, if that is wanted and there is one."""
        if not self._resume_s or afresh:
            return Found(None, "a new session was asked for")
        if isinstance(settings.source, ReplaySettings):
            return Found(None, "a recording is played from its start")
        folder = self._settings.session_dir
        return await asyncio.to_thread(find, folder, meta, self._clock, self._resume_s)

    def _meta(self, session: str, settings: StreamSettings, info: StreamInfo, model: Stager) -> Meta:
        return Meta(
            session=session,
            node=self._settings.node,
            stream=settings.name,
            info=info,
            model_sha256=model.contract.weights_sha256,
            settings=settings.model_dump(mode="json"),
            versions={
                "sleepstream": __version__,
                "python": platform.python_version(),
                "torch": version("torch"),
            },
            boot=boot_id(),
        )

    async def _open_journal(
        self, found: Path | None, meta: Meta, backlog: Backlog, stack: AsyncExitStack
    ) -> Journal:
        """Make or continue a session file; what earlier ones could not deliver comes before it."""
        deliver = self._settings.mqtt is not None
        if deliver and self._resume_s is not None and not len(backlog):
            earlier = await asyncio.to_thread(
                undelivered, self._settings.session_dir, meta.node, meta.stream, found, self._clock
            )
            for old in earlier:
                stack.push_async_callback(asyncio.to_thread, old.close)
                backlog.add(old.outbox)
        if found is not None:
            journal = await asyncio.to_thread(Journal.resume, found, self._clock, deliver=deliver)
        else:
            path = self._session_path(meta.session)
            journal = await asyncio.to_thread(_create_journal, path, meta, self._clock, deliver)
        stack.push_async_callback(asyncio.to_thread, journal.close)
        backlog.add(journal.outbox)
        return journal

    def _open_jsonl(self, stream: str, stack: AsyncExitStack) -> JsonlSink | None:
        settings = self._settings.jsonl
        if settings is None:
            return None
        path = str(settings.path)
        if len(self._settings.stream) > 1 and "{stream}" not in path:
            raise SettingsError(
                f"jsonl.path {path!r} would mix several streams; put {{stream}} into the name"
            )
        return stack.enter_context(JsonlSink(Path(path.replace("{stream}", stream))))

    def _observers(self, settings: StreamSettings, stack: AsyncExitStack) -> tuple[Observer, ...]:
        """Whoever watches this stream; `stack` outlives it, so that its last event is still heard."""
        watching: tuple[Observer, ...] = (self._watcher,)
        if self._page is not None:
            watching = (self._watcher, self._page)
        if self._settings.sleep_as_android is not None:
            topic = self._settings.sleep_as_android.topic.replace("{stream}", settings.name)
            android = SleepAsAndroid(topic, lambda to, body: self._topics[settings.name].say(to, body))
            watching = (*watching, android)
        if self._settings.lsl is None:
            return watching
        if settings.name not in self._outlets:  # recorders keep theirs when a stream begins a new session
            from streamer.sinks.lsl import LslOutlets  # pylsl: only where it is wanted

            outlets = LslOutlets(self._settings.lsl, self._settings.node, settings.name, settings.hop_s)
            self._outlets[settings.name] = stack.enter_context(outlets)
        return self._outlets[settings.name], *watching  # a marker does not wait for a screen

    def _publisher(
        self,
        settings: StreamSettings,
        info: StreamInfo,
        journal: Journal,
        jsonl: JsonlSink | None,
        observers: tuple[Observer, ...],
    ) -> Publisher:
        late_after_s = None
        if isinstance(settings.source, LIVE) and self._settings.mqtt is not None:
            late_after_s = self._settings.mqtt.late_after_s
        return Publisher(
            settings.name,
            journal.meta.session,
            info,
            journal,
            self._topics.get(settings.name),
            jsonl,
            observers,
            self._clock,
            late_after_s,
        )

    def _obey(self, stream: str, command: CommandPayload) -> None:
        self._bedsides[stream].obey(command, self._publishers.get(stream))

    def _refuse(self, stream: str, reason: str) -> None:
        if stream in self._publishers:
            self._publishers[stream].event("refused", reason)

    def _show(
        self, settings: StreamSettings, publisher: Publisher, channel: str, said: Iterable[EventPayload]
    ) -> None:
        """Let the live page see the stream and what has been said of it, and its buttons be obeyed."""
        name, page = settings.name, self._page
        if page is None:
            return
        page.open(
            name,
            publisher.session,
            publisher.info,
            channel,
            settings.hop_s,
            publisher.labels,
            lambda command: self._bedsides[name].obey(command, publisher),
            lambda reason: publisher.event("refused", reason),
            alarm=settings.alarm is not None,
        )
        for payload in said:
            page.happened(name, payload)
        publisher.listeners.append(lambda score, _: page.scored(name, score))


def _create_journal(path: Path, meta: Meta, clock: Clock, deliver: bool) -> Journal:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"cannot make folder {path.parent}: {error.strerror}; choose another") from error
    return Journal.create(path, meta, clock, deliver=deliver)


def utc_compact(seconds: float) -> str:
    """Write a Unix time as 20261123T221500Z, fit for a file name."""
    return utc(seconds).strftime("%Y%m%dT%H%M%SZ")
