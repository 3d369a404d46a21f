"""What a hop costs inside the pipeline, and what redoing its whole context would cost."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from streamer.messages import Score
from streamer.spectrogram import spectrogram
from streamer.stager import Model
from tools.bench.figures import Asked, Figures, median_s, one_core, percentiles
from tools.bench.signals import pipeline, seconds_of_eeg

WANTED = {"recompute_over_hop": (">=", 10.0)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    model = Model.load(asked.model, trusted=True)
    with one_core():
        return {"model": model.contract.size, **hop_cost(model, 1), **against_recomputing(model)}


def hop_cost(model: Model, hop_s: int) -> Figures:
    """Time from the arrival of a hop's last second to its score, inside the pipeline, for ten minutes."""
    path = pipeline(model, hop_s)
    times = []
    for chunk in seconds_of_eeg(630):
        began = time.perf_counter()
        scored = [output for output in path.push(chunk) if isinstance(output, Score)]
        if scored:
            times.append((time.perf_counter() - began) * 1000)
    return percentiles("hop", times)


def against_recomputing(model: Model, repeats: int = 15) -> Figures:
    """Our cost of a hop against redoing its whole context: every spectrogram, epoch and attention."""
    epochs = model.contract.context_epochs
    signal = np.random.default_rng(1).standard_normal((epochs, 3000)) * 20
    present = torch.ones(1, epochs, 2, dtype=torch.bool)

    def recompute() -> None:
        spectra = np.stack([spectrogram(epoch) for epoch in signal])
        with torch.inference_mode():
            model.network.forward(
                torch.from_numpy(signal.astype(np.float32))[None], torch.from_numpy(spectra)[None], present
            )

    path = pipeline(model, 1)
    chunks = seconds_of_eeg(30 + 4 * repeats)
    for _ in range(30):
        list(path.push(next(chunks)))
    recompute()
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(median_s(lambda: list(path.push(next(chunks))), 3))
        theirs.append(median_s(recompute, 1))
    return {
        "context_epochs": epochs,
        "recompute_ms": statistics.median(theirs) * 1000,
        "recompute_over_hop": statistics.median(t / o for t, o in zip(theirs, ours, strict=True)),
    }
