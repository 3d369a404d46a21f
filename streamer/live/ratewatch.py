"""Watches the clocks of a live stream: its true rate, jumps of the wall clock, a suspended computer.

The epoch grid counts samples and is never moved; this only reports when it disagrees with the clocks.
"""

from __future__ import annotations

from collections import deque

import numpy as np

BLOCK_S = 10.0  # of arrivals; each block keeps its least late one, because a radio can only delay
LEAST_BLOCKS = 12  # two minutes until the estimate is used
BLOCKS = 360  # an hour is kept
TOLERANCE = 0.005  # of the nominal rate: 18 s in an hour
JUMP_S = 0.5  # a smaller change between two checks is ignored; NTP slews a tenth of it in a minute


class RateWatch:
    """Estimates the true sample rate with a line through the least late arrivals."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._points: deque[tuple[float, float]] = deque(maxlen=BLOCKS)  # (seconds by index, lateness in s)
        self._best: tuple[float, float] | None = None  # of the block under way
        self._begun = 0.0  # arrival that began the block
        self._warned = False

    @property
    def rate_hz(self) -> float | None:
        """The estimate; None until there are enough arrivals."""
        if len(self._points) < LEAST_BLOCKS:
            return None
        seconds, lateness = np.array(self._points).T
        slope = float(np.polyfit(seconds - seconds.mean(), lateness, 1)[0])
        return self._rate_hz / (1 + slope)

    def push(self, index: int, arrived: float) -> str | None:
        """Note that all samples before `index`, lost ones included, had come by `arrived` (steady s).

        Returns a warning, once, if the rate is off by more than 0.5 %; else None.
        """
        seconds = index / self._rate_hz
        point = (seconds, arrived - seconds)
        if self._best is None:
            self._best, self._begun = point, arrived
            return None
        if point[1] < self._best[1]:
            self._best = point
        if arrived - self._begun < BLOCK_S:
            return None
        self._points.append(self._best)
        self._best = None
        return self._judge()

    def _judge(self) -> str | None:
        found = self.rate_hz
        if self._warned or found is None or abs(found / self._rate_hz - 1) <= TOLERANCE:
            return None
        self._warned = True
        return (
            f"samples come at {found:.2f} Hz, but the stream says {self._rate_hz:g} Hz "
            f"({found / self._rate_hz - 1:+.1%}): an epoch lasts {30 * self._rate_hz / found:.1f} s; "
            "correct the rate that the device declares"
        )


class ClockWatch:
    """Compares the wall clock with the steady clock at each check."""

    def __init__(self, wall: float, steady: float, suspended: float) -> None:
        self._ahead = wall - steady
        self._suspended = suspended

    def look(self, wall: float, steady: float, suspended: float) -> list[str]:
        """Describe what has happened since the last check.

        Args:
            wall: Unix time, s.
            steady: seconds that never jump and that go on while the computer sleeps.
            suspended: how long the computer has slept so far, s.

        """
        said = []
        slept, self._suspended = suspended - self._suspended, suspended
        if slept > JUMP_S:
            said.append(f"the computer slept for {slept:.0f} s; turn off suspend for the night")
        moved = wall - steady - self._ahead
        if abs(moved) > JUMP_S:
            said.append(f"the computer's clock was set by {moved:+.1f} s; epochs keep their times")
        self._ahead += moved
        return said
