"""The smart alarm at work: its own task, its own memory, its own noise; nothing else has to be alive.

It is wound before the model is loaded and before any source is opened, and outlasts both. What it remembers
lies in a small file of its own, since there may be no session; sessions bear every change as an event.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from streamer import private
from streamer.clock import Clock
from streamer.messages import Score
from streamer.payloads import EventPayload
from streamer.reactions.actions import run
from streamer.reactions.alarm import Alarm, Change, Memory
from streamer.reactions.bell import ring
from streamer.reactions.settings import AlarmSettings

TICK_S = 1.0
PAUSE_S = 1.0  # between two repetitions of the noise
FRESH_S = 60.0  # a score that ended longer ago says nothing about now

Command = Literal["arm_alarm", "disarm_alarm", "snooze_alarm", "dismiss_alarm", "test_alarm"]
Listener = Callable[[Change, Memory], None]
log = logging.getLogger(__name__)
_MEMORY = TypeAdapter(Memory)


class AlarmClock:
    """One sleeper's alarm; a context manager that owns its tasks.

    Args:
        stream: name of the sleeper.
        settings: the `[stream.alarm]` table.
        path: where it remembers.
        clock: time.
        past: events of the newest session; they tell what is missing where the file is.
        bell: makes the noise when there is no command, or it fails.

    Attributes:
        on_change: told every change and the state after it; set it when there is someone to tell.
        on_problem: told in one line what did not work.

    """

    def __init__(
        self,
        stream: str,
        settings: AlarmSettings,
        path: Path,
        clock: Clock,
        past: Iterable[EventPayload] = (),
        bell: Callable[[], None] | None = None,
    ) -> None:
        self.on_change: Listener = _nobody
        self.on_problem: Callable[[str], None] = log.error
        self._stream = stream
        self._settings = settings
        self._path = path
        self._clock = clock
        self._bell = bell or ring
        memory = recall(path, past)
        self._alarm = Alarm(settings, memory, clock.wall(), clock.monotonic())
        self._written = self._alarm.memory
        self._ringing: asyncio.Task[None] | None = None
        self._testing: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = threading.Lock()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()  # neither armed nor ringing
        self.saved = asyncio.Event()  # the file says what is so

    def unheard(self) -> None:
        """Tell nobody, from now on: the session has ended."""
        self.on_change = _nobody
        self.on_problem = log.error

    @property
    def memory(self) -> Memory:
        """The state now."""
        return self._alarm.memory

    async def __aenter__(self) -> Self:
        self._take(self._alarm.begin(self._clock.wall(), self._clock.monotonic()))
        self._settle()
        self._tasks = [
            asyncio.create_task(self._tick(), name=f"alarm of {self._stream}"),
            asyncio.create_task(self._remember(), name=f"memory of the alarm of {self._stream}"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (*self._tasks, self._ringing, self._testing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if self._written != self.memory:  # a write that was cancelled has perhaps not begun
            await asyncio.to_thread(self._write)

    def recall(self, scores: Iterable[Score]) -> None:
        """Begin with a session, or go on with one, whose scores so far these are; nothing rings for them."""
        self._alarm.recall(scores)

    def push(self, score: Score, end: float) -> None:
        """Take a score that ended at Unix time `end`; one that comes late is left aside."""
        now = self._clock.wall()
        if now - end <= FRESH_S:
            self._take(self._alarm.push(score, now, self._clock.monotonic()))

    def obey(self, command: Command, text: str = "") -> str:
        """Do what was asked; why not, in one line, or ""."""
        now, steady = self._clock.wall(), self._clock.monotonic()
        if command == "test_alarm":
            return self._test()
        if command == "arm_alarm":
            done = self._alarm.arm(text, now, steady)
        elif command == "disarm_alarm":
            done = self._alarm.disarm()
        elif command == "snooze_alarm":
            done = self._alarm.snooze(now, steady)
        else:
            done = self._alarm.dismiss(now, steady)
        if isinstance(done, str):
            return done
        self._take(done)
        return ""

    async def over(self) -> None:
        """Wait until it is neither armed nor ringing."""
        await self._idle.wait()

    async def _tick(self) -> None:
        while True:
            self._take(self._alarm.tick(self._clock.wall(), self._clock.monotonic()))
            await self._clock.sleep(TICK_S)

    def _take(self, change: Change | None) -> None:
        """Make the noise fit the state, first of all; then tell, then remember."""
        if change is None:
            return
        self._settle()
        self._changed.set()
        self.saved.clear()
        self.on_change(change, self.memory)

    def _settle(self) -> None:
        state = self.memory.state
        if state == "ringing" and self._ringing is None:
            self._ringing = asyncio.create_task(self._ring(), name=f"ringing for {self._stream}")
        elif state != "ringing" and self._ringing is not None:
            self._ringing.cancel()
            self._ringing = None
        if state == "disarmed":
            self._idle.set()
        else:
            self._idle.clear()

    async def _ring(self) -> None:
        """Repeat the noise until cancelled."""
        complained = False
        while True:
            problem = "no command is set"
            if self._settings.command is not None:
                facts = {"name": "alarm", "stream": self._stream, "cause": self.memory.state}
                problem = await run(self._settings.command, self._settings.ring_s, facts)
                if problem and not complained:
                    complained = True
                    self.on_problem(f"alarm: {problem}; the terminal's bell rings instead")
            if problem:
                self._bell()
            await self._clock.sleep(PAUSE_S)

    def _test(self) -> str:
        if self.memory.state == "ringing" or (self._testing is not None and not self._testing.done()):
            return "it rings already"
        self._testing = asyncio.create_task(self._ring_briefly(), name=f"test ring for {self._stream}")
        return ""

    async def _ring_briefly(self) -> None:
        ringing = asyncio.create_task(self._ring(), name=f"ringing for {self._stream}, as a test")
        try:
            await self._clock.sleep(self._settings.test_s)
        finally:
            ringing.cancel()
            await asyncio.wait([ringing])

    async def _remember(self) -> None:
        """Write each state down, in a thread: a disk that hangs must not hold up the noise."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.to_thread(self._write)
            if not self._changed.is_set():
                self.saved.set()

    def _write(self) -> None:
        """Replace the file; in one thread at a time, since a cancelled one goes on."""
        fresh = self._path.with_name(self._path.name + ".new")
        with self._writing:
            memory = self.memory
            try:
                private.make_folder(self._path.parent)
                with open(fresh, "w", encoding="utf-8", opener=private.opener) as file:
                    json.dump(asdict(memory), file)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self._path)
                self._written = memory
            except OSError as error:
                reason = error.strerror
                log.error("cannot write %s: %s; a restart would forget the alarm", self._path, reason)


def recall(path: Path, past: Iterable[EventPayload] = ()) -> Memory | None:
    """What an alarm remembers: its file, or else what the newest session says of it."""
    try:
        return _MEMORY.validate_json(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValidationError) as error:
        log.warning("cannot read %s (%s); the newest session is asked instead", path, type(error).__name__)
    told = [event.data for event in past if event.event == "alarm" and "due" in event.data]
    if not told:
        return None
    kept = {key: told[-1].get(key) for key in Memory.__dataclass_fields__}
    try:
        return _MEMORY.validate_python(kept)
    except ValidationError:
        return None


def _nobody(_change: Change, _memory: Memory) -> None:
    """Hear nothing."""
