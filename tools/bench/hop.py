"""What a hop of 1 s costs, stage by stage, beside the least it can cost and what redoing its context would.

All but `recompute` are CPU time of the one thread that does it. A part of the name says what it is: `encode`
and `step` are the network's, the floors its multiply-adds at the speed of the fastest matrix product.
"""

from __future__ import annotations

import statistics

import numpy as np
import torch

from model.size import SIZES
from streamer.network.stager import Model
from streamer.spectrogram import spectrogram
from tools.bench.figures import Asked, Figures, cpu_s, one_core
from tools.bench.floor import floor
from tools.bench.signals import pipeline, seconds_of_eeg
from tools.bench.stages import stage_costs

WANTED = {"hop_over_encode_floor": ("<=", 1.5), "recompute_over_hop": (">=", 10.0)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    model = Model.load(asked.model, runtime=asked.runtime, trusted=True)
    with one_core():
        figures: Figures = {"model": model.contract.size, "runtime": type(model.network).__name__}
        figures |= hop_against_floor(model)
        return figures | against_recomputing(model)


def hop_against_floor(model: Model) -> Figures:
    """Every stage, the floors, and the whole hop over the encoder's own floor and over the encoder."""
    figures = stage_costs(model)
    scripted = getattr(model.network, "scripted", model.network)  # torch counts what torch runs
    figures |= floor(scripted, SIZES.get(model.contract.size, SIZES["small"]))
    figures["hop_over_encode_floor"] = figures["hop_us"] / figures["encode_floor_us"]
    figures["hop_over_encode"] = figures["hop_us"] / figures["encode_us"]
    return figures


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
        ours.append(cpu_s(lambda: list(path.push(next(chunks))), 3))
        theirs.append(cpu_s(recompute, 1))
    return {
        "context_epochs": epochs,
        "recompute_ms": statistics.median(theirs) * 1000,
        "recompute_over_hop": statistics.median(t / o for t, o in zip(theirs, ours, strict=True)),
    }
