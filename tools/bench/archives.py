"""An archive: `tools.score` on one and two processes, against `sleepstream replay` of the same nights."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import edfio
import numpy as np

from streamer.errors import RunError
from tools.bench.figures import Asked, Figures
from tools.bench.signals import RATE_HZ

NIGHTS = 6  # staged by tools.score
REPLAYED = 2  # of them, by sleepstream replay

WANTED = {"one_process_over_replay": (">=", 1.0)}


def measure(asked: Asked) -> Figures:
    """Stage the same nights by both commands, as a person would: starting and loading the model included."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _write(folder / "night0.edf", asked.hours)
        for number in range(1, NIGHTS):
            os.link(folder / "night0.edf", folder / f"night{number}.edf")
        model = [] if asked.model is None else ["--model", str(asked.model)]
        score = [sys.executable, "-m", "tools.score", str(folder / "*.edf"), *model]
        took = {"replay": _per_night(REPLAYED, *(_replay(folder, n, asked.model) for n in range(REPLAYED)))}
        for name, processes in (("one_process", "1"), ("two_processes", "2")):
            command = [*score, "--out", str(folder / name), "--processes", processes]
            took[name] = _per_night(NIGHTS, command)
    figures: Figures = {"nights": NIGHTS}
    for name, (wall_s, cpu_s) in took.items():
        figures[f"{name}_nights_per_s"] = 1 / wall_s
        figures[f"{name}_times_real_time"] = asked.hours * 3600 / wall_s
        figures[f"{name}_cpu_s_per_night"] = cpu_s  # which others at work on this machine do not change
    return figures | {
        "one_process_over_replay": took["replay"][0] / took["one_process"][0],
        "two_processes_over_one": took["one_process"][0] / took["two_processes"][0],
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def _write(path: Path, hours: float) -> None:
    """One channel of noise at EEG's amplitude."""
    count = int(hours * 3600) * RATE_HZ
    samples = np.random.default_rng(0).standard_normal(count) * 20
    made = edfio.EdfSignal(
        samples, RATE_HZ, label="EEG Fpz-Cz", physical_dimension="uV", physical_range=(-500, 500)
    )
    edfio.Edf([made]).write(path)


def _replay(folder: Path, number: int, model: Path | None) -> list[str]:
    config = folder / "replay.toml"
    chosen = "" if model is None else f"[model]\npath = '{model.resolve()}'\ntrusted = true\n"
    config.write_text(f"{chosen}[[stream]]\n[stream.source]\nkind = 'simulated'\n", encoding="utf-8")
    command = "import sys; from streamer.cli import main; sys.exit(main())"
    recording, out = folder / f"night{number}.edf", folder / f"live{number}"
    options = ["--config", str(config), "--out", str(out)]
    return [sys.executable, "-c", command, "replay", str(recording), *options]


def _per_night(nights: int, *commands: list[str]) -> tuple[float, float]:
    """Wall and processor seconds that commands take, divided by the nights that they stage.

    Raises:
        RunError: one failed.

    """
    began, cpu_s = time.perf_counter(), _cpu_s()
    for command in commands:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RunError(f"{' '.join(command[:4])} failed: {ended.stderr.strip()}")
    return (time.perf_counter() - began) / nights, (_cpu_s() - cpu_s) / nights


def _cpu_s() -> float:
    """Of every process that was begun from here and has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
