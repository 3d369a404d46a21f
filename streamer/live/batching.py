"""The model's thread: runs every stream's pipeline, and scores several streams in one pass.

Items that arrive while the thread works join the next pass, so passes grow with the load; a few streams are
never delayed. With `CROWD` devices or more, a pass that is not full also waits until `EVERY_S` after the one
before began: a window costs a third of the time in a pass of many. It does not wait if a stream has more
windows to catch up on.

A pass takes one window of each stream, at most `MOST` of them, in the order in which they arrived: a stream
with much to catch up on does not delay the others. The output of an item is returned in pieces of at most
`PIECE` parts. So the memory and the turn of others do not depend on the length of an item: a band that was
off for a night is one item and thousands of windows.

A window on the 30 s grid is scored alone, so that committed epochs are equal to the bit to those of a stream
that has the machine to itself, and to those of a resumed session. In a crowd it shares the pass like any
other, because alone it takes as long as four windows of a pass; then they are equal to 1e-5.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Self

from streamer.asks import Ask, settle_together
from streamer.clock import Clock
from streamer.frontend import Graded
from streamer.live.overload import Overload
from streamer.messages import RATE_HZ, Item, Window
from streamer.network.runner import PASS
from streamer.network.stager import Session, Staged, score_together
from streamer.pipeline import Output, Pipeline

MOST = PASS  # windows in a pass
CROWD = 32  # live streams
EVERY_S = 0.04  # from one pass to the next, where there is a crowd
PIECE = 32  # windows and the like before a stream hears of them: what 30 s of samples give, at the most
PASSES = 64  # before the thread lets others have a turn: a stream that reads back its night


class Lane:
    """One stream's access to the model's thread; made by `Batcher.lane`.

    Attributes:
        thinned: how many provisional windows were left out because the machine could not keep up.

    """

    def __init__(self, batcher: Batcher, live: bool) -> None:
        self.thinned = 0
        self.live = live
        self.overload = batcher.overload
        self._batcher = batcher

    @property
    def commits_share(self) -> bool:
        """Whether epochs are scored together with other streams' windows."""
        return self._batcher.crowded

    @property
    def least_hop_s(self) -> int:
        """The least distance between provisional stages for now, in s; 0: all are scored."""
        return self.overload.least_hop_s if self.live else 0

    def outputs(
        self, pipeline: Pipeline, item: Item | None, hurry: asyncio.Event | None = None
    ) -> AsyncIterator[list[Output]]:
        """Run an item, or the end of the stream (None), through a pipeline; raises what the pipeline raises.

        The output comes in pieces, which are made as they are taken. Only one item at a time: the next may be
        handed over when all pieces of this one were taken.

        Args:
            pipeline: of the stream.
            item: the next item.
            hurry: once it is set, provisional windows after the first piece are left out.

        """
        return _Job(self, self._batcher, pipeline, item, hurry)


