"""The clock that the engine reads, and its ways to wait; tests use a fake clock instead."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")

# Linux's monotonic clock stops while the computer sleeps; this one goes on.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def suspended_s() -> float:
    """Seconds that this computer has been suspended since boot; 0 where the system does not report it."""
    return time.clock_gettime(_STEADY) - time.clock_gettime(time.CLOCK_MONOTONIC)


def boot_id() -> str:
    """Identifier of this boot, which changes when the computer restarts; "" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock(Protocol):
    """Time as the engine sees it."""

    def monotonic(self) -> float:
        """Seconds that never jump, and go on while the computer sleeps."""
        ...

    def wall(self) -> float:
        """Unix time, seconds; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Seconds that never jump, and go on while the computer sleeps."""
        return time.clock_gettime(_STEADY)

    def wall(self) -> float:
        """Unix time, seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Allowance:
    """Lets a burst through, and after it so many a second (a token bucket).

    Args:
        burst: how many at once.
        per_s: how many a second after that.

    """

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = self._left = float(burst)
        self._per_s = per_s
        self._at = -math.inf

    def take(self, now: float) -> bool:
        """Whether one more may pass at `now`, s by a clock that does not go back."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = max(self._at, now)
        if self._left < 1:
            return False
        self._left -= 1
        return True


def retry_after_s(failures: int, first_s: float, longest_s: float) -> float:
    """Return how long to wait before the next try, in seconds.

    The pause doubles with each failure in a row, with random jitter: clients that failed together do not
    retry together.

    Args:
        failures: how many in a row so far, 1 or more.
        first_s: the longest pause after the first failure.
        longest_s: the longest pause at all.

    """
    longest = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return random.uniform(longest / 2, longest)


async def unless_stopped(stop: asyncio.Event, work: Awaitable[T]) -> asyncio.Future[T]:
    """Wait for `work`; when `stop` is set first, cancel it and wait until it has ended.

    Returns:
        The future of `work`: done with its result or error, or cancelled.

    """
    working = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait([working])
    return working
