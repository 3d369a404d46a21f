"""All that one process runs: one model, the sinks, and a stream for each sleeper."""

from __future__ import annotations

import asyncio
import platform
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from streamer import __version__
from streamer.actions import Actions
from streamer.clock import Clock
from streamer.errors import JournalError, SettingsError, SleepstreamError
from streamer.journal import Journal
from streamer.journal_file import Meta
from streamer.messages import Label, StreamInfo
from streamer.payloads import CommandPayload, utc
from streamer.pipeline import Pipeline
from streamer.publisher import Observer, Publisher
from streamer.reflexes import Reflexes
from streamer.settings import Settings, StreamSettings
from streamer.sinks.broker import Broker
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.mqtt import MqttSink, MqttStatus
from streamer.sinks.topics import MqttStream
from streamer.sources import open_source
from streamer.sources.settings import LIVE
from streamer.stager import Model
from streamer.statistics import Statistics
from streamer.stream import Stream

DELIVERY_S = 10.0  # at the end of a recording, for a broker to take what it has not yet


class Watcher(Observer, Protocol):
    """An observer that also hears about the process as a whole."""

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """A stream is open."""
        ...

    def broker(self, status: MqttStatus) -> None:
        """The connection to the broker has come, gone or failed."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one stream."""

    stream: str
    session: Path | None  # the session file; None when the source could not be opened
    labels: tuple[Label, ...] = ()  # the stage of each committed epoch
    smoothed: tuple[Label, ...] = ()  # likewise, after the smoother
    statistics: Statistics | None = None
    error: SleepstreamError | None = None


