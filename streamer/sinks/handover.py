"""Passes news to every sink, each behind a guard.

A sink cannot end or delay the night, the record, the alarm or another sink. Its exceptions are counted and
reported once, and it gets the next message all the same. A sink that never waits is called on the event loop
(`Guard`); one that may wait has a bounded queue and a thread of its own (`Aside`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Self

from streamer.clock import Clock
from streamer.errors import SleepstreamError, explain
from streamer.messages import Score
from streamer.news import News, Remark, Scored, Sink

MOST = 4096  # messages that may wait for a sink; then the oldest is dropped
STALLED_S = 30.0  # a sink that is busy with one message for so long is stuck
SAY_AGAIN_S = 3600.0  # between two complaints about the same sink
DRAIN_S = 2.0  # at the end, for the messages that still wait
log = logging.getLogger(__name__)


class Guard:
    """Calls one sink that never waits, and catches its exceptions.

    Args:
        sink: the sink.
        clock: for the time between complaints.

    Attributes:
        failures: how many exceptions the sink has raised.
        missed: messages that the sink has not taken since the last one that it took.
        last: its last exception.

    """

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self.failures = 0
        self.missed = 0
        self._sink = sink
        self._clock = clock
        self.last: BaseException | None = None
        self._why = "they came faster than they could be taken"
        self._said_at: float | None = None
        self._complaints: deque[str] = deque(maxlen=8)  # appended by the thread that calls the sink

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._sink.name

    @property
    def wants(self) -> tuple[type, ...]:
        """The kinds of news that the sink takes."""
        return self._sink.wants

    def hear(self, stream: str, news: News) -> None:
        """Pass news to the sink and catch its exceptions; a remark first tells it what it missed."""
        try:
            sink = self._sink
            if not isinstance(news, sink.wants):
                return
            if self.missed:
                self._say_missed()
            sink.hear(stream, news)
        except BaseException as error:  # a plain call contains no cancellation, so all can be caught
            self.missed += 1
            self.failed(error)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Catch exceptions inside the block, as `hear` does."""
        try:
            yield
        except BaseException as error:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """Count a failure, and complain unless that was done within the hour."""
        self.failures += 1
        self.last = error
        self._why = explain(error)
        self.complain(f"{self.name} failed: {self._why}; the night goes on, and it is tried again", error)

    def complain(self, text: str, error: BaseException | None = None) -> None:
        """Complain about this sink in the log and as an event, at most once an hour."""
        now = self._clock.monotonic()
        if self._said_at is not None and now - self._said_at < SAY_AGAIN_S:
            return
        self._said_at = now
        self._complaints.append(text)
        expected = error is None or isinstance(error, OSError | SleepstreamError)
        log.error("%s", text, exc_info=None if expected else error)

    def complaint(self) -> str:
        """The complaint not yet published as an event, or ""."""
        return self._complaints.popleft() if self._complaints else ""

    def _say_missed(self) -> None:
        """Tell the sink how many messages it missed, if it takes remarks."""
        messages = "1 message is" if self.missed == 1 else f"{self.missed} messages are"
        if Remark in self._sink.wants:
            self._sink.hear("", Remark("WARNING", __name__, f"{messages} missing here: {self._why}"))
        self.missed = 0


