"""What runs the network: onnx.py on a CPU, torchscript.py on a GPU (and on a CPU, when asked for).

A runner holds weights and no stream: what a stream remembers goes in and comes out, and is the runner's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]
WARMUP_CALLS = 4  # TorchScript profiles and recompiles during the first ones


class Given(NamedTuple):
    """Epochs for the network: one of each of n streams, or n consecutive ones of one stream."""

    raw: Singles  # (n, 3000) µV, NaN where lost
    spectrum: Singles  # (n, 29, 128) dB, NaN where lost
    present: Bools  # (n, 2): which views are there; the others are masked, whatever they hold


class Runner(Protocol):
    """Runs the network on some runtime."""

    def start(self) -> Any:
        """Return a new stream's past."""
        ...

    def joined(self, pasts: Sequence[Any]) -> Any:
        """Put the pasts of several streams side by side."""
        ...

    def step(self, given: Given, past: Any) -> tuple[Singles, Callable[[], Any]]:
        """Take one epoch of each stream.

        Returns:
            logits (n, 5), and what makes the past that has these epochs in it: off the 30 s grid nobody asks
            for it, so a hop moves no memory.

        """
        ...

    def block(self, given: Given, past: Any) -> tuple[Singles, Any]:
        """Take n consecutive epochs of one stream: logits (n, 5), and the past that has them in it."""
        ...