class _Job:
    """One stream's item, and how far the thread is with it; iterates over the pieces of its output.

    Not an async generator: the event loop keeps books of each one, and there is one a second of every stream.
    """

    def __init__(
        self,
        lane: Lane,
        batcher: Batcher,
        pipeline: Pipeline,
        item: Item | None,
        hurry: asyncio.Event | None,
    ) -> None:
        self.pipeline = pipeline
        self.due: Graded | None = None  # waits for the network
        self.ask: Ask | None = None  # of the stages before it
        self.ended = False  # nothing more comes of the item
        self.hurried = False
        self._lane = lane
        self._batcher = batcher
        self._hurry = hurry
        self._begun = False
        self._clock = batcher.clock
        self._since = 0.0  # when it was its turn
        self._parts = pipeline.front(item)
        self._left = 0  # parts until the piece is full
        self._outputs: list[Output] = []
        self._error: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Output]:
        if self.ended:
            raise StopAsyncIteration
        self.hurried = self._begun and self._hurry is not None and self._hurry.is_set()
        self._begun = True
        return await self._batcher.run(self)

    def begin(self, done: asyncio.Future[list[Output]]) -> None:
        """On the event loop: ask for the next piece."""
        self._done, self._left, self._outputs = done, PIECE, []
        self._since = self._clock.monotonic()

    @property
    def shares(self) -> bool:
        """Whether the next window may be scored together with others."""
        due = self.due
        if due is None:
            return False
        return due.usable if due.window.epoch is None else self._lane.commits_share

    @property
    def asked(self) -> tuple[Session, Window, bool]:
        """The next window, for a shared pass."""
        assert self.due is not None
        return self.pipeline.session, self.due.window, self.due.usable

    def advance(self) -> None:
        """Work until a stage asks, a window is complete, or the piece or the item ends."""
        try:
            self._advance()
        except BaseException as error:  # as in `trying`, which costs more
            self.fail(error)

    def _advance(self) -> None:
        self.due = self.ask = None
        while self._left:
            part = next(self._parts, None)
            if part is None:
                self.ended = True
                return
            if isinstance(part, Ask):
                self.ask = part
                return
            self._left -= 1
            if not isinstance(part, Graded):
                self._outputs.append(part)
            elif self.hurried and part.window.epoch is None:
                continue
            elif self._too_soon(part):
                self._lane.thinned += 1
            else:
                self.due = part
                return

    def take(self, staged: Staged) -> None:
        """Take the score of the window, and advance."""
        try:
            self._take(staged)
        except BaseException as error:  # as in `trying`
            self.fail(error)

    def _take(self, staged: Staged) -> None:
        assert self.due is not None
        self._outputs.append(self.pipeline.take(self.due, staged))
        if self._lane.live and self.due.window.epoch is None:
            self._lane.overload.scored(self._since)
        self._since = self._clock.monotonic()
        self._advance()
        while self.ask is not None:
            self.ask.settle()
            self._advance()

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Pass an exception to the stream that waits, and to no other."""
        try:
            yield
        except BaseException as error:  # not swallowed: `tell` hands it to where the stream is supervised
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self._error, self.due, self.ask, self.ended = error, None, None, True

    def tell(self) -> None:
        """On the event loop: wake the stream, unless it is gone."""
        if self._done.cancelled():
            return
        if self._error is None:
            self._done.set_result(self._outputs)
        else:
            self._done.set_exception(self._error)

    def _too_soon(self, graded: Graded) -> bool:
        window = graded.window
        return (
            window.epoch is None and window.end // RATE_HZ - self.pipeline.scored_s < self._lane.least_hop_s
        )


class Batcher:
    """Shared by all streams of a process.

    Args:
        worker: of one thread.
        clock: time.

    Attributes:
        worker: the same, for other work on the model's thread.
        clock: the same.
        overload: the present distance between provisional stages.

    """

    def __init__(self, worker: Executor, clock: Clock) -> None:
        self.worker = worker
        self.clock = clock
        self.overload = Overload(clock)
        self._jobs: deque[_Job] = deque()  # the event loop appends; all else is the thread's
        self._running = False  # the thread works
        self._next: asyncio.Handle | None = None  # it is about to
        self._began = -math.inf  # the last pass, by the event loop's clock; set by the thread
        self._live = 0  # streams

    def lane(self, live: bool) -> Lane:
        """Make a stream's lane; `live`: a device, which cannot wait."""
        self._live += live
        return Lane(self, live)

    @property
    def crowded(self) -> bool:
        """Whether there are so many devices that passes wait for company."""
        return self._live >= CROWD

    async def run(self, job: _Job) -> list[Output]:
        """Work on the next piece of a stream's item, beside other streams."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Output]] = loop.create_future()
        job.begin(done)
        self._jobs.append(job)
        if not self._running and (self._next is None or len(self._jobs) == MOST):
            self._have_work(loop)
        return await done

    def _have_work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread in the loop's next turn, so that items of the same turn join the pass."""
        if self._next is not None:
            self._next.cancel()
        rest_s = self._began + EVERY_S - loop.time()
        if self.crowded and len(self._jobs) < MOST and rest_s > 0:
            self._next = loop.call_later(rest_s, self._start, loop)
        else:
            self._next = loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._running, self._next = True, None
        loop.run_in_executor(self.worker, self._passes, loop).add_done_callback(self._passed)

    def _passed(self, passes: asyncio.Future[None]) -> None:
        passes.result()
        self._running = False
        if self._jobs:
            self._have_work(passes.get_loop())

    def _passes(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the thread: work until no job is left, the next pass waits for company, or other work is due."""
        behind = False
        for number in range(PASSES):
            waits = number > 0 and self.crowded and not behind and len(self._jobs) < MOST
            if waits or not self._jobs:
                return
            self._began = loop.time()
            jobs = [self._jobs.popleft() for _ in range(min(MOST, len(self._jobs)))]
            began = self.clock.monotonic()
            _advance(jobs)
            scoring = self.clock.monotonic()
            _score(jobs)
            self.overload.worked(began, scoring)
            left = [job for job in jobs if job.due is not None]
            behind = bool(left)
            self._jobs.extend(left)
            loop.call_soon_threadsafe(_tell, [job for job in jobs if job.due is None])


def _advance(jobs: Sequence[_Job]) -> None:
    """Have each that has no window to score work up to its next one."""
    working = [job for job in jobs if job.due is None]
    while working:
        for job in working:
            job.advance()
        working = [job for job in working if job.ask is not None]
        _settle(working)
        working = [job for job in working if not job.ended]


def _score(jobs: Sequence[_Job]) -> None:
    """Score the next window of each of these, and have each advance to the one after it."""
    together: list[_Job] = []
    alone: list[_Job] = []
    for job in jobs:
        if job.due is not None:
            (together if job.shares else alone).append(job)
    for job in alone if len(together) > 1 else jobs:
        if job.due is not None:
            with job.trying():
                job.take(job.pipeline.session.score(job.due.window, job.due.usable))
    if len(together) > 1:
        _share(together)


def _share(jobs: Sequence[_Job]) -> None:
    try:
        staged = score_together([job.asked for job in jobs])  # they are all of one model
    except BaseException as error:  # as in `trying`; windows are alike, so it is nobody's in particular
        for job in jobs:
            job.fail(error)
        return
    for job, one in zip(jobs, staged, strict=True):
        job.take(one)


def _settle(jobs: Sequence[_Job]) -> None:
    """Answer what the stages of several streams ask; if that fails, each alone, so that it is known whose."""
    try:
        settle_together([job.ask for job in jobs if job.ask is not None])
    except BaseException:
        for job in jobs:
            with job.trying():
                assert job.ask is not None
                job.ask.settle()


def _tell(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.tell()
