"""The interface of the two runners: onnx.py on a CPU, torchscript.py on a GPU (or on a CPU, if asked for).

A runner holds the weights and no stream's state. The state ("past") of a stream is passed in and returned;
only the runner knows its form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Bools = NDArray[np.bool_]
PASS = 32  # windows in a pass, at most; more would take longer, and hardly less time each
WARMUP_CALLS = 4  # TorchScript profiles and recompiles during the first ones


class Given(NamedTuple):
    """Epochs for the network: one epoch of each of n streams, or n consecutive epochs of one stream."""

    raw: Singles  # (n, 3000) µV, NaN where lost
    spectrum: Singles  # (n, 29, 128) dB, NaN where lost
    present: Bools  # (n, 2): which of raw and spectrum are used; the others are masked


class Runner(Protocol):
    """Runs the network on some runtime."""

    def start(self) -> Any:
        """Return the past of a new stream."""
        ...

    def step(self, given: Given, past: Any) -> tuple[Singles, Callable[[], Any]]:
        """Run one epoch of one stream.

        Returns:
            logits (1, 5), and a function that makes the past with this epoch in it. It is not called off
            the 30 s grid, so that a hop copies no memory.

        """
        ...

    def order(self, pasts: Sequence[Any]) -> Sequence[int]:
        """Return in which order `together` takes these pasts with the least work, as indices."""
        ...

    def together(self, given: Given, pasts: Sequence[Any]) -> tuple[Singles, Callable[[int], Any]]:
        """Run one epoch of each of several streams in one pass.

        Returns:
            logits (n, 5), and a function that makes the past of stream number i with its epoch in it. Both
            differ from those of `step` in the last bits.

        """
        ...

    def block(self, given: Given, past: Any) -> tuple[Singles, Any]:
        """Run n consecutive epochs of one stream; return logits (n, 5), and the past with them in it."""
        ...
