"""What a GPU says beside a CPU, and how fast: comparisons, timings, one JSON, one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model.export import export
from model.mc2sleepnet import MC2SleepNet
from model.size import SIZES
from streamer.errors import SleepstreamError, UsageError
from streamer.network.artifact import contract_inside
from streamer.network.contract import Contract
from streamer.network.cuda_graph import with_graphs
from streamer.network.runner import Given, Runner
from streamer.network.stager import Model
from streamer.network.torch_loader import load_script
from streamer.network.torchscript import TorchNetwork, TorchRunner
from streamer.network.trust import PACKAGED
from streamer.settings import Precision
from tests.gpu import passes
from tests.gpu.agreement import agreement, nights
from tools.bench import night, streams
from tools.bench.figures import Asked, Figures, machine

BUDGET_S = 300.0
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ALLOWED = {"float32": 1e-4}  # of a probability
STAGES_ALIKE = 0.995  # share of epochs, for the other precisions
LONGEST_S = 0.5  # of timing one batch of one way
LEAST_S = 60.0  # that must be left for a part of the bench
CPU = torch.device("cpu")


@dataclass
class Findings:
    """What was measured, and what was wrong with it."""

    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, ...]] = field(default_factory=list)  # of the table
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def run(asked: argparse.Namespace) -> int:
    """Run all of it; exit code 1 where something differs or fails."""
    began = time.monotonic()
    found = Findings({"machine": machine(), "device": asked.device})
    try:
        if asked.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no CUDA device here; --device cpu runs what it can")
        if asked.device == "cuda":
            found.figures["gpu"] = torch.cuda.get_device_name()
        _tests(asked.device, found)
        with TemporaryDirectory() as folder:
            for name, path in _artifacts(Path(folder), asked.sizes).items():
                _network(name, path, asked, found, began)
        _engine(asked, found, began)
    except SleepstreamError as error:
        found.failures.append(str(error))
    found.figures |= {"took_s": round(time.monotonic() - began, 1)}
    found.figures |= {"failures": found.failures, "left_out": found.left_out}
    asked.out.write_text(json.dumps(found.figures, indent=1) + "\n", encoding="utf-8")
    _show(found)
    return 1 if found.failures else 0


def _tests(device: str, found: Findings) -> None:
    """Run the tests that need a GPU, where there is one."""
    if device == "cpu":
        found.left_out.append("pytest -m gpu: needs a CUDA device")
        return
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--no-skips", "tests/network/test_gpu.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found.figures["pytest"] = done.stdout.splitlines()[-1:]
    if done.returncode:
        found.failures.append(f"pytest -m gpu: {' '.join(done.stdout.splitlines()[-3:])}")


def _artifacts(folder: Path, sizes: list[str]) -> dict[str, Path]:
    """The packaged network, and others with random weights: they cost what trained ones would."""
    paths = {}
    for name in sizes:
        if name == "packaged":
            paths[name] = PACKAGED
            continue
        torch.manual_seed(0)
        paths[name] = folder / f"{name}.pt"
        export(MC2SleepNet(SIZES[name]).eval(), SIZES[name], "nothing", paths[name], onnx=False)
    return paths


def _network(name: str, path: Path, asked: argparse.Namespace, found: Findings, began: float) -> None:
    """One size, in all ways: compared with a CPU, then timed."""
    data = path.read_bytes()
    contract, device = contract_inside(data, path), torch.device(asked.device)
    scripted = load_script(data, path, contract, device)
    ways: dict[str, Runner] = {}
    for precision in get_args(Precision):
        plain = TorchNetwork(scripted, device, precision)
        ways[precision] = TorchRunner(plain, device)
        if device.type == "cuda":
            graphed = with_graphs(plain, device)
            if graphed is plain:
                found.failures.append(f"{name} {precision}: no CUDA graphs could be had; see the log")
                continue
            ways[f"{precision}_graphs"] = TorchRunner(graphed, device)
    exact = TorchRunner(TorchNetwork(load_script(data, path, contract, CPU), CPU), CPU)
    for way, figures in _compared(exact, contract, ways, asked.hours).items():
        found.figures.setdefault(name, {})[way] = figures
        precision = way.removesuffix("_graphs")
        if not figures["off"] <= ALLOWED.get(precision, 1.0):  # NaN must not pass
            found.failures.append(f"{name} {way}: off the CPU's by {figures['off']:.1e} of a probability")
        if not figures["alike"] >= (1.0 if precision in ALLOWED else STAGES_ALIKE):
            found.failures.append(f"{name} {way}: {1 - figures['alike']:.2%} of the stages are not the CPU's")
        for batch in (one for one in BATCHES if one <= asked.most):
            if time.monotonic() - began > BUDGET_S:
                found.left_out.append(f"{name} {way} from {batch} streams on: the five minutes are over")
                break
            figures[f"us_of_{batch}"] = us_per_stream(ways[way], batch)
        found.rows.append((name, way, *_row(figures)))


def _compared(
    exact: Runner, contract: Contract, ways: Mapping[str, Runner], hours: float
) -> dict[str, dict[str, float]]:
    """Every way beside the CPU's float32: share of epochs with the same stage, and the largest difference."""
    figures = agreement(Model(exact, contract), ways, nights(hours, ()))
    return {
        way: {
            "alike": float(figures[f"{way}_agreement_simulated"]),
            "off": float(figures[f"{way}_off_simulated"]),
        }
        for way in ways
    }


def us_per_stream(runner: Runner, streams: int) -> float:
    """µs on the wall for one epoch of each stream, all in one pass: the median over half a second at most."""
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 20, (streams, 3000)).astype(np.float32)
    spectrum = rng.normal(35, 10, (streams, 29, 128)).astype(np.float32)
    given, pasts = Given(raw, spectrum, np.ones((streams, 2), np.bool_)), [runner.start()] * streams
    taken: list[float] = []
    for _ in range(3):
        runner.together(given, pasts)
    while sum(taken) < LONGEST_S and len(taken) < 50:
        began = time.perf_counter()
        runner.together(given, pasts)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e6 / streams


def _engine(asked: argparse.Namespace, found: Findings, began: float) -> None:
    """Parts of the bench that a device can have, and one point of its streams."""
    wanted = Asked(device=asked.device, hours=asked.hours, runtime="torchscript")
    parts: dict[str, Callable[[], Figures]] = {
        "passes": lambda: passes.measure(wanted),
        "night": lambda: night.measure(wanted),
        "streams": lambda: streams.point(asked.streams, 1, asked.device),
    }
    if which("mosquitto") is None:
        del parts["streams"]
        found.left_out.append("streams: needs mosquitto")
    for name, measure in parts.items():
        if time.monotonic() - began > BUDGET_S - LEAST_S:
            found.left_out.append(f"{name}: the five minutes are over")
            continue
        found.figures[name] = measure()


def _row(figures: Mapping[str, float]) -> tuple[str, ...]:
    timed = (f"{figures[f'us_of_{batch}']:.0f}" if f"us_of_{batch}" in figures else "-" for batch in BATCHES)
    return f"{figures['alike']:.2%}", f"{figures['off']:.0e}", *timed


def _show(found: Findings) -> None:
    table = Table(title="µs per stream and epoch, by the streams in a pass")
    for heading in ("network", "way", "stages as on a CPU", "off", *map(str, BATCHES)):
        table.add_column(heading)
    for row in found.rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for line in found.left_out:
        console.print(f"left out: {line}", highlight=False)
    for line in found.failures:
        console.print(f"FAILED: {line}", highlight=False, style="red")
