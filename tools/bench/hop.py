"""What a hop of 1 s costs, stage by stage, and what redoing its whole context instead would.

CPU time of the one thread that does it.
"""

from __future__ import annotations

import statistics

import numpy as np

from streamer.network.runner import Given
from streamer.network.stager import Model
from streamer.spectrogram import spectrogram
from tools.bench.figures import Asked, Figures, cpu_s, one_core
from tools.bench.signals import pipeline, seconds_of_eeg
from tools.bench.stages import stage_costs

WANTED = {"recompute_over_hop": (">=", 10.0)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    model = Model.load(asked.model, runtime=asked.runtime, trusted=True)
    with one_core():
        figures: Figures = {"model": model.contract.size, "runtime": type(model.runner).__name__}
        figures |= stage_costs(model)
        return figures | against_recomputing(model)


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
