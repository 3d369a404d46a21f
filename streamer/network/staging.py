"""What a pipeline needs of a network, wherever that runs: stager.py is the one in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from streamer.messages import Window
from streamer.network.contract import Contract, contract_inside
from streamer.network.trust import PACKAGED, read_trusted
from streamer.settings import ModelSettings


class Staged(NamedTuple):
    """What comes of one window."""

    probabilities: tuple[float, ...] | None  # in the order of STAGES; None: unscored
    warmup: bool  # the network has seen fewer epochs than it needs for full confidence
    trouble: str = ""  # what keeps the network from being had, in one line; the sensor is not to blame


def softmax(logits: Sequence[float]) -> tuple[float, ...]:
    """Probabilities of one window; five numbers are done before numpy has begun."""
    largest = max(logits)
    odds = [math.exp(logit - largest) for logit in logits]
    total = sum(odds)
    return tuple(odd / total for odd in odds)


Together = Callable[[Sequence[tuple[Any, Window]]], list[Staged]]  # sessions of one model, and their windows


class StagingSession(Protocol):
    """One sleeper's committed past."""

    @property
    def together(self) -> Together | None:
        """What stages usable windows off the 30 s grid, of several sessions, in one pass; None: nothing."""
        ...

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

    def close(self) -> None:
        """Let go of what it holds beyond memory."""
        ...


def opened(settings: ModelSettings) -> Stager:
    """Return the network that the settings ask for, where they want it. Blocks for a second or so.

    torch is loaded only if the network is to run here: a client of a server needs a third of the memory.

    Raises:
        ArtifactError: the artifact cannot be used. A server that is away is no error: it may come back.

    """
    wanted = settings.model_dump(exclude={"remote"})
    if settings.remote is None or settings.remote.fallback:
        from streamer.network.stager import Model

        local = Model.load(**wanted)
        if settings.remote is None:
            return local
    else:
        local = None
    from streamer.remote.client import ModelServer
    from streamer.remote.model import RemoteModel

    data = read_trusted(settings.path, settings.sha256, settings.trusted)
    contract = contract_inside(data, settings.path or PACKAGED)
    server = ModelServer(settings.remote, contract.weights_sha256)
    return RemoteModel(contract, server, settings.remote, local)
