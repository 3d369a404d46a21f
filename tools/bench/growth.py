"""Whether a hop gets dearer as the night goes on, or with how far the network looks back: neither should.

Medians of CPU time over the last ten minutes of the hour, at hop 5 s; `publish` is the journal's and the
publisher's share on the event loop, statistics of the night included. `over_fresh` is the hop over that of
a stream which began at the time, taken in turn with it: a machine is not the same for twelve hours. Other
contexts than the shipped one are measured with networks that nobody trained: what one costs does not depend
on what it has learnt.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from model.export import export
from model.mc2sleepnet import MC2SleepNet
from model.size import SIZES
from streamer.network.stager import Model
from streamer.settings import Runtime
from tools.bench.figures import Asked, Figures, one_core
from tools.bench.signals import pipeline, recorded, seconds_of_eeg, timed

HOURS = (1, 4, 8, 12)
CONTEXTS = (10, 40, 120, 240)  # epochs
HOP_S = 5
SPAN_S = 600
WANTED = {"hour_12_over_fresh": ("<=", 1.1), "context_240_over_10": ("<=", 1.1)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    with one_core():
        return hours(Model.load(asked.model, runtime=asked.runtime, trusted=True)) | contexts(asked)


def hours(model: Model) -> Figures:
    """Stage and record 12 h of one stream."""
    path, chunks, figures = pipeline(model, HOP_S), seconds_of_eeg(HOURS[-1] * 3600), {}
    with tempfile.TemporaryDirectory() as folder, recorded(Path(folder)) as record:

        def second() -> tuple[float, float]:
            chunk = next(chunks)
            hop_s, scores = timed(path, chunk)
            return hop_s, record(chunk, scores)

        for hour, before in zip(HOURS, (0, *HOURS), strict=False):
            for _ in range((hour - before) * 3600 - SPAN_S):
                second()
            fresh, taken = pipeline(model, HOP_S), []
            for other in seconds_of_eeg(SPAN_S):
                fresh_s, scores = timed(fresh, other)
                taken.append((*second(), fresh_s, bool(scores)))
            hop_s, publish_s, fresh_s, scored = np.array(taken).T
            hops = scored > 0
            figures[f"hour_{hour}_us"] = float(np.median(hop_s[hops])) * 1e6
            figures[f"hour_{hour}_over_fresh"] = float(np.median(hop_s[hops] / fresh_s[hops]))
            figures[f"publish_{hour}_us"] = float(publish_s.sum()) / (SPAN_S / HOP_S) * 1e6
    return figures


def contexts(asked: Asked) -> Figures:
    """Hops of networks that differ in their context alone, taken in turn."""
    paths = {epochs: pipeline(untrained(epochs, asked.runtime), HOP_S) for epochs in CONTEXTS}
    taken: dict[int, list[float]] = {epochs: [] for epochs in CONTEXTS}
    for chunk in seconds_of_eeg(30 + 200 * HOP_S):
        for epochs, path in paths.items():
            hop_s, scores = timed(path, chunk)
            if scores:
                taken[epochs].append(hop_s)
    figures: Figures = {f"context_{epochs}_us": float(np.median(taken[epochs])) * 1e6 for epochs in CONTEXTS}
    ratio = np.median(np.divide(taken[CONTEXTS[-1]], taken[CONTEXTS[0]]))
    return figures | {"context_240_over_10": float(ratio)}


@cache  # over the repeats of a part: an export takes long
def untrained(context: int, runtime: Runtime) -> Model:
    """Export a network with random weights and load it again, as any artifact; needs the extra `train`."""
    torch.manual_seed(0)
    size = replace(SIZES["small"], context=context)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.pt"
        export(MC2SleepNet(size).eval(), size, "nothing", path, onnx=runtime != "torchscript")
        return Model.load(path, runtime=runtime, trusted=True)
