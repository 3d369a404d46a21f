"""The alarm's noise: a program repeated until `end`, or the bell if that fails."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

from streamer.clock import Clock
from streamer.reactions.actions import run
from streamer.reactions.bell import ring
from streamer.reactions.leash import Leash, end_marked
from streamer.reactions.settings import AlarmSettings

PAUSE_S = 1.0  # between two repetitions
log = logging.getLogger(__name__)


class Noise:
    """One sleeper's noise: at most one program at a time, none of which outlives this process.

    Args:
        stream: name of the sleeper.
        settings: the `[stream.alarm]` table.
        path: of the alarm's file; it marks the programs' environments, so that they can be found again.
        clock: time.
        bell: rings if there is no program, or it fails.
        complain: gets one line about what failed; may raise.

    """

    def __init__(
        self,
        stream: str,
        settings: AlarmSettings,
        path: Path,
        clock: Clock,
        bell: Callable[[], None] | None,
        complain: Callable[[str], None],
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._mark = f"{path.resolve()}:"
        self._clock = clock
        self._bell = bell or ring
        self._complain = complain
        self._leash = Leash()
        self._numbers = count()
        self._task: asyncio.Task[None] | None = None
        self._cleaning: set[asyncio.Task[None]] = set()

    @property
    def on(self) -> bool:
        """Whether it sounds."""
        return self._task is not None

    def begin(self, cause: str) -> None:
        """Sound until `end`."""
        if self._task is None:
            self._task = asyncio.create_task(self._repeat(cause), name=f"ringing for {self._stream}")

    def end(self) -> None:
        """Stop the noise now."""
        if self._task is not None:
            self._task.cancel()
            self._cleaning.add(self._task)
            self._task.add_done_callback(self._cleaning.discard)
            self._task = None

    async def close(self) -> None:
        """Stop the noise, and wait until its programs have ended."""
        self.end()
        if self._cleaning:
            await asyncio.wait(self._cleaning)
        self._leash.close()

    async def clear(self) -> None:
        """Kill programs that a crashed process left running."""
        if await asyncio.to_thread(end_marked, self._environment("")):
            log.warning("ended the noise that an earlier process left running for %s", self._stream)

    def _environment(self, number: str) -> str:
        return f"SLEEPSTREAM_ALARM={self._mark}{number}"

    async def _repeat(self, cause: str) -> None:
        """Repeat until cancelled, whatever goes wrong."""
        number = f"{os.getpid()}.{next(self._numbers)};"
        said: set[str] = set()
        try:
            while True:
                for problem in await self._once(cause, number):
                    if problem not in said:
                        said.add(problem)
                        self._say(f"alarm: {problem}")
                await self._clock.sleep(PAUSE_S)
        finally:  # ends also children in the background or in another group
            if self._settings.command is not None:
                await asyncio.to_thread(end_marked, self._environment(number))

    async def _once(self, cause: str, number: str) -> list[str]:
        """Run the program once, or ring the bell; return what went wrong."""
        problem = ""
        if self._settings.command is not None:
            facts = {"name": "alarm", "stream": self._stream, "cause": cause, "alarm": self._mark + number}
            try:
                problem = await run(self._settings.command, self._settings.ring_s, facts, self._leash)
            except Exception as error:  # such as out of memory: the bell still rings
                problem = f"cannot run {self._settings.command[0]}: {error!r}"
            if not problem:
                return []
        try:
            self._bell()
        except Exception as error:  # its terminal is gone; the next repetition tries again
            return [one for one in (problem, f"the terminal's bell does not ring: {error}") if one]
        return [f"{problem}; the terminal's bell rings instead"] if problem else []

    def _say(self, problem: str) -> None:
        try:
            self._complain(problem)
        except Exception:
            quietly_log("a problem of the alarm of %s was not reported: %s", self._stream, problem)


def quietly_log(text: str, *values: object) -> None:
    """Log the current exception; ignore a failure to log."""
    try:
        log.exception(text, *values)
    except Exception:
        return
