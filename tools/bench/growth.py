"""Whether a hop gets dearer as the night goes on, or with how far the network looks back: neither should.

Medians of CPU time over the last ten minutes of the hour, at hop 5 s; `publish` is the journal's and the
publisher's share on the event loop, epochs and their statistics included. Other contexts than the shipped one
are measured with networks that nobody trained.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.mc2sleepnet import SIZES
from streamer.messages import Score
from streamer.stager import Model
from tools.bench.figures import Asked, Figures, one_core
from tools.bench.networks import untrained
from tools.bench.signals import pipeline, seconds_of_eeg
from tools.bench.stages import journal_in, publisher

HOURS = (1, 4, 8, 12)
CONTEXTS = (10, 40, 120, 240)  # epochs
HOP_S = 5
SPAN_S = 600
BACKLOG_BYTES = 4_000_000  # here a night comes faster than a disk may take it
WANTED = {"hour_12_over_1": ("<=", 1.1), "publish_12_over_1": ("<=", 1.1), "context_240_over_10": ("<=", 1.1)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    with one_core():
        return hours(Model.load(asked.model, runtime=asked.runtime, trusted=True)) | contexts(asked)


def hours(model: Model) -> Figures:
    """Stage and record 12 h of one stream."""
    path, taken, said = pipeline(model, HOP_S), [], []
    with tempfile.TemporaryDirectory() as folder, journal_in(Path(folder)) as journal:
        voice = publisher(journal)
        for chunk in seconds_of_eeg(HOURS[-1] * 3600):
            began = time.thread_time()
            scores = [output for output in path.push(chunk) if isinstance(output, Score)]
            between = time.thread_time()
            journal.record(chunk)
            for score in scores:
                voice.score(score)
            taken.append(between - began if scores else np.nan)
            said.append(time.thread_time() - between)
            while journal.status.pending_bytes > BACKLOG_BYTES:
                time.sleep(0.01)
    figures: Figures = {}
    for hour in HOURS:
        span = slice(hour * 3600 - SPAN_S, hour * 3600)
        figures[f"hour_{hour}_us"] = float(np.nanmedian(taken[span])) * 1e6
        figures[f"publish_{hour}_us"] = float(np.sum(said[span])) / (SPAN_S / HOP_S) * 1e6
    figures["hour_12_over_1"] = float(figures["hour_12_us"]) / float(figures["hour_1_us"])
    figures["publish_12_over_1"] = float(figures["publish_12_us"]) / float(figures["publish_1_us"])
    return figures


def contexts(asked: Asked) -> Figures:
    """Hops of networks that differ in their context alone, taken in turn."""
    paths = {
        epochs: pipeline(untrained(replace(SIZES["small"], context=epochs), asked.runtime), HOP_S)
        for epochs in CONTEXTS
    }
    taken: dict[int, list[float]] = {epochs: [] for epochs in CONTEXTS}
    for chunk in seconds_of_eeg(30 + 200 * HOP_S):
        for epochs, path in paths.items():
            began = time.thread_time()
            scores = [output for output in path.push(chunk) if isinstance(output, Score)]
            if scores:
                taken[epochs].append(time.thread_time() - began)
    figures: Figures = {f"context_{epochs}_us": float(np.median(taken[epochs])) * 1e6 for epochs in CONTEXTS}
    ratio = np.median(np.divide(taken[CONTEXTS[-1]], taken[CONTEXTS[0]]))
    return figures | {"context_240_over_10": float(ratio)}
