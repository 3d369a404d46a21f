"""The signals that the parts stage, the pipeline, and a session for its scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from streamer.clock import SystemClock
from streamer.journal import Journal, Meta
from streamer.messages import Channel, Chunk, Floats, Item, Score, StreamInfo
from streamer.network.stager import Model
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from streamer.sinks.publisher import Publisher
from streamer.sinks.topics import MqttStream
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource

RATE_HZ = 256  # a headband's
NOISE_S = 120  # of noise, then the same again
BACKLOG_BYTES = 4_000_000
INFO = StreamInfo("bench", RATE_HZ, (Channel("Fpz-Cz", "uV"),), 0.0)


def noise_like_eeg(rng: np.random.Generator, channels: int, seconds: int) -> Floats:
    """Noise of 20 µV whose power falls with the square of the frequency: (channels, seconds * RATE_HZ) µV.

    Like EEG it has 2 µV in 25-45 Hz. White noise has 8 µV there, which is muscle: grading that costs more.
    """
    count = seconds * RATE_HZ
    frequency_hz = np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 0.5)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal((channels, count))) / frequency_hz, count)
    scaled: Floats = noise * (20 / noise.std())
    return scaled


def seconds_of_eeg(count: int) -> Iterator[Chunk]:
    """Noise like EEG, one second a chunk."""
    noise = noise_like_eeg(np.random.default_rng(0), 1, NOISE_S)
    for second in range(count):
        at = second % NOISE_S * RATE_HZ
        yield Chunk(second * RATE_HZ, noise[:, at : at + RATE_HZ])


def pipeline(model: Model, hop_s: int) -> Pipeline:
    """Build the path that the engine runs."""
    return Pipeline(INFO, SignalSettings(), hop_s, model)


def simulated(hours: float, seed: int = 7) -> Iterator[Item]:
    """A night that looks like one, as `INFO` describes it, for what depends on what the samples are."""
    return SimulatedSource(SimulatedSettings(seed=seed, hours=hours, rate_hz=RATE_HZ)).items()


def timed(path: Pipeline, chunk: Chunk) -> tuple[float, list[Score]]:
    """Push a chunk; return the CPU seconds that this thread took, and the scores."""
    began = time.thread_time()
    scores = [output for output in path.push(chunk) if isinstance(output, Score)]
    return time.thread_time() - began, scores


@contextmanager
def recorded(folder: Path) -> Iterator[Callable[[Chunk, list[Score]], float]]:
    """Begin a session; yield what records a chunk, publishes its scores and returns its CPU seconds.

    A night comes faster here than a disk may take it, so it waits for the disk, which is not counted.
    Messages go as far as the outbox.
    """
    clock = SystemClock()
    meta = Meta("bench", "bench", "bench", INFO, "", {}, {})
    with Journal.create(folder / "bench.sqlite", meta, clock, deliver=True) as journal:
        topics = MqttStream("bench", journal.outbox, 60.0, clock)
        publisher = Publisher("bench", "bench", INFO, journal, [topics], clock, None)

        def record(chunk: Chunk, scores: list[Score]) -> float:
            began = time.thread_time()
            journal.record(chunk)
            for score in scores:
                publisher.score(score)
            taken_s = time.thread_time() - began
            while journal.status.pending_bytes > BACKLOG_BYTES:
                time.sleep(0.01)
            return taken_s

        yield record
