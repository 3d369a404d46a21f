"""Other stagers, used live as they can be: the night so far staged anew for each new epoch.

YASA is measured where it is installed (extra `peers`). Any other stager joins with `--peer NAME=ADAPTER`:

- `module:function`: a Python callable; it is given the night so far, (n,) float32 µV at 100 Hz, to stage it;
- anything else: a command; the path of an .npy file with the same array is appended to it. Its start counts.

Costs are CPU time of the process, or of the command's, at the end of a night of --hours. `hop` is what we do
when an epoch's last second has come, as `--only hop` has it.
"""

from __future__ import annotations

import resource
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import UsageError
from streamer.frontend import condition
from streamer.messages import RATE_HZ
from streamer.network.stager import Model
from streamer.settings import SignalSettings
from tools.bench.figures import Asked, Figures, cpu_s, one_core
from tools.bench.hop import hop_costs
from tools.bench.signals import INFO, simulated

Samples = NDArray[np.float32]
WANTED = {"yasa_over_hop": (">=", 1000.0)}


def measure(asked: Asked) -> Figures:
    """Measure on one core."""
    peers = {name: adapter(text) for name, _, text in (one.partition("=") for one in asked.peer)}
    if find_spec("yasa") is not None:
        from model.draw import yasa  # needs torch, which this part does not

        peers["yasa"] = _process_s(yasa)
    with one_core():
        model = Model.load(asked.model, runtime=asked.runtime, trusted=True)
        hop_s = float(hop_costs(model)["hop_us"]) / 1e6
        figures: Figures = {"hop_ms": hop_s * 1000}
        if "yasa" not in peers:
            figures["yasa"] = "not installed: pip install '.[peers]'"
        night = condition(simulated(asked.hours) if peers else (), INFO, SignalSettings())
        for name, cost_s in peers.items():
            cost_s(night[: 600 * RATE_HZ])  # what it loads once, it need not load again
            taken = cost_s(night)
            figures |= {f"{name}_s": taken, f"{name}_over_hop": taken / hop_s}
    return figures


def adapter(text: str) -> Callable[[Samples], float]:
    """Make of what --peer says a function that stages samples and tells the CPU seconds.

    Raises:
        UsageError: there is no such module or function.

    """
    module, _, function = text.partition(":")
    if not (module.replace(".", "").isidentifier() and function.isidentifier()):
        return _command_s(text)
    try:
        return _process_s(getattr(import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise UsageError(f"peer {text!r}: {error}; give module:function, or a command") from None


def _process_s(stage: Callable[[Samples], object]) -> Callable[[Samples], float]:
    return lambda samples: cpu_s(lambda: stage(samples), 1, of=time.process_time)


def _command_s(command: str) -> Callable[[Samples], float]:
    def stage(path: Path) -> None:
        done = subprocess.run([*shlex.split(command), str(path)], stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise UsageError(f"peer {command!r}: ended with {done.returncode}; try it by hand")

    def run(samples: Samples) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "night.npy"
            np.save(path, samples)
            return cpu_s(lambda: stage(path), 1, of=_children_s)

    return run


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
