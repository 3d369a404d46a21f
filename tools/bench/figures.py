"""The figures of a measurement: how they are taken, summed up and shown."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from streamer.settings import Runtime

Figure = float | int | str
Figures = dict[str, Figure]
SLEEPSTREAM = (sys.executable, "-c", "import sys; from streamer.cli import main; sys.exit(main())")
Wanted = dict[str, tuple[Literal["<=", ">="], float]]


class Asked(argparse.Namespace):
    """The options of the command line, for all parts."""

    only: str | None = None  # names of parts, separated by commas
    model: Path | None = None  # an artifact; None: the packaged one
    hours: float = 8.0  # length of a night
    repeats: int = 3
    runtime: Runtime = "auto"  # of the network
    device: str = "cpu"  # likewise, in the parts that can have another
    peer: Sequence[str] = ()  # other stagers, each as NAME=ADAPTER; see peers.py
    fleet: int | None = None  # sleepers that real engines stage at once
    json: Path | None = None  # to write the figures to


def machine() -> Figures:
    """Describe the machine and the libraries that the figures were measured with."""
    name = platform.processor()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
    return {
        "processor": name,
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),  # others were at work if this is above 0
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "numpy": np.__version__,
    }


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those it starts, on one core of those it may use."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resident_mb() -> float:
    """Resident memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def percentiles(name: str, values_ms: Sequence[float]) -> Figures:
    """Median, 99th percentile and maximum."""
    return {
        f"{name}_p50_ms": float(np.percentile(values_ms, 50)),
        f"{name}_p99_ms": float(np.percentile(values_ms, 99)),
        f"{name}_max_ms": max(values_ms),
    }


def cpu_s(work: Callable[[], object], times: int, of: Callable[[], float] = time.thread_time) -> float:
    """CPU seconds that one piece of work takes this thread, the median; neighbours add little to them."""
    taken = []
    for _ in range(times):
        began = of()
        work()
        taken.append(of() - began)
    return statistics.median(taken)


def median_of(runs: Sequence[Figures]) -> Figures:
    """Sum up repeats: the median of each figure, of a maximum the largest."""
    out: Figures = {}
    for name, first in runs[0].items():
        values = [value for run in runs if not isinstance(value := run[name], str)]
        pick = max if name.endswith(("_max_ms", "_max_s")) else statistics.median
        out[name] = first if isinstance(first, str) else pick(values)
    return out


def missed(figures: Figures, wanted: Wanted) -> list[str]:
    """Name the figures that are not what is wanted."""
    out = []
    for name, (sign, limit) in wanted.items():
        value = figures[name]
        if isinstance(value, str) or not (value <= limit if sign == "<=" else value >= limit):
            out.append(name)
    return out


def show(title: str, figures: Figures, wanted: Wanted) -> None:
    """Print a table."""
    table = Table("figure", "value", "wanted", box=None)
    bad = missed(figures, wanted)
    for name, value in figures.items():
        limit = " ".join(map(str, wanted.get(name, ())))
        text = str(value) if isinstance(value, str) or value == int(value) else f"{value:.4g}"
        table.add_row(name, text, f"{limit}  MISSED" if name in bad else limit)
    Console(soft_wrap=True).print(title, table, "")
