"""What a pipeline needs of a network, wherever that runs: stager.py is the one in this process."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from streamer.contract import Contract
from streamer.messages import Window


class Staged(NamedTuple):
    """What comes of one window."""

    probabilities: tuple[float, ...] | None  # in the order of STAGES; None: unscored
    warmup: bool  # the network has seen fewer epochs than it needs for full confidence
    trouble: str = ""  # what keeps the network from being had, in one line; the sensor is not to blame


class StagingSession(Protocol):
    """One sleeper's committed past."""

    def score(self, window: Window, usable: bool) -> Staged:
        """Stage the last 30 s; on the 30 s grid (`window.epoch`) they are committed to the past.

        A window that is not `usable` gives no probabilities; on the grid it is committed as a lost epoch.
        May block: call it from a worker thread.
        """
        ...


class Stager(Protocol):
    """Weights that all streams share."""

    contract: Contract

    def session(self) -> StagingSession:
        """Return the memory of a stream that has seen nothing."""
        ...
