"""Both sizes of the network, untrained (the cost is the same), per epoch of 30 s and against GSSC.

`network` is encoding and stepping once, `live` all that the pipeline does in 30 s at hop 30 s. GSSC's 22.7 ms
an epoch on one core of such a machine is quoted from the project's requirements, it was not measured here.
"""

from __future__ import annotations

import time

import numpy as np
from streamer.network.stepper import Stepper

from model.size import SIZES
from streamer.network.stager import PRESENT, Model
from tools.bench.figures import Asked, Figures, cpu_s, one_core
from tools.bench.hop import hop_against_floor
from tools.bench.networks import untrained
from tools.bench.signals import pipeline, seconds_of_eeg

GSSC_MS = 22.7
WANTED = {
    "small_network_under_gssc": (">=", 15.0),
    "base_network_under_gssc": (">=", 3.0),
    "base_hop_over_encode_floor": ("<=", 1.5),
}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    figures: Figures = {}
    models = {name: untrained(size, asked.runtime) for name, size in SIZES.items()}
    with one_core():
        for name, model in models.items():
            network_ms, live_ms = network_s(model.stepper) * 1000, live_s(model) * 1000
            hop = hop_against_floor(model)
            figures |= {
                f"{name}_parameters": model.contract.parameters,
                f"{name}_network_ms": network_ms,
                f"{name}_network_under_gssc": GSSC_MS / network_ms,
                f"{name}_live_ms": live_ms,
                f"{name}_live_under_gssc": GSSC_MS / live_ms,
                f"{name}_hop_us": hop["hop_us"],
                f"{name}_hop_over_encode_floor": hop["hop_over_encode_floor"],
                f"{name}_hop_over_encode": hop["hop_over_encode"],
            }
    return figures


def network_s(stepper: Stepper) -> float:
    """CPU seconds of encoding one epoch and stepping over it."""
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 20, (1, 3000)).astype(np.float32)
    spectrum = rng.normal(35, 10, (1, 29, 128)).astype(np.float32)
    past = stepper.start()
    return cpu_s(lambda: stepper.step(stepper.encode(raw, spectrum), PRESENT[True], past), 100)


def live_s(model: Model, epochs: int = 20) -> float:
    """CPU seconds of all that 30 s of signal take at hop 30 s, the median of some."""
    path, taken = pipeline(model, 30), []
    chunks = seconds_of_eeg(30 * (epochs + 3))
    for _ in range(epochs + 3):
        seconds = [next(chunks) for _ in range(30)]
        began = time.thread_time()
        for chunk in seconds:
            list(path.push(chunk))
        taken.append(time.thread_time() - began)
    return float(np.median(taken[3:]))
