"""Whether another way of running the network changes what it says of whole nights, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data import load_night
from streamer.frontend import FrontEnd, Graded
from streamer.messages import EPOCH_S, Chunk, Window
from streamer.network.runner import Runner
from streamer.network.stager import Model
from streamer.quality import LEAST_REAL
from streamer.settings import SignalSettings
from streamer.window import Windows
from tools.bench.figures import Figures
from tools.bench.signals import INFO, simulated

Epochs = Sequence[tuple[Window, bool]]  # epochs, and whether they are usable


def nights(hours: float, prepared: Iterable[Path]) -> Iterator[tuple[str, Epochs]]:
    """Give a simulated night, then prepared ones; each with the name of its kind."""
    front = FrontEnd(INFO, SignalSettings(), EPOCH_S)
    pushed = (part for item in simulated(hours) for part in front.push(item))
    parts = [part for part in chain(pushed, front.flush()) if isinstance(part, Graded)]
    yield "simulated", [(part.window, part.usable) for part in parts]
    for path in prepared:
        samples = load_night(path).samples.astype(np.float64)
        windows = Windows(EPOCH_S).push(Chunk(0, samples[None]))
        yield "prepared", [(one, bool(np.isfinite(one.samples).mean() >= LEAST_REAL)) for one in windows]


def agreement(exact: Model, runners: Mapping[str, Runner], given: Iterable[tuple[str, Epochs]]) -> Figures:
    """Hold ways of running a network against the exact one.

    Args:
        exact: the model that they should be like.
        runners: the others, by their names; on any device.
        given: nights and the names of their kinds.

    Returns:
        for each way and kind: the share of epochs of the same stage, and how far a probability was off.

    """
    kinds: dict[str, int] = {}
    same: dict[tuple[str, str], int] = {}
    off: dict[tuple[str, str], float] = {}
    for kind, night in given:
        expected = probabilities(exact, night)
        kinds[kind] = kinds.get(kind, 0) + len(expected)
        for name, runner in runners.items():
            found = probabilities(Model(runner, exact.contract), night)
            alike = int((found.argmax(1) == expected.argmax(1)).sum())
            same[name, kind] = same.get((name, kind), 0) + alike
            worst = float(np.abs(found - expected).max())
            off[name, kind] = max(off.get((name, kind), 0.0), worst)
    figures: Figures = {f"{kind}_epochs": count for kind, count in kinds.items()}
    for (name, kind), count in same.items():
        figures[f"{name}_agreement_{kind}"] = count / kinds[kind]
        figures[f"{name}_off_{kind}"] = off[name, kind]
    return figures


def probabilities(model: Model, night: Epochs) -> NDArray[np.float64]:
    """(epochs that could be scored, 5)."""
    session = model.session()
    scored = [session.score(window, usable).probabilities for window, usable in night]
    return np.array([one for one in scored if one is not None])
