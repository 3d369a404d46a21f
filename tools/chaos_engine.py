"""`sleepstream run` with one thing changed: a wall clock that a file can set, to the second.

The steps are faked at the engine's one clock seam, because setting the machine's clock would hit everyone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamer import cli
from streamer.clock import SystemClock

STEP_FILE = "clock-step"  # in the folder of the configuration: seconds by which the wall clock is wrong


class SteppedClock(SystemClock):
    """The machine's clocks, the wall clock off by what the file says."""

    file: Path

    def wall(self) -> float:
        """Unix time and the step, seconds."""
        try:
            step = float(self.file.read_text(encoding="ascii") or 0)
        except FileNotFoundError:
            step = 0.0
        return super().wall() + step


if __name__ == "__main__":
    SteppedClock.file = Path(sys.argv[1]).parent / STEP_FILE
    cli.SystemClock = SteppedClock  # type: ignore[attr-defined]
    sys.exit(cli.main(["run", sys.argv[1], "--log", "json"]))
