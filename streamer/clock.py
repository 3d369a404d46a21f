"""The one seam through which the engine reads time and waits, so that tests need neither."""

from __future__ import annotations

import asyncio
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
