"""The clock that the engine reads and waits by; tests put in one of their own."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Protocol

# Linux stops its monotonic clock while the computer sleeps; a night does not stop.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def suspended_s() -> float:
    """How long this computer has slept since it was started, as far as its system tells."""
    return time.clock_gettime(_STEADY) - time.clock_gettime(time.CLOCK_MONOTONIC)


def boot_id() -> str:
    """Which start of this computer its monotonic clock counts from; "" where the system does not tell."""
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


def retry_after_s(failures: int, first_s: float, longest_s: float) -> float:
    """How long to wait before the next try, in seconds.

    The pause doubles with each failure in a row. It is drawn from its upper half, so that many who failed
    together do not try together again.

    Args:
        failures: in a row so far; 1 or more.
        first_s: the longest pause after the first of them.
        longest_s: the longest pause of all.

    """
    longest = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return random.uniform(longest / 2, longest)
