"""Reports losses: one by one if they are few, together if they are many."""

from __future__ import annotations

from dataclasses import replace

from streamer.clock import Allowance
from streamer.messages import Gap
from streamer.sinks.publisher import Publisher

AT_ONCE = 6  # so many events in a row are not held back
EVERY_S = 10.0  # of the stream, until one more may be published


class Losses:
    """Limits the events about losses. The session file lists every loss in any case.

    Time is the stream's, so that a recording gives the same events at any speed.

    Args:
        publisher: publishes them.

    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._rate_hz = publisher.info.rate_hz
        self._allowance = Allowance(AT_ONCE, 1 / EVERY_S)
        self._held: Gap | None = None  # from the first to the last loss that was not reported yet
        self._lost = self._count = 0  # samples lost in it, and losses

    def push(self, gap: Gap) -> None:
        """Report a loss, now or together with later ones."""
        self._held = gap if self._held is None else replace(self._held, stop=gap.stop)
        self._lost += gap.stop - gap.start
        self._count += 1
        self.passed(gap.stop / self._rate_hz)

    def passed(self, at_s: float) -> None:
        """Report losses that were held back, if it is time at this second of the stream."""
        if self._held is not None and self._allowance.take(at_s):
            self.flush()

    def flush(self) -> None:
        """Report the losses that were held back."""
        held, self._held = self._held, None
        if held is not None:
            self._publisher.gap(held, self._lost, self._count)
        self._lost = self._count = 0
