"""Load a scorer of whole nights from outside the project: it labels synthetic nights, or judges them.

Its code and weights are not part of the project: the command line names a Python file whose class `Teacher`
has

    probabilities(samples_uv, rate_hz=100, window=81) -> (epochs, 5), in the order W N1 N2 N3 R

where `window` is the number of epochs that it scores together. It may look ahead: its labels are used for
training only. The user has to mind its licence, and to name it in the model card.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from torch import nn

from streamer.errors import UsageError
from streamer.messages import EPOCH_SAMPLES, STAGES

WINDOW = 81  # epochs: 21 are too few to standardise over in a long stretch of one stage

Samples = NDArray[np.float32]
Scorer = Callable[[Samples], Samples]  # (n_epochs * 3000,) µV -> probabilities (n_epochs, 5)


def load_module(path: Path) -> ModuleType:
    """Run a teacher's file; UsageError when there is none, or it holds no `Teacher`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise UsageError(f"teacher {path}: no such Python file; see model/teacher.py for what it has to hold")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "Teacher"):
        raise UsageError(f"teacher {path}: holds no class Teacher; see model/teacher.py")
    return module


def load_networks(path: Path) -> tuple[list[nn.Module], int]:
    """Return the networks of a file's `Teacher`, to be looked through by gradients, and their rate in Hz.

    Raises:
        UsageError: the file holds no `RATE_HZ`, or its `Teacher` no `networks`.

    """
    module = load_module(path)
    networks = getattr(module.Teacher(), "networks", None)
    if not networks or not hasattr(module, "RATE_HZ"):
        raise UsageError(f"teacher {path}: holds no RATE_HZ or no Teacher.networks; see tools/fit_texture.py")
    return [one.eval().requires_grad_(False) for one in networks.values()], int(module.RATE_HZ)


def load_teacher(path: Path, window: int = WINDOW) -> Scorer:
    """Return what a file's `Teacher` says of (n_epochs * 3000,) µV: probabilities (n_epochs, 5).

    Raises:
        UsageError: there is no such file, or it holds no `Teacher`.

    """
    teacher = load_module(path).Teacher()

    def score(samples: Samples) -> Samples:
        said = np.asarray(teacher.probabilities(samples, window=window), np.float32)
        if said.shape != (samples.size // EPOCH_SAMPLES, len(STAGES)):
            raise UsageError(
                f"teacher {path}: gave {said.shape} for {samples.size // EPOCH_SAMPLES} epochs, "
                f"not (epochs, {len(STAGES)})"
            )
        return said

    return score
