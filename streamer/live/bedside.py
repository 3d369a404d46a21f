"""One sleeper's triggers and alarm, and the commands for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.clock import Clock, unless_stopped
from streamer.errors import JournalError, explain
from streamer.journal import JournalReader
from streamer.journal.candidates import sessions
from streamer.live.resume import Rewarmed
from streamer.messages import Item
from streamer.payloads import CommandName, CommandPayload, EventPayload, utc
from streamer.reactions.actions import Actions
from streamer.reactions.alarm import Change
from streamer.reactions.alarm_clock import AlarmClock
from streamer.reactions.arms import ArmList, arm_path
from streamer.reactions.firings import FiringLog
from streamer.reactions.memory import Memory
from streamer.reactions.reflexes import Reflexes
from streamer.settings import StreamSettings
from streamer.sinks.handover import Aside, Reaction
from streamer.sinks.publisher import Publisher
from streamer.sources.settings import LIVE

ASKED = 5  # last sessions that are searched for events of the alarm
NO_SESSION = "no session has begun: the device is looked for"
log = logging.getLogger(__name__)


class Bedside:
    """One sleeper's triggers and alarm; a context manager that owns the alarm's tasks.

    It is entered before anything that may fail, so that the alarm outlives it; `attach` connects each
    session.

    Args:
        settings: of the stream.
        folder: of the session files and of the alarm's state.
        node: name of this engine.
        clock: time.
        stop: stops the engine.

    """

    def __init__(
        self, settings: StreamSettings, folder: Path, node: str, clock: Clock, stop: Callable[[], None]
    ) -> None:
        self.alarm: AlarmClock | None = None
        self.reflexes: Reflexes | None = None
        self._settings = settings
        self._folder = folder
        self._node = node
        self._clock = clock
        self._stop = stop
        self._darkened = ("", 0)  # the session and the epoch in which the lights went off last
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        settings = self._settings
        if settings.alarm is not None:
            path = self._folder / f"{settings.name}@{self._node}.alarm.json"
            past = await asyncio.to_thread(self._alarm_events)
            alarm = AlarmClock(settings.name, settings.alarm, path, self._clock, past)
            self.alarm = await self._stack.enter_async_context(alarm)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def attach(
        self,
        publisher: Publisher,
        session: Path,
        stack: AsyncExitStack,
        past: Rewarmed | None = None,
        events: Sequence[EventPayload] = (),
        before: Path | None = None,
    ) -> None:
        """Connect triggers and alarm to a session's scores.

        Args:
            publisher: of the session.
            session: its file.
            stack: ends with the session.
            past: the scores of an earlier process of this session.
            events: its events.
            before: a crashed session that is not continued; its firings count in this one.

        """
        settings = self._settings
        if settings.trigger:
            actions = Actions(lambda problem: publisher.event("error", problem))
            await stack.enter_async_context(actions)
            live = isinstance(settings.source, LIVE)
            arms = Aside(ArmList(arm_path(session)), self._clock).__enter__() if live else None
            if arms is not None:
                stack.push_async_callback(asyncio.to_thread, arms.close)
            firings = await stack.enter_async_context(FiringLog(session.with_suffix(".firings"), live))
            if before is not None:
                await asyncio.to_thread(firings.inherit, before, publisher.info.started)
            self.reflexes = Reflexes(
                settings.trigger,
                publisher,
                actions,
                self._clock,
                live,
                session,
                firings,
                arms,
                settings.signal,
            )
            if past is not None:
                self.reflexes.restore(past.scores, events)
                session_dark, epoch = self._darkened
                if session_dark == publisher.session:  # while the record was read back
                    self.reflexes.lights_off(epoch)
            publisher.first(Reaction("the triggers", self.reflexes.push))
        if self.alarm is not None:
            self.alarm.restore(past.scores if past is not None else ())
            self._attach_alarm(self.alarm, publisher, events)
            stack.callback(self.alarm.unheard)

    def hear(self, session: str, item: Item) -> None:
        """Pass live samples to the triggers that wait for a phase. Never raises.

        Samples of a session that is not attached yet are ignored.
        """
        if self.reflexes is None or self.reflexes.session != session:
            return
        try:
            self.reflexes.hear(item)
        except Exception as error:
            log.exception("%s: the phase of slow waves is no longer followed", self._settings.name)
            self.reflexes.deafen(explain(error))

    def obey(self, command: CommandPayload, publisher: Publisher | None) -> str:
        """Carry out a client's command, or refuse it with an event. Without a session `publisher` is None.

        Returns:
            Why it was refused, in one line, or "". A command that raises is refused and changes nothing.

        """
        try:
            refused = self._do(command.command, command.text, publisher)
        except Exception as error:
            log.exception("%s: command %s failed", self._settings.name, command.command)
            refused = f"internal error, nothing was changed: {explain(error)}"
        if refused and publisher is not None:
            publisher.event("refused", f"{command.command}: {refused}", {"id": command.id})
        elif refused:
            log.warning("%s: %s refused: %s", self._settings.name, command.command, refused)
        return refused

    def _do(self, name: CommandName, text: str, publisher: Publisher | None) -> str:
        """Carry out a command; return why it was refused, or ""."""
        if name == "stop":
            self._stop()
            return ""
        if name == "arm_trigger" or name == "disarm_trigger":
            return self._arm_trigger(text, name == "arm_trigger", publisher)
        if name == "lights_off" or name == "lights_on" or name == "mark":
            if publisher is None:
                return NO_SESSION
            epoch = publisher.command(name, text)
            if name == "lights_off":
                self._darkened = publisher.session, epoch
                if self.reflexes is not None:
                    self.reflexes.lights_off(epoch)
            return ""
        return "this stream has no alarm" if self.alarm is None else self.alarm.obey(name, text)

    async def outlast(self, why: str, stop: asyncio.Event) -> None:
        """Wait until the alarm has rung, after all else has ended. Returns at once for a recording."""
        alarm = self.alarm
        if alarm is None or alarm.memory.state == "disarmed" or not isinstance(self._settings.source, LIVE):
            return
        name, state = self._settings.name, alarm.memory.state
        if stop.is_set():
            log.warning("the alarm of %s is %s; it rings again only while sleepstream runs", name, state)
            return
        log.error("%s; the alarm of %s stays %s; a command or Ctrl-C ends it", why, name, state)
        await unless_stopped(stop, alarm.over())

    def _arm_trigger(self, text: str, armed: bool, publisher: Publisher | None) -> str:
        if not self._settings.trigger:
            return "this stream has no trigger"
        if publisher is None:
            return NO_SESSION
        if self.reflexes is None:
            return "the session is still being read back; ask again in some seconds"
        before = self.reflexes.armed
        refused = self.reflexes.arm(text, armed)
        if refused:
            return refused
        said = f"{text or 'all triggers'} {'armed' if armed else 'disarmed'}"
        try:
            publisher.event("mark", said, {"trigger": text, "armed": armed})
        except BaseException:
            for name, was in before.items():
                self.reflexes.arm(name, was)
            raise
        return ""

    def _attach_alarm(self, alarm: AlarmClock, publisher: Publisher, events: Sequence[EventPayload]) -> None:
        def tell(change: Change, memory: Memory) -> None:
            data = {"what": change.what, **asdict(memory), "test": change.test}
            if change.test and change.what == "ringing":
                data["state"] = "ringing"
            publisher.urgent("alarm", f"{change.what.replace('_', ' ')}: {change.cause}", data)
            _publish(publisher, alarm)

        alarm.hear(tell, lambda problem: publisher.event("error", problem))
        if isinstance(self._settings.source, LIVE):  # a clock that is set makes no stage of a device late
            publisher.first(Reaction("the alarm", lambda score, _: alarm.push(score, publisher.age_s(score))))
        else:
            wall = self._clock.wall
            publisher.first(Reaction("the alarm", lambda score, end: alarm.push(score, wall() - end)))
        memory = alarm.memory
        _publish(publisher, alarm)
        told = [event.data for event in events if event.event == "alarm" and not event.data.get("test")]
        states = [data.get("state") for data in told]
        if memory.state != "disarmed" or states[-1:] not in ([], ["disarmed"]):  # it may have rung in vain
            said = f"{memory.state}: for {utc(memory.deadline):%Y-%m-%d %H:%M} UTC"
            publisher.event("alarm", said, {"what": memory.state, **asdict(memory), "test": False})

    def _alarm_events(self) -> list[EventPayload]:
        """Read the alarm's events of the last sessions, in case its own file is older or missing."""
        found: list[EventPayload] = []
        try:
            for path in islice(sessions(self._folder, self._node, self._settings.name), ASKED):
                try:
                    with JournalReader(path) as reader:
                        found = [*reader.events("alarm"), *found]
                except JournalError as error:
                    log.warning("%s", error)
        except Exception:  # whatever is wrong with them, the alarm must start
            log.exception("the sessions of %s cannot be searched for alarm events", self._settings.name)
        return found


def _publish(publisher: Publisher, alarm: AlarmClock) -> None:
    """Publish the alarm's state in its session."""
    publisher.alarm(alarm.said)
