"""One process: one model, the sinks, and a stream for each sleeper."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from streamer.clock import Clock
from streamer.errors import RunError, SleepstreamError, explain
from streamer.live.batching import Batcher
from streamer.live.bedside import Bedside
from streamer.live.claim import Claim
from streamer.live.notify import Heart
from streamer.live.packer import Packer
from streamer.live.shared import Shared
from streamer.live.sleeper import Sleeper
from streamer.live.supervisor import Outcome, Supervisor
from streamer.network.stager import Model, open_model
from streamer.news import MqttStatus, Sink
from streamer.night.morning import Launch
from streamer.settings import Settings, StreamSettings
from streamer.sinks.broker import Broker
from streamer.sinks.handover import Aside, HandOver, guard
from streamer.sinks.homeassistant import HomeAssistant
from streamer.sinks.mqtt import MqttSink
from streamer.sources.opener import Opener
from streamer.web.access import TOKEN_VARIABLE
from streamer.web.page import Page
from streamer.web.server import WebServer

__all__ = ["Engine", "Outcome"]

log = logging.getLogger(__name__)
KEEP_S = 10.0  # between two checks that the lock files are in place
DELIVERY_S = 10.0  # at the end of a recording, for the undelivered messages


class Engine:
    """Runs every stream of the settings until all have ended or `stop` is set.

    A stream that fails leaves the others alone; its error is in its outcome. Streams share the model's
    weights and its one thread.

    Args:
        settings: as read from the TOML file.
        clock: time.
        watcher: a sink for all news: a terminal, a test. One that may wait gets a thread of its own.
        session_path: makes the path of a session's file from its identity; default: in
            `settings.session_dir`.
        resume_s: an unfinished session in `settings.session_dir` is continued if its last sample is no older
            than this. 0: always start a new one. None: likewise, and earlier sessions' undelivered messages
            are not sent either.
        sources: makes a stream's source from its settings; default: `open_source`.
        launch: runs the process that writes a night's report; default: `written_aside`.
        begun: called with the number of streams, whenever a session has begun.

    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        watcher: Sink | Aside,
        session_path: Callable[[str], Path] | None = None,
        resume_s: float | None = None,
        sources: Opener | None = None,
        launch: Launch | None = None,
        begun: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._launch = launch
        self._begun = begun
        self._clock = clock
        self._aside = None if isinstance(watcher, Aside) or watcher.prompt else Aside(watcher, clock)
        self._watcher = self._aside or guard(watcher, clock)
        self._sinks = HandOver([self._watcher], clock)  # for news of the whole process
        self._session_path = session_path or (lambda session: settings.session_dir / f"{session}.sqlite")
        self._bedsides: dict[str, Bedside] = {}  # by stream
        self._resume_s = resume_s
        self._page = None if settings.web is None else Page(clock)
        self.sleepers: list[Sleeper] = []
        self._supervisors: list[Supervisor] = []
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End every stream soon. All samples that have arrived are scored, published and recorded."""
        self._stop.set()

    async def run(self) -> list[Outcome]:
        """Run to the end.

        Raises:
            ArtifactError: the model cannot be used.
            SinkError: the embedded broker or the page cannot listen, or a certificate cannot be read.
            SettingsError: the page would be open to the network without a proper token.
            TakenError: another engine has the node, or records one of the streams.

        """
        async with AsyncExitStack() as stack:
            claim = stack.enter_context(self._claim())
            keeper = asyncio.create_task(self._keep(claim), name="claim")
            stack.callback(keeper.cancel)
            if self._aside is not None:
                stack.push_async_callback(asyncio.to_thread, self._aside.__enter__().close)
            try:
                await self._wind(stack)
                return await self._run()
            except Exception as error:  # of any kind: it must not end the alarm
                said = _said(error)
                await self._outlast(str(said))
                raise said from error

    async def _wind(self, stack: AsyncExitStack) -> None:
        """Start every alarm, before anything that may fail."""
        for settings in self._settings.stream:
            bedside = Bedside(
                settings, self._settings.session_dir, self._settings.node, self._clock, self.stop
            )
            self._bedsides[settings.name] = await stack.enter_async_context(bedside)

    def _claim(self) -> Claim:
        """Make the claim on the node's name and the streams."""
        settings, goes_on = self._settings, self._resume_s is not None
        heard = settings.lsl is not None or (settings.mqtt is not None and not settings.mqtt.embedded)
        streams = [stream.name for stream in settings.stream] if goes_on else []
        return Claim(settings.node if goes_on or heard else None, settings.session_dir, streams)

    async def _keep(self, claim: Claim) -> None:
        """Renew the claim regularly, because folders may be deleted or moved in the night."""
        while True:
            await self._clock.sleep(KEEP_S)
            await asyncio.to_thread(claim.mend)

    async def _outlast(self, why: str) -> None:
        """Wait until armed alarms have rung, after all else has ended."""
        async with asyncio.TaskGroup() as group:
            for stream, bedside in self._bedsides.items():
                group.create_task(bedside.outlast(why, self._stop), name=f"alarm of {stream}, alone")

    async def _run(self) -> list[Outcome]:
        load = partial(open_model, self._settings.model)
        with ThreadPoolExecutor(1, thread_name_prefix="model") as worker:
            model = await asyncio.get_running_loop().run_in_executor(worker, load)
            async with AsyncExitStack() as journals, AsyncExitStack() as sinks:
                mqtt = await self._open_mqtt(sinks)
                if self._settings.web is not None and self._page is not None:
                    token = os.environ.get(TOKEN_VARIABLE)
                    await sinks.enter_async_context(WebServer(self._settings.web, self._page, token))
                await sinks.enter_async_context(Heart(self._clock, self._stuck_s))
                keeper = Packer(self._settings, self._clock)
                if self._resume_s is not None:  # not for a replay, whose folder is the user's
                    await sinks.enter_async_context(keeper)
                shared = replace(self._shared(model, mqtt, journals, worker), closed=keeper.night_ended)
                outcomes = await self._run_streams(shared, Batcher(worker, self._clock))
                if mqtt is not None and not self._stop.is_set():
                    await self._deliver(mqtt)
                await self._outlast("every stream has ended")  # while commands can still reach the alarm
                return outcomes

    def _shared(
        self, model: Model, mqtt: MqttSink | None, journals: AsyncExitStack, worker: Executor
    ) -> Shared:
        return Shared(
            settings=self._settings,
            model=model,
            clock=self._clock,
            watcher=self._watcher,
            mqtt=mqtt,
            page=self._page,
            stack=journals,
            session_path=self._session_path,
            resume_s=self._resume_s,
            worker=worker,
            launch=self._launch,
            begun=partial(self._begun, len(self._settings.stream)),
        )

    def _stuck_s(self) -> float:
        """Return how long the slowest stream has been busy with one item, s."""
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
        sink = MqttSink(settings, self._settings.node, self._clock, self._tell_broker, home)
        return await sinks.enter_async_context(sink)

    async def _deliver(self, mqtt: MqttSink) -> None:
        """Wait until the broker has everything; undelivered messages stay in the session file."""
        try:
            async with asyncio.timeout(DELIVERY_S):
                await mqtt.flush()
        except TimeoutError:
            self._tell_broker(mqtt.status)

    def _tell_broker(self, status: MqttStatus) -> None:
        self._sinks.hear("", status)

    async def _run_streams(self, shared: Shared, batcher: Batcher) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._run_stream(stream, shared, batcher), name=stream.name)
                for stream in self._settings.stream
            ]
        return [task.result() for task in tasks]

    async def _run_stream(self, settings: StreamSettings, shared: Shared, batcher: Batcher) -> Outcome:
        """Run one stream to its end; its errors do not end others."""
        try:
            sleeper = Sleeper(settings, self._bedsides[settings.name], shared)
            self.sleepers.append(sleeper)
            supervisor = Supervisor(
                settings,
                self._clock,
                batcher,
                sleeper.begin,
                sleeper.pipeline,
                self._sources,
                sleeper,
                sleeper.signal,
            )
            self._supervisors.append(supervisor)
            return await supervisor.run(self._stop)
        except Exception as error:
            return Outcome(settings.name, None, error=_said(error))


def _said(error: Exception) -> SleepstreamError:
    """Turn an error into a SleepstreamError: the first of a group that is one, else an internal error."""
    if isinstance(error, SleepstreamError):
        return error
    if isinstance(error, ExceptionGroup):
        family: Exception | None = error.split(SleepstreamError)[0]
        while isinstance(family, ExceptionGroup):
            family = family.exceptions[0]
        if isinstance(family, SleepstreamError):
            return family
    log.error("internal error: %s", explain(error), exc_info=error)
    return RunError(f"internal error: {explain(error)}; the log says where")