class Aside(Guard):
    """Runs a sink that may block in its own thread, behind a queue.

    When the queue is full, the oldest message is dropped and counted. The thread is a daemon: even if it is
    stuck in a write (Ctrl-S, a pipe that is not read), the night and the end of the process go on. A sink
    that is a context manager is entered and left in that thread.

    Args:
        sink: the sink.
        clock: for the time since the sink got stuck.
        most: messages that may wait.
        drain_s: at the end, the sink has so long for what is queued, s; default: `DRAIN_S`.

    Attributes:
        dropped: messages that had no room in the queue, in all.

    """

    def __init__(self, sink: Sink, clock: Clock, most: int = MOST, drain_s: float | None = None) -> None:
        super().__init__(sink, clock)
        self._drain_s = drain_s
        self.dropped = 0
        self._most = most
        self._waiting: deque[tuple[str, News]] = deque()
        self._unsaid = 0  # dropped messages that the sink was not told of yet
        self._ready = threading.Condition()
        self._closing = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"sink: {sink.name}", daemon=True)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hear(self, stream: str, news: News) -> None:
        """Queue news for the thread. Never blocks."""
        if not isinstance(news, self.wants):
            return
        self._begin()
        with self._ready:
            self._waiting.append((stream, news))
            if len(self._waiting) > self._most:
                self._waiting.popleft()
                self.dropped += 1
                self._unsaid += 1
            self._ready.notify()

    def complaint(self) -> str:
        """The complaint not yet published as an event, or ""; also if the sink is stuck."""
        since = self._busy_since
        if since is not None and self._clock.monotonic() - since > STALLED_S:
            self.complain(f"{self.name} is stuck and takes nothing; the night goes on")
        return super().complaint()

    def close(self) -> bool:
        """Let the sink take what is queued, for at most `drain_s`; return whether it did."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        if self._thread.ident is not None:
            self._thread.join(DRAIN_S if self._drain_s is None else self._drain_s)
        ended = not self._thread.is_alive()
        if not ended:
            log.error("%s did not take its last messages (%d) in time", self.name, len(self._waiting) + 1)
        return ended

    def _begin(self) -> None:
        """Start the thread unless it runs. If that fails, the next message tries again."""
        if self._thread.ident is None:
            try:
                self._thread.start()
            except RuntimeError as error:
                self.failed(error)

    def _run(self) -> None:
        with ExitStack() as stack:
            if isinstance(self._sink, AbstractContextManager):
                self._busy_since = self._clock.monotonic()
                with self.trying():
                    self._sink.__enter__()
                    stack.callback(self._leave, self._sink)
                self._busy_since = None
            while (item := self._next()) is not None:
                super().hear(*item)
                self._busy_since = None

    def _leave(self, sink: AbstractContextManager[object]) -> None:
        with self.trying():
            sink.__exit__(None, None, None)

    def _next(self) -> tuple[str, News] | None:
        """Wait for a message; None if there are no more."""
        with self._ready:
            while not self._waiting and not self._closing:
                self._ready.wait()
            if not self._waiting:
                return None
            self.missed += self._unsaid
            self._unsaid = 0
            self._busy_since = self._clock.monotonic()
            return self._waiting.popleft()


def guard(sink: Sink | Guard, clock: Clock) -> Guard:
    """Put a sink behind a guard, unless it is behind one. A sink that may block must be in an `Aside`.

    Raises:
        ValueError: the sink is not prompt.

    """
    if isinstance(sink, Guard):
        return sink
    if not sink.prompt:
        raise ValueError(f"{sink.name} may wait: it needs a thread of its own (Aside)")
    return Guard(sink, clock)


class HandOver:
    """Passes news to every sink: first to those added by `first`, then to the others."""

    def __init__(self, sinks: Iterable[Sink | Guard], clock: Clock) -> None:
        self._clock = clock
        self._first = 0  # how many of the outlets are first ones
        self._outlets = tuple(guard(sink, clock) for sink in sinks)
        self._takers: dict[type, tuple[Guard, ...]] = {}  # by the kind of news, as asked for so far

    def first(self, sink: Sink | Guard) -> None:
        """Add a sink to the first ones."""
        at = self._first
        self._outlets = (*self._outlets[:at], guard(sink, self._clock), *self._outlets[at:])
        self._first += 1
        self._takers = {}

    def hear(self, stream: str, news: News) -> None:
        """Pass news to every sink that wants them. Never raises."""
        for outlet in self._takers_of(type(news)):
            outlet.hear(stream, news)

    def wanted(self, kind: type) -> bool:
        """Whether any sink wants this kind of news."""
        return bool(self._takers_of(kind))

    def _takers_of(self, kind: type) -> tuple[Guard, ...]:
        takers = self._takers.get(kind)
        if takers is None:
            takers = self._takers[kind] = tuple(outlet for outlet in self._outlets if _takes(outlet, kind))
        return takers

    def complaints(self) -> list[tuple[str, str]]:
        """Return name and complaint of each sink that failed or got stuck since the last call."""
        return [(outlet.name, text) for outlet in self._outlets if (text := outlet.complaint())]


def _takes(outlet: Guard, kind: type) -> bool:
    try:
        return issubclass(kind, outlet.wants)
    except BaseException:  # of any kind: it is told, and its guard takes care of what it raises
        return True


class Reaction:
    """A sink that takes only scores: the triggers, the alarm.

    Args:
        name: for messages.
        push: takes a score and the Unix time of its end.

    """

    wants: tuple[type, ...] = (Scored,)
    prompt = True

    def __init__(self, name: str, push: Callable[[Score, float], None]) -> None:
        self.name = name
        self._push = push

    def hear(self, stream: str, news: News) -> None:
        """Pass a score to `push`."""
        if isinstance(news, Scored):
            self._push(news.score, news.end)
