"""Thins provisional stages when the machine cannot keep up. Epochs are never thinned."""

from __future__ import annotations

from streamer.clock import Clock

HOPS_S = (0, 2, 5, 10, 15, 30)  # at least so far apart; 0: as configured, 30: epochs only
LATE_S = 0.5  # from handing a window over to its score
CALM_S = 30.0  # without a late one
SPARE = 0.35  # of the time at work; a step back multiplies the work by 2.5 at most


class Overload:
    """The distance between provisional stages for now, the same for all streams of a process.

    A step up whenever a provisional window is late that was handed over since the last step. A step down
    after `CALM_S` in which none was late and the model's thread had so much time to spare that the shorter
    hop will fit. Streams whose hop is longer anyway do not notice.

    Attributes:
        least_hop_s: a provisional window is scored only if it ends so long after the last scored one.

    """

    def __init__(self, clock: Clock) -> None:
        self.least_hop_s = HOPS_S[0]
        self._clock = clock
        self._changed = self._since = clock.monotonic()  # the last step; begin of the present calm
        self._busy_s = 0.0  # since then

    def scored(self, handed_over: float) -> None:
        """A provisional window handed over at that time (monotonic s) has its score now."""
        now = self._clock.monotonic()
        if now - handed_over <= LATE_S:
            return
        if handed_over >= self._changed and self.least_hop_s < HOPS_S[-1]:
            self._step(1, now)
        self._since, self._busy_s = now, 0.0

    def worked(self, since: float) -> None:
        """The model's thread was busy from then until now."""
        now = self._clock.monotonic()
        self._busy_s += now - since
        calm_s = now - self._since
        if calm_s < CALM_S:
            return
        if self.least_hop_s > HOPS_S[0] and self._busy_s < SPARE * calm_s:
            self._step(-1, now)
        self._since, self._busy_s = now, 0.0

    def _step(self, by: int, now: float) -> None:
        self.least_hop_s = HOPS_S[HOPS_S.index(self.least_hop_s) + by]
        self._changed = now
