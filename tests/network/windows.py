"""Epochs for the network, drawn."""

from __future__ import annotations

import numpy as np

from streamer.messages import Window


def windows(count: int, seed: int = 0) -> list[Window]:
    rng = np.random.default_rng(seed)
    return [
        Window(
            3000 * (epoch + 1),
            epoch,
            rng.normal(0, 20, 3000).astype(np.float32),
            rng.normal(35, 10, (29, 128)).astype(np.float32),
        )
        for epoch in range(count)
    ]
