"""Thins provisional stages while the machine cannot keep up."""

from __future__ import annotations

from streamer.clock import Clock

HOPS_S = (0, 2, 5, 10, 15, 30)  # least distance between provisional stages; 0: as configured, 30: epochs only
LATE_S = 0.5  # from handing a window over to its score
CALM_S = 30.0  # without a late one
FULL = 0.75  # of its time, that the thread may be busy after a step back


class Overload:
    """Thins provisional stages while the machine cannot keep up; epochs are never thinned.

    The least hop is the same for all streams of a process; a longer hop in the settings is not affected. It
    goes up a step when a provisional window is late that was handed over after the last step. It goes down a
    step after `CALM_S` without a late one, if the model's thread had time for the windows of the shorter hop.
    They multiply the time of the network; all else takes as long as before.

    Attributes:
        least_hop_s: a provisional window is scored only if it ends so long after the last scored one.

    """

    def __init__(self, clock: Clock) -> None:
        self.least_hop_s = HOPS_S[0]
        self._clock = clock
        self._changed = self._since = clock.monotonic()  # the last step; begin of the present calm
        self._front_s = self._network_s = 0.0  # at work since then

    def scored(self, handed_over: float) -> None:
        """Note that a provisional window, handed over at that time (monotonic s), has its score now."""
        now = self._clock.monotonic()
        if now - handed_over <= LATE_S:
            return
        if handed_over >= self._changed and self.least_hop_s < HOPS_S[-1]:
            self._step(1, now)
        self._calm_from(now)

    def worked(self, since: float, scoring: float) -> None:
        """Note that the model's thread was busy from `since` until now, with the network from `scoring`."""
        now = self._clock.monotonic()
        self._front_s += scoring - since
        self._network_s += now - scoring
        calm_s = now - self._since
        if calm_s < CALM_S:
            return
        if self.least_hop_s > HOPS_S[0] and self._next_s() < FULL * calm_s:
            self._step(-1, now)
        self._calm_from(now)

    def _next_s(self) -> float:
        """Return how long the thread would have been busy with the next shorter hop."""
        shorter_s = HOPS_S[HOPS_S.index(self.least_hop_s) - 1]
        times = self.least_hop_s / max(shorter_s, 1)  # 0 is the hop of the settings, at least 1
        return self._front_s + self._network_s * times

    def _calm_from(self, now: float) -> None:
        self._since, self._front_s, self._network_s = now, 0.0, 0.0

    def _step(self, by: int, now: float) -> None:
        self.least_hop_s = HOPS_S[HOPS_S.index(self.least_hop_s) + by]
        self._changed = now
