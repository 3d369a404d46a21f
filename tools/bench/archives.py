"""An archive: `tools.score` on one and two processes, against `sleepstream replay` of the same nights."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import edfio
import numpy as np

from streamer.errors import RunError
from tools.bench.figures import SLEEPSTREAM, Asked, Figures
from tools.bench.signals import RATE_HZ

NIGHTS = 6  # staged by tools.score
REPLAYED = 2  # of them, by sleepstream replay
HEADER_BYTES = 512  # of an EDF of one signal; the number of its records is at 236

WANTED = {"one_process_over_replay": (">=", 1.0)}


def measure(asked: Asked) -> Figures:
    """Stage the same nights by both commands, as a person would: starting and loading the model included."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        hours = _write(folder / "night0.edf", asked.hours)
        for number in range(1, NIGHTS):
            os.link(folder / "night0.edf", folder / f"night{number}.edf")
        model = [] if asked.model is None else ["--model", str(asked.model)]
        score = [sys.executable, "-m", "tools.score", str(folder / "*.edf"), *model]
        replays = [_replay(folder, number, asked.model) for number in range(REPLAYED)]
        costs = {"replay": _cost(replays, REPLAYED)}
        for name, processes in (("one_process", "1"), ("two_processes", "2")):
            costs[name] = _cost([[*score, "--out", str(folder / name), "--processes", processes]], NIGHTS)
    figures: Figures = {"nights": NIGHTS}
    for name, cost in costs.items():
        figures[f"{name}_nights_per_s"] = 1 / cost.wall_s
        figures[f"{name}_times_real_time"] = hours * 3600 / cost.wall_s
        figures[f"{name}_cpu_s_per_night"] = cost.cpu_s  # which others at work on this machine do not change
        figures[f"{name}_peak_mb"] = cost.peak_mb
    return figures | {
        "one_process_over_replay": costs["replay"].wall_s / costs["one_process"].wall_s,
        "two_processes_over_one": costs["one_process"].wall_s / costs["two_processes"].wall_s,
    }


def _write(path: Path, hours: float) -> float:
    """One channel of noise at EEG's amplitude, the same half hour over and over; how many hours it makes.

    By the piece, because a process that is begun counts the memory of the one that began it as its own.
    """
    samples = np.random.default_rng(0).standard_normal(1800 * RATE_HZ) * 20
    made = edfio.EdfSignal(
        samples, RATE_HZ, label="EEG Fpz-Cz", physical_dimension="uV", physical_range=(-500, 500)
    )
    written = edfio.Edf([made], data_record_duration=1).to_bytes()
    header, records = written[:HEADER_BYTES], written[HEADER_BYTES:]
    pieces = max(1, round(2 * hours))
    with path.open("wb") as file:
        file.write(header[:236] + b"%-8d" % (1800 * pieces) + header[244:])
        for _ in range(pieces):
            file.write(records)
    return pieces / 2


def _replay(folder: Path, number: int, model: Path | None) -> list[str]:
    config = folder / "replay.toml"
    chosen = "" if model is None else f"[model]\npath = '{model.resolve()}'\ntrusted = true\n"
    config.write_text(f"{chosen}[[stream]]\n[stream.source]\nkind = 'simulated'\n", encoding="utf-8")
    recording, out = folder / f"night{number}.edf", folder / f"live{number}"
    options = ["--config", str(config), "--out", str(out)]
    return [*SLEEPSTREAM, "replay", str(recording), *options]


class Cost(NamedTuple):
    """Of one night."""

    wall_s: float
    cpu_s: float
    peak_mb: float  # of the largest process that took part


def _cost(commands: Sequence[list[str]], nights: int) -> Cost:
    """What commands cost, one after the other, divided by the nights that they stage.

    Raises:
        RunError: one failed.

    """
    wall_s = cpu_s = peak_mb = 0.0
    for command in commands:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RunError(f"{' '.join(command[:4])} failed; what it said stands above")
        wall_s += time.perf_counter() - began
        cpu_s += used.ru_utime + used.ru_stime
        peak_mb = max(peak_mb, used.ru_maxrss / 1024)
    return Cost(wall_s / nights, cpu_s / nights, peak_mb)
