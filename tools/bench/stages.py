"""The cost of a hop, stage by stage: CPU time of the thread that runs it, as a profiler would see it."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamer.clock import SystemClock
from streamer.journal import Journal
from streamer.journal.file import Meta
from streamer.messages import Score
from streamer.network.runner import Runner
from streamer.network.stager import Model
from streamer.pipeline import Pipeline
from streamer.sinks.publisher import Publisher
from streamer.sinks.topics import MqttStream
from tools.bench.figures import Figures
from tools.bench.signals import INFO, pipeline, seconds_of_eeg

WARM_S = 60  # the first window comes after 30 s


class _Watch:
    """Adds up what calls take, hop by hop."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)  # s of CPU, of the present hop

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Time each call; what it gives lazily is made at once, or it would be counted elsewhere."""

        def run(*given: Any) -> Any:
            began = time.thread_time()
            out = call(*given)
            out = list(out) if isinstance(out, Iterator) else out
            self.spent[stage] += time.thread_time() - began
            return out

        return run

    def on(self, owner: object, method: str, stage: str) -> None:
        """Time one method of one object."""
        setattr(owner, method, self.timed(stage, getattr(owner, method)))


class _Timed:
    """A runner whose steps are timed."""

    def __init__(self, runner: Runner, watch: _Watch) -> None:
        self.start, self.together, self.block = runner.start, runner.together, runner.block
        self.step = watch.timed("network", runner.step)


def _watched(model: Model, watch: _Watch) -> Pipeline:
    path = pipeline(Model(_Timed(model.runner, watch), model.contract), 1)
    front = path._front
    watch.on(front._derivation, "push", "derivation_quality")
    for method in ("push", "grade", "fast_uv"):
        watch.on(front._quality, method, "derivation_quality")
    watch.on(front._conditioner, "push", "conditioner_resampler")
    watch.on(front._windows, "push", "spectrogram_window")
    watch.on(path.session, "score", "session")
    watch.on(path._scorer, "score", "smoother")
    return path


def stage_costs(model: Model, hops: int = 300) -> Figures:
    """Medians over hops of 1 s, µs; `hop_us` is the whole, taken without the watch, in turn with it."""
    watch = _Watch()
    watched, plain = _watched(model, watch), pipeline(model, 1)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, journal_in(Path(folder)) as journal:
        voice = publisher(journal)
        for second, chunk in enumerate(seconds_of_eeg(WARM_S + hops)):
            watch.spent.clear()
            list(watched.push(chunk))
            row = dict(watch.spent)
            began = time.thread_time()
            scores = [output for output in plain.push(chunk) if isinstance(output, Score)]
            row["hop"] = time.thread_time() - began
            began = time.thread_time()
            journal.record(chunk)
            for score in scores:
                voice.score(score)
            row["publish_journal"] = time.thread_time() - began
            if second >= WARM_S:
                row["session"] -= row["network"]
                rows.append(row)
    return {f"{stage}_us": float(np.median([row[stage] for row in rows])) * 1e6 for stage in rows[0]}


def journal_in(folder: Path) -> Journal:
    """Begin a session file."""
    meta = Meta("bench", "bench", "bench", INFO, "", {}, {})
    return Journal.create(folder / "bench.sqlite", meta, SystemClock(), deliver=True)


def publisher(journal: Journal) -> Publisher:
    """Return a voice with everything but the network that its messages would go out to."""
    topics = MqttStream("bench", journal.outbox, 60.0, SystemClock())
    return Publisher("bench", "bench", INFO, journal, [topics], SystemClock(), None)
