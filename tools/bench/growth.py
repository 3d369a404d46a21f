"""Whether a hop gets dearer as the night goes on, or with how far the network looks back: neither should.

Medians of CPU time over the last ten minutes of the hour, at hop 5 s; `publish` is the journal's and the
publisher's share on the event loop, statistics of the night included. `over_fresh` is the hop over that of
a stream which began at the time, taken in turn with it: a machine is not the same for twelve hours. Other
contexts than the shipped one are measured with networks that nobody trained.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.size import SIZES
from streamer.journal import Journal
from streamer.messages import Chunk, Score
from streamer.network.stager import Model
from streamer.pipeline import Pipeline
from streamer.sinks.publisher import Publisher
from tools.bench.figures import Asked, Figures, one_core
from tools.bench.networks import untrained
from tools.bench.signals import RATE_HZ, journal_in, pipeline, publisher, seconds_of_eeg

HOURS = (1, 4, 8, 12)
CONTEXTS = (10, 40, 120, 240)  # epochs
HOP_S = 5
SPAN_S = 600
BACKLOG_BYTES = 4_000_000  # here a night comes faster than a disk may take it
WANTED = {"hour_12_over_fresh": ("<=", 1.1), "context_240_over_10": ("<=", 1.1)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    with one_core():
        return hours(Model.load(asked.model, runtime=asked.runtime, trusted=True)) | contexts(asked)


def hours(model: Model) -> Figures:
    """Stage and record 12 h of one stream."""
    path, figures = pipeline(model, HOP_S), {}
    chunks = seconds_of_eeg(HOURS[-1] * 3600)
    with tempfile.TemporaryDirectory() as folder, journal_in(Path(folder)) as journal:
        voice = publisher(journal)
        for hour in HOURS:
            while journal.next_sample < (hour * 3600 - SPAN_S) * RATE_HZ:
                _hop(path, next(chunks), journal, voice)
            fresh, others = pipeline(model, HOP_S), seconds_of_eeg(SPAN_S)
            taken: list[tuple[float, float]] = []
            said = 0.0
            for other in others:
                hop_s, publish_s = _hop(path, next(chunks), journal, voice)
                fresh_s, _ = _hop(fresh, other)
                said += publish_s
                if hop_s and fresh_s:
                    taken.append((hop_s, fresh_s))
            ours, fresh_ones = np.array(taken).T
            figures[f"hour_{hour}_us"] = float(np.median(ours)) * 1e6
            figures[f"hour_{hour}_over_fresh"] = float(np.median(ours / fresh_ones))
            figures[f"publish_{hour}_us"] = said / (SPAN_S / HOP_S) * 1e6
    return figures


def _hop(
    path: Pipeline, chunk: Chunk, journal: Journal | None = None, voice: Publisher | None = None
) -> tuple[float, float]:
    """CPU seconds of the pipeline, 0 if nothing was scored, and of recording and publishing."""
    began = time.thread_time()
    scores = [output for output in path.push(chunk) if isinstance(output, Score)]
    between = time.thread_time()
    if journal is None or voice is None:
        return (between - began if scores else 0.0), 0.0
    journal.record(chunk)
    for score in scores:
        voice.score(score)
    ended = time.thread_time()
    while journal.status.pending_bytes > BACKLOG_BYTES:
        time.sleep(0.01)
    return (between - began if scores else 0.0), ended - between


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
