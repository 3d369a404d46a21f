"""What a hop of 1 s costs, the network's share of it, and what redoing its whole context instead would.

CPU time of the one thread that does it; `publish_journal` is what recording and publishing the hop adds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from streamer.network.runner import Given, Runner
from streamer.network.stager import Model
from streamer.window import spectrogram
from tools.bench.figures import Asked, Figures, cpu_s, one_core
from tools.bench.signals import pipeline, recorded, seconds_of_eeg, timed

WARM_S = 60  # the first window comes after 30 s
WANTED = {"recompute_over_hop": (">=", 10.0)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    model = Model.load(asked.model, runtime=asked.runtime, trusted=True)
    with one_core():
        figures: Figures = {"model": model.contract.size, "runtime": type(model.runner).__name__}
        figures |= hop_costs(model)
        return figures | against_recomputing(model)


class _Timed:
    """A runner whose steps are timed."""

    def __init__(self, runner: Runner) -> None:
        self.start, self.together, self.block = runner.start, runner.together, runner.block
        self._runner = runner
        self.spent_s = 0.0  # of CPU, in all

    def step(self, *given: Any) -> Any:
        """Time a step."""
        began = time.thread_time()
        out = self._runner.step(*given)
        self.spent_s += time.thread_time() - began
        return out


def hop_costs(model: Model, hops: int = 300) -> Figures:
    """Medians over hops of 1 s, µs; `hop_us` is taken without the watch on the network, in turn with it."""
    runner = _Timed(model.runner)
    watched, plain = pipeline(Model(runner, model.contract), 1), pipeline(model, 1)
    taken: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder, recorded(Path(folder)) as record:
        for chunk in seconds_of_eeg(WARM_S + hops):
            before_s = runner.spent_s
            list(watched.push(chunk))
            hop_s, scores = timed(plain, chunk)
            taken.append((hop_s, runner.spent_s - before_s, record(chunk, scores)))
    hop_us, network_us, publish_us = np.median(taken[WARM_S:], axis=0) * 1e6
    return {"hop_us": float(hop_us), "network_us": float(network_us), "publish_journal_us": float(publish_us)}


def against_recomputing(model: Model, repeats: int = 15) -> Figures:
    """Our cost of a hop against redoing its whole context: every spectrogram, epoch and attention."""
    epochs = model.contract.context_epochs
    signal = np.random.default_rng(1).standard_normal((epochs, 3000)) * 20
    raw, present = signal.astype(np.float32), np.ones((epochs, 2), np.bool_)

    def recompute() -> None:
        spectra = np.stack([spectrogram(epoch) for epoch in signal])
        model.runner.block(Given(raw, spectra, present), model.runner.start())

    path = pipeline(model, 1)
    chunks = seconds_of_eeg(30 + 4 * repeats)
    for _ in range(30):
        list(path.push(next(chunks)))
    recompute()
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(cpu_s(lambda: list(path.push(next(chunks))), 3))
        theirs.append(cpu_s(recompute, 1))
    return {
        "context_epochs": epochs,
        "recompute_ms": statistics.median(theirs) * 1000,
        "recompute_over_hop": statistics.median(t / o for t, o in zip(theirs, ours, strict=True)),
    }
