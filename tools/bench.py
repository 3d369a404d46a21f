"""The one place for figures of speed and memory: `python -m tools.bench [--json FILE]`.

Every ratio compares two things measured in turn, in the same minute, on one thread. Nothing here is asserted
in a test: machines differ and are shared.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from streamer.clock import SystemClock
from streamer.engine import Engine
from streamer.messages import Channel, Chunk, Score, StreamInfo
from streamer.payloads import EventPayload, StagePayload
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings, validate
from streamer.sinks.mqtt import MqttStatus
from streamer.spectrogram import spectrogram
from streamer.stager import Model
from tools.latency import trigger_latency

RATE_HZ = 256  # a headband's
Figures = dict[str, float | int | str]


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="an artifact (default: the packaged one)")
    parser.add_argument("--hours", type=float, default=8.0, help="length of the night (default: 8)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    before_mb = resident_mb()
    began = time.perf_counter()
    model = Model.load(asked.model, trusted=True)
    figures: Figures = {"machine": machine(), "torch": torch.__version__, "model": model.contract.size}
    figures["parameters"] = model.contract.parameters
    figures["load_s"] = time.perf_counter() - began
    figures |= hop_cost(model, 1)
    figures |= against_recomputing(model)
    figures |= night(model, asked.hours)
    figures |= asyncio.run(through_the_engine())
    for outlet, values_ms in asyncio.run(trigger_latency(18831)).items():
        figures |= percentiles(f"hop1_trigger_{outlet}", values_ms)
    figures["rss_before_model_mb"] = before_mb
    figures["rss_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    show(figures)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Name the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {torch.get_num_threads()} thread"
    return platform.processor()


def resident_mb() -> float:
    """Resident memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def seconds_of_eeg(count: int) -> Iterator[Chunk]:
    """Noise at EEG's amplitude, one second a chunk; the cost does not depend on what the samples are."""
    rng = np.random.default_rng(0)
    for second in range(count):
        yield Chunk(second * RATE_HZ, rng.standard_normal((1, RATE_HZ)) * 20)


def pipeline(model: Model, hop_s: int) -> Pipeline:
    """Build the path that the engine runs."""
    info = StreamInfo("bench", RATE_HZ, (Channel("Fpz-Cz", "uV"),), 0.0)
    return Pipeline(info, SignalSettings(), hop_s, model)


def percentiles(name: str, values_ms: list[float]) -> Figures:
    """Median, 99th percentile and maximum."""
    return {
        f"{name}_p50_ms": float(np.percentile(values_ms, 50)),
        f"{name}_p99_ms": float(np.percentile(values_ms, 99)),
        f"{name}_max_ms": max(values_ms),
    }


def hop_cost(model: Model, hop_s: int) -> Figures:
    """Time from the arrival of a hop's last second to its score, inside the pipeline, for ten minutes."""
    path = pipeline(model, hop_s)
    times = []
    for chunk in seconds_of_eeg(630):
        began = time.perf_counter()
        scored = [output for output in path.push(chunk) if isinstance(output, Score)]
        if scored:
            times.append((time.perf_counter() - began) * 1000)
    return percentiles(f"hop{hop_s}_pipeline", times)


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
        ours.append(_median(lambda: list(path.push(next(chunks))), 3))
        theirs.append(_median(recompute, 1))
    return {
        "recompute_context_epochs": epochs,
        "recompute_ms": statistics.median(theirs) * 1000,
        "incremental_ms": statistics.median(ours) * 1000,
        "recompute_over_incremental": statistics.median(t / o for t, o in zip(theirs, ours, strict=True)),
    }


def _median(work: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def night(model: Model, hours: float) -> Figures:
    """Stage a whole night at hop 30 s through the pipeline, and see what it costs in time and memory."""
    path = pipeline(model, 30)
    gc.collect()
    before_mb = resident_mb()
    began = time.perf_counter()
    outputs = (out for chunk in seconds_of_eeg(int(hours * 3600)) for out in path.push(chunk))
    epochs = sum(isinstance(out, Score) for out in chain(outputs, path.flush()))
    took = time.perf_counter() - began
    return {
        "night_epochs": epochs,
        "night_s": took,
        "night_times_real_time": hours * 3600 / took,
        "night_memory_growth_mb": resident_mb() - before_mb,
    }


class _Latencies:
    """Collects what the engine says of its own latency."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """Nothing to note."""

    def staged(self, stream: str, payload: StagePayload) -> None:
        """Note the time from the last sample's arrival to this publication."""
        if payload.latency_ms is not None:
            self.ms.append(payload.latency_ms)

    def happened(self, stream: str, payload: EventPayload) -> None:
        """Nothing to note."""

    def broker(self, status: MqttStatus) -> None:
        """Nothing to note."""


async def through_the_engine() -> Figures:
    """Latency of the whole engine at hop 1 s and 20 times real time: source, journal, model, broker."""
    seen = _Latencies()
    with tempfile.TemporaryDirectory() as folder:
        settings = validate(
            {
                "session_dir": folder,
                "mqtt": {"embedded": True, "port": 18830},
                "stream": [
                    {
                        "hop_s": 1,
                        "source": {"kind": "simulated", "hours": 0.2, "rate_hz": RATE_HZ, "speed": 20},
                    }
                ],
            },
            "bench",
        )
        await Engine(settings, SystemClock(), seen).run()
    return percentiles("hop1_engine", seen.ms)


def show(figures: Figures) -> None:
    """Print a table."""
    table = Table("figure", "value", box=None)
    for name, value in figures.items():
        table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
