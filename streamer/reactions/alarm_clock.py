"""Runs the smart alarm: its task, its saved state and its noise, independent of all else.

It starts before the model is loaded and before any source is opened, and outlasts both. Its state is in a
small file of its own, because there may be no session. A session records every change as an event.

A change reaches the noise first, then the file, then the listeners, whose exceptions do not stop it.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from streamer.clock import Clock
from streamer.messages import Score
from streamer.payloads import AlarmCommand, AlarmPayload, EventPayload, utc
from streamer.reactions.alarm import Alarm, Change
from streamer.reactions.memory import Memory, load_memory, usual, window_min, write
from streamer.reactions.noise import Noise, quietly_log
from streamer.reactions.settings import AlarmSettings

TICK_S = 1.0
FRESH_S = 60.0  # a score that ended longer ago is ignored
RETRY_S = 2.0  # between two attempts to save the state
UNTOLD = 16  # changes kept until there are listeners
LAST_WRITE_S = 5.0  # longest wait for the disk at the end

Listener = Callable[[Change, Memory], None]
Complaint = Callable[[str], None]
log = logging.getLogger(__name__)


class AlarmClock:
    """One sleeper's alarm; a context manager that owns its tasks.

    Args:
        stream: name of the sleeper.
        settings: the `[stream.alarm]` table.
        path: of the file with its state.
        clock: time.
        past: events of earlier sessions; they serve if the file is missing, damaged or older.
        bell: makes the noise if there is no command, or it fails.

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
        self._stream = stream
        self._settings = settings
        self._path = path
        self._clock = clock
        self._on_change: Listener | None = None
        self._on_problem: Complaint | None = None
        self._on_state: Callable[[], None] = lambda: None
        self._untold: deque[tuple[Change, Memory] | str] = deque(maxlen=UNTOLD)
        self._noise = Noise(stream, settings, path, clock, bell, self._complain)
        memory, doubt = load_memory(path, past, clock.wall())
        if doubt:
            self._complain(doubt)
        self._alarm = Alarm(settings, memory, clock.wall(), clock.monotonic())
        self._kept: Memory | None = None  # the state in the file, if known
        self._test_until: float | None = None  # steady s
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()  # neither armed nor ringing
        self.saved = asyncio.Event()  # the file has the present state

    def hear(self, on_change: Listener, on_problem: Complaint) -> None:
        """Set the listeners, and pass them the changes and problems since there were none.

        Args:
            on_change: gets every change and the state after it.
            on_problem: gets one line about what failed.

        """
        self._on_change, self._on_problem = on_change, on_problem
        untold = list(self._untold)
        self._untold.clear()
        for news in untold:
            if isinstance(news, str):
                self._complain(news)
            else:
                self._tell(*news)

    def unheard(self) -> None:
        """Remove the listeners: the session has ended."""
        self._on_change = self._on_problem = None

    @property
    def memory(self) -> Memory:
        """The state now."""
        return self._alarm.memory

    @property
    def usual(self) -> str:
        """The time of day for which it is, or would be, armed: HH:MM."""
        return f"{usual(self.memory, self._settings):%H:%M}"

    @property
    def window_min(self) -> float:
        """How long before the deadline a stage may ring it, min."""
        return window_min(self.memory, self._settings)

    def said(self, session: str, seq: int) -> AlarmPayload:
        """Return the state to publish; during a test it is ringing, marked as a test."""
        memory = self.memory
        return AlarmPayload(
            session=session,
            seq=seq,
            t=utc(self._clock.wall()),
            state="ringing" if self.testing else memory.state,
            deadline=None if memory.state == "disarmed" else utc(memory.deadline),
            snoozes=memory.snoozes,
            time=self.usual,
            window_min=self.window_min,
            test=self.testing,
        )

    def watch(self, on_state: Callable[[], None]) -> None:
        """Set a callback for every change, with or without a session."""
        self._on_state = on_state

    @property
    def testing(self) -> bool:
        """Whether it rings as a test."""
        return self._test_until is not None

    async def __aenter__(self) -> Self:
        await self._noise.clear()
        changes = self._alarm.begin(self._clock.wall(), self._clock.monotonic())
        for change in (*changes, None):
            self._take(change)
        self._tasks = [
            asyncio.create_task(self._tick(), name=f"alarm of {self._stream}"),
            asyncio.create_task(self._remember(), name=f"memory of the alarm of {self._stream}"),
        ]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._noise.close()
        if self._kept != self.memory:
            try:
                async with asyncio.timeout(LAST_WRITE_S):
                    await asyncio.to_thread(self._write)
            except TimeoutError:
                log.error("%s cannot be written: the disk does not answer", self._path)

    def restore(self, scores: Iterable[Score]) -> None:
        """Take the scores so far of a session that begins or continues; they do not ring the alarm."""
        self._alarm.restore(scores)

    def push(self, score: Score, age_s: float) -> None:
        """Take a score and its age; a late one is ignored."""
        if age_s <= FRESH_S:
            self._take(self._alarm.push(score, self._clock.wall(), self._clock.monotonic()))

    def obey(self, command: AlarmCommand, text: str = "") -> str:
        """Carry out a command; return why it was refused, or "". If it raises, nothing was changed."""
        now, steady = self._clock.wall(), self._clock.monotonic()
        if command == "test_alarm":
            return self._test(steady)
        if command == "dismiss_alarm" and self.testing and self.memory.state not in ("ringing", "snoozed"):
            self._end_test("by command")
            return ""
        trial = copy.copy(self._alarm)
        acts: dict[AlarmCommand, Callable[[], Change | str]] = {
            "arm_alarm": lambda: trial.arm(text, now, steady),
            "set_alarm": lambda: trial.set_time(text, now, steady),
            "set_alarm_window": lambda: trial.set_window(text, now),
            "disarm_alarm": lambda: trial.disarm(now),
            "snooze_alarm": lambda: trial.snooze(now, steady),
            "dismiss_alarm": lambda: trial.dismiss(now, steady),
        }
        done = acts[command]()
        if isinstance(done, str):
            return done
        self._alarm = trial
        self._take(done)
        return ""

    async def over(self) -> None:
        """Wait until it is neither armed nor ringing."""
        await self._idle.wait()

    async def _tick(self) -> None:
        """Check the clocks every second; no exception may end this."""
        while True:
            try:
                now, steady = self._clock.wall(), self._clock.monotonic()
                self._take(self._alarm.tick(now, steady))
                if self._test_until is not None and steady >= self._test_until:
                    self._end_test("it is over")
            except Exception:
                quietly_log("the alarm of %s goes on after an error", self._stream)
            await self._clock.sleep(TICK_S)

    def _take(self, change: Change | None) -> None:
        """Apply a change: first the noise, then the file, then the listeners."""
        self._settle()
        if self._kept != self.memory:
            self.saved.clear()
            self._changed.set()
        if change is not None:
            self._tell(change, self.memory)

    def _settle(self) -> None:
        state = self.memory.state
        if state == "ringing":
            if self._test_until is not None:
                self._test_until = None
                self._noise.end()
            self._noise.begin(state)
        elif self._test_until is None:
            self._noise.end()
        if state == "disarmed":
            self._idle.set()
        else:
            self._idle.clear()

    def _test(self, steady: float) -> str:
        """Ring briefly as a test, and report it like a real ring, so that listeners are tested too."""
        if self._noise.on:
            return "it rings already"
        self._test_until = steady + self._settings.test_s
        self._noise.begin("test")
        self._tell(Change("ringing", f"a test, for {self._settings.test_s:g} s", test=True), self.memory)
        return ""

    def _end_test(self, why: str) -> None:
        self._test_until = None
        self._noise.end()
        self._tell(Change("dismissed", f"the test: {why}", test=True), self.memory)

    def _tell(self, change: Change, memory: Memory) -> None:
        """Pass a change to the listeners; their exceptions are logged."""
        try:
            self._on_state()
        except (Exception, asyncio.CancelledError):
            quietly_log("a change of the alarm of %s was not shown: %s", self._stream, change.what)
        if self._on_change is None:
            log.info("alarm of %s %s: %s", self._stream, change.what, change.cause)
            if not change.test:
                self._untold.append((change, memory))
            return
        try:
            self._on_change(change, memory)
        except (Exception, asyncio.CancelledError):  # not this task's cancellation: nothing is awaited here
            quietly_log("a change of the alarm of %s was not reported: %s", self._stream, change.what)

    def _complain(self, problem: str) -> None:
        try:
            if self._on_problem is None:
                self._untold.append(problem)
                log.error("%s: %s", self._stream, problem)
            else:
                self._on_problem(problem)
        except (Exception, asyncio.CancelledError):
            quietly_log("a problem of the alarm of %s was not reported: %s", self._stream, problem)

    async def _remember(self) -> None:
        """Save each state, in a thread, so that a disk that hangs does not delay the noise.

        A write that fails is repeated until it succeeds.
        """
        refused = ""
        while True:
            await self._changed.wait()
            self._changed.clear()
            why = await asyncio.to_thread(self._write)
            if why and why != refused:
                self._complain(
                    f"cannot write {self._path}: {why}; until it can, a restart may forget the alarm"
                )
            elif refused and not why:
                log.warning("%s is written again", self._path)
            refused = why
            if why:
                self._changed.set()
                await self._clock.sleep(RETRY_S)
            elif self._kept == self.memory:
                self.saved.set()

    def _write(self) -> str:
        """Replace the file; return why that failed, or ""."""
        memory = self.memory
        try:
            write(self._path, memory)
        except OSError as error:
            return error.strerror or str(error)
        except Exception as error:
            return repr(error)
        self._kept = memory
        return ""