class Engine:
    """Runs every stream of the settings until all have ended or `stop` is set.

    A stream that fails leaves the others alone; its error is in its outcome. Streams share the model's
    weights and its one thread.

    Args:
        settings: as read from the TOML file.
        clock: time.
        watcher: hears everything; a terminal, a test.
        session_path: where the file of a session goes, by its identity; default: in `settings.session_dir`.

    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        watcher: Watcher,
        session_path: Callable[[str], Path] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._watcher = watcher
        self._session_path = session_path or (lambda session: settings.session_dir / f"{session}.sqlite")
        self._reflexes: dict[str, Reflexes] = {}  # by stream
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End every stream soon: what has arrived is scored, published and kept."""
        self._stop.set()

    async def run(self) -> list[Outcome]:
        """Run to the end.

        Raises:
            ArtifactError: the model cannot be used.
            SinkError: the embedded broker cannot listen, or a certificate cannot be read.

        """
        model_settings = self._settings.model
        with ThreadPoolExecutor(1, thread_name_prefix="model") as worker:
            loading = asyncio.get_running_loop().run_in_executor(
                worker, Model.load, model_settings.path, model_settings.device, model_settings.threads
            )
            model = await loading
            async with AsyncExitStack() as journals, AsyncExitStack() as sinks:
                mqtt = await self._open_mqtt(sinks)
                outcomes = await self._run_streams(model, worker, mqtt, journals)
                if mqtt is not None and not self._stop.is_set():
                    await self._deliver(mqtt)
                return outcomes

    async def _open_mqtt(self, sinks: AsyncExitStack) -> MqttSink | None:
        settings = self._settings.mqtt
        if settings is None:
            return None
        if settings.embedded:
            await sinks.enter_async_context(Broker(settings.port, settings.host))
        sink = MqttSink(settings, self._settings.node, self._clock, self._watcher.broker)
        return await sinks.enter_async_context(sink)

    async def _deliver(self, mqtt: MqttSink) -> None:
        """Wait for the broker to have everything; what it does not take stays in the session file."""
        try:
            async with asyncio.timeout(DELIVERY_S):
                await mqtt.flush()
        except TimeoutError:
            self._watcher.broker(mqtt.status)

    async def _run_streams(
        self, model: Model, worker: ThreadPoolExecutor, mqtt: MqttSink | None, journals: AsyncExitStack
    ) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._run_stream(stream, model, worker, mqtt, journals), name=stream.name)
                for stream in self._settings.stream
            ]
        return [task.result() for task in tasks]

    async def _run_stream(
        self,
        settings: StreamSettings,
        model: Model,
        worker: ThreadPoolExecutor,
        mqtt: MqttSink | None,
        journals: AsyncExitStack,
    ) -> Outcome:
        path: Path | None = None
        publisher: Publisher | None = None
        error: SleepstreamError | None = None
        try:
            async with (
                open_source(settings.source, settings.signal.channel, self._clock) as source,
                AsyncExitStack() as files,
            ):
                pipeline = Pipeline(source.info, settings.signal, settings.hop_s, model)
                session = f"{utc_compact(self._clock.wall())}-{settings.name}-{secrets.token_hex(3)}"
                meta = self._meta(session, settings, source.info, model)
                journal = await self._open_journal(self._session_path(session), meta, journals)
                path = self._session_path(session)
                jsonl = self._open_jsonl(settings.name, files)
                observers = self._observers(settings, session, journals)
                publisher = self._publisher(settings, source.info, journal, mqtt, jsonl, observers)
                await self._react(settings, publisher, path, files)
                self._watcher.started(settings.name, source.info, pipeline.label, path)
                publisher.event("session_started", f"{source.info.name}, channel {pipeline.label}")
                live = isinstance(settings.source, LIVE)
                stream = Stream(
                    source, pipeline, journal, publisher, worker, self._clock, settings.silence_s, live
                )
                await stream.run(self._stop)
        except SleepstreamError as caught:
            error = caught
        if publisher is None:
            return Outcome(settings.name, path, error=error)
        if error is not None:
            publisher.event("error", str(error))
        publisher.online(False)
        publisher.event("session_ended", "stopped" if self._stop.is_set() else "the source has ended")
        return Outcome(
            settings.name,
            path,
            tuple(publisher.labels),
            tuple(publisher.smoothed),
            publisher.night.statistics(),
            error,
        )

    def _meta(self, session: str, settings: StreamSettings, info: StreamInfo, model: Model) -> Meta:
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
        )

    async def _open_journal(self, path: Path, meta: Meta, journals: AsyncExitStack) -> Journal:
        deliver = self._settings.mqtt is not None
        journal = await asyncio.to_thread(_create_journal, path, meta, self._clock, deliver)
        journals.push_async_callback(asyncio.to_thread, journal.close)
        return journal

    def _open_jsonl(self, stream: str, files: AsyncExitStack) -> JsonlSink | None:
        settings = self._settings.jsonl
        if settings is None:
            return None
        path = str(settings.path)
        if len(self._settings.stream) > 1 and "{stream}" not in path:
            raise SettingsError(
                f"jsonl.path {path!r} would mix several streams; put {{stream}} into the name"
            )
        return files.enter_context(JsonlSink(Path(path.replace("{stream}", stream))))

    def _observers(
        self, settings: StreamSettings, session: str, stack: AsyncExitStack
    ) -> tuple[Observer, ...]:
        """Whoever watches this stream; `stack` outlives it, so that its last event is still heard."""
        if self._settings.lsl is None:
            return (self._watcher,)
        from streamer.sinks.lsl import LslOutlets  # pylsl: only where it is wanted

        outlets = LslOutlets(self._settings.lsl, self._settings.node, settings.name, session, settings.hop_s)
        return stack.enter_context(outlets), self._watcher  # a marker does not wait for a screen

    def _publisher(
        self,
        settings: StreamSettings,
        info: StreamInfo,
        journal: Journal,
        mqtt: MqttSink | None,
        jsonl: JsonlSink | None,
        observers: tuple[Observer, ...],
    ) -> Publisher:
        topics: MqttStream | None = None
        late_after_s = None
        if mqtt is not None:
            topics = mqtt.stream(
                settings.name,
                journal.outbox,
                lambda command: self._obey(settings.name, command, publisher),
                lambda reason: publisher.event("refused", reason),
            )
        if isinstance(settings.source, LIVE) and self._settings.mqtt is not None:
            late_after_s = self._settings.mqtt.late_after_s
        publisher = Publisher(
            settings.name,
            journal.meta.session,
            info,
            journal,
            topics,
            jsonl,
            observers,
            self._clock,
            late_after_s,
        )
        return publisher

    async def _react(
        self, settings: StreamSettings, publisher: Publisher, session: Path, stack: AsyncExitStack
    ) -> None:
        """Let the stream's triggers hear its scores."""
        if settings.trigger:
            actions = Actions(lambda problem: publisher.event("error", problem))
            await stack.enter_async_context(actions)
            live = isinstance(settings.source, LIVE)
            reflexes = Reflexes(
                settings.trigger, settings.hop_s, publisher, actions, self._clock, live, session
            )
            self._reflexes[settings.name] = reflexes
            publisher.listeners.append(reflexes.push)

    def _obey(self, stream: str, command: CommandPayload, publisher: Publisher) -> None:
        """Do what a client asked for over MQTT."""
        name, text = command.command, command.text
        reflexes = self._reflexes.get(stream)
        refused = ""
        if name == "stop":
            self.stop()
        elif name == "arm_trigger" or name == "disarm_trigger":
            refused = reflexes.arm(text, name == "arm_trigger") if reflexes else "this stream has no trigger"
        elif name == "lights_off" or name == "lights_on" or name == "mark":
            publisher.command(name, text)
            if name == "lights_off" and reflexes:
                reflexes.lights_off()
        else:
            refused = "this stream has no alarm"
        if refused:
            publisher.event("refused", f"{name}: {refused}")
        elif name == "arm_trigger" or name == "disarm_trigger":
            publisher.event("mark", f"{name} {text}".strip())


def _create_journal(path: Path, meta: Meta, clock: Clock, deliver: bool) -> Journal:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"cannot make folder {path.parent}: {error.strerror}; choose another") from error
    return Journal.create(path, meta, clock, deliver=deliver)


def utc_compact(seconds: float) -> str:
    """Write a Unix time as 20261123T221500Z, fit for a file name."""
    return utc(seconds).strftime("%Y%m%dT%H%M%SZ")
