"""What the parts feed to the pipeline, and where its scores go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamer.clock import SystemClock
from streamer.journal import Journal, Meta
from streamer.messages import Channel, Chunk, Item, StreamInfo
from streamer.network.stager import Model
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from streamer.sinks.publisher import Publisher
from streamer.sinks.topics import MqttStream
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource

RATE_HZ = 256  # a headband's
INFO = StreamInfo("bench", RATE_HZ, (Channel("Fpz-Cz", "uV"),), 0.0)


def seconds_of_eeg(count: int) -> Iterator[Chunk]:
    """Noise at EEG's amplitude, one second a chunk; the cost does not depend on what the samples are."""
    rng = np.random.default_rng(0)
    for second in range(count):
        yield Chunk(second * RATE_HZ, rng.standard_normal((1, RATE_HZ)) * 20)


def pipeline(model: Model, hop_s: int) -> Pipeline:
    """Build the path that the engine runs."""
    return Pipeline(INFO, SignalSettings(), hop_s, model)


def simulated(hours: float, seed: int = 7) -> Iterator[Item]:
    """A night that looks like one, as `INFO` describes it, for what depends on what the samples are."""
    return SimulatedSource(SimulatedSettings(seed=seed, hours=hours, rate_hz=RATE_HZ)).items()


def journal_in(folder: Path) -> Journal:
    """Begin a session file."""
    meta = Meta("bench", "bench", "bench", INFO, "", {}, {})
    return Journal.create(folder / "bench.sqlite", meta, SystemClock(), deliver=True)


def publisher(journal: Journal) -> Publisher:
    """Return a voice with everything but the network that its messages would go out to."""
    topics = MqttStream("bench", journal.outbox, 60.0, SystemClock())
    return Publisher("bench", "bench", INFO, journal, [topics], SystemClock(), None)
