"""Publishes each ended night of a sleeper and has its report written, including reports missed earlier."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Protocol

from streamer.clock import Clock
from streamer.errors import SleepstreamError, explain
from streamer.night.ending import Ending
from streamer.night.morning import Launch, Link, Morning
from streamer.payloads import EventData, EventName, NightPayload
from streamer.settings import Settings, StreamSettings

LATER_S = 60.0  # margin after the time in which a crashed session can still be continued
log = logging.getLogger(__name__)


class Herald(Protocol):
    """Publishes news about ended nights, whether or not a session is being recorded."""

    def night(self, payload: NightPayload) -> None:
        """Publish the last night's figures."""
        ...

    def links(self, links: Sequence[Link]) -> None:
        """Show the links to the reports."""
        ...

    def say(self, name: EventName, text: str, data: EventData) -> None:
        """Publish an event."""
        ...


class Nights:
    """Owns the tasks that write reports. `close` cancels them; an unwritten report is made at the next start.

    Args:
        stream: settings of the sleeper.
        settings: settings of the engine.
        clock: time.
        turn: lets only one report be written at a time, over all sleepers.
        herald: publishes the nights.
        launch: runs the process that writes a report; default: `write_aside`.

    """

    def __init__(
        self,
        stream: StreamSettings,
        settings: Settings,
        clock: Clock,
        turn: asyncio.Semaphore,
        herald: Herald,
        launch: Launch | None = None,
    ) -> None:
        self._settings = settings.night
        self._zone = settings.night.tz or (stream.alarm.tz if stream.alarm is not None else None)
        self._clock = clock
        self._herald = herald
        self._active: Path | None = None  # the session that is being recorded
        self._told: NightPayload | None = None  # the last night that was published
        self._done: set[Path] = set()  # sessions that need no more work
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling = asyncio.Lock()  # two reports may come at once: what is known last is told last
        self._morning = Morning(
            settings.night, self._zone, settings.session_dir, settings.node, stream.name, clock, turn, launch
        )

    def ending(self) -> Ending:
        """Make the rules that end a session's night."""
        return Ending(self._settings, self._zone)

    async def begin(self, resume_s: float) -> bool:
        """Publish the last night again and write missing reports.

        Return whether that night ended by itself.
        """
        self._told = await asyncio.to_thread(self._morning.last)
        if self._told is not None:
            self._herald.night(self._told)
        await self._link()
        self._spawn(self._catch_up(resume_s), "owed reports")
        return await asyncio.to_thread(self._morning.ended_by_itself)

    def began(self, session: Path) -> None:
        """A session has begun or was continued, so no other will be continued."""
        self._active = session
        self._spawn(self._make_up(0.0), "owed reports")

    def ended(self, session: Path) -> None:
        """A night has ended."""
        self._active = None
        self._done.discard(session)
        self._spawn(self._tell(session), "report")

    async def close(self) -> None:
        """Cancel the running tasks and wait for their end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(self._guarded(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        """Await `work`, and log its errors."""
        try:
            await work
        except Exception:
            log.exception("cannot write the reports of earlier nights")

    async def _catch_up(self, resume_s: float) -> None:
        await self._make_up(resume_s)
        await self._clock.sleep(resume_s + LATER_S)
        await self._make_up(resume_s)

    async def _make_up(self, resume_s: float) -> None:
        for session in await asyncio.to_thread(self._morning.owed, self._active, resume_s):
            if session not in self._done and session != self._active:
                await self._tell(session)

    async def _tell(self, session: Path) -> None:
        """Publish a night's figures, have its report written, and publish where it is."""
        if session in self._done:
            return
        self._done.add(session)
        try:
            figures = await asyncio.to_thread(self._morning.figures, session)
            if figures is None:
                return
            await self._keep(figures)
            if self._settings.report:
                await self._write(session, figures)
        except (SleepstreamError, OSError, ValueError, KeyError) as error:
            text = f"no report of {session.stem}: {explain(error)}; trying again at the next start"
            self._herald.say("warning", text, {"session": session.stem})

    async def _write(self, session: Path, figures: NightPayload) -> None:
        payload = await self._morning.report(session, figures)
        await self._keep(payload)
        await self._link()
        data: EventData = {
            "session": payload.session,
            "date": payload.date.isoformat(),
            "report": payload.report,
            "picture": payload.picture,
            "trend": payload.trend,
        }
        text = f"the night of {payload.date}: {session.parent / str(payload.report)}"
        self._herald.say("report", text, data)
        await asyncio.to_thread(self._morning.said, session)

    async def _keep(self, payload: NightPayload) -> None:
        """Store and publish a night's figures, unless a later night was published already."""
        async with self._telling:
            if self._told is not None and self._told.ended > payload.ended:
                return
            self._told = payload
            await asyncio.to_thread(self._morning.keep, payload)
            self._herald.night(payload)

    async def _link(self) -> None:
        """Show the links to all reports that there are."""
        async with self._telling:
            self._herald.links(await asyncio.to_thread(self._morning.links))
