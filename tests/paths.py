"""The whole path in one call, for tests that look at it from both ends."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from streamer.messages import Channel, Item, Score, StreamInfo
from streamer.network.stager import Model
from streamer.pipeline import Output, Pipeline
from streamer.settings import SignalSettings

SHORT_NIGHT = """
session_dir = "night"
[mqtt]
embedded = true
port = {port}
[web]
port = 0
[[stream]]
[stream.source]
kind = "simulated"
hours = 0.02
speed = {speed}
"""


@cache
def default_model() -> Model:
    """The packaged artifact, loaded once."""
    return Model.load()


def info(rate_hz: float, labels: tuple[str, ...] = ("Fpz-Cz",), unit: str = "uV") -> StreamInfo:
    """A stream as a source would describe it."""
    return StreamInfo("test", rate_hz, tuple(Channel(label, unit) for label in labels), 1.0e9)


def run(
    items: Iterable[Item], rate_hz: float, hop_s: int = 30, channel: str | None = None, flush: bool = True
) -> list[Output]:
    """Everything the pipeline gives for a stream."""
    pipeline = Pipeline(info(rate_hz), SignalSettings(channel=channel), hop_s, default_model())
    out = [output for item in items for output in pipeline.push(item)]
    return [*out, *pipeline.flush()] if flush else out


def scores(outputs: Iterable[Output]) -> list[Score]:
    """Only the scores."""
    return [output for output in outputs if isinstance(output, Score)]


def eeg(seconds: float, rate_hz: float, seed: int = 0) -> np.ndarray:
    """(1, n) µV of something like EEG: 1/f noise with slow waves that come and go."""
    count = int(seconds * rate_hz)
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / rate_hz)
    noise = np.fft.irfft(spectrum / np.maximum(hz, 0.5), count)
    times = np.arange(count) / rate_hz
    slow = 40 * np.sin(2 * np.pi * 0.9 * times) * (np.sin(2 * np.pi * times / 240) > 0.3)
    return (noise / noise.std() * 12 + slow)[None, :]
