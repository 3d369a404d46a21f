"""A night as arrays, in the columns that `model.data.load_night` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamer import private
from streamer.messages import STAGES
from streamer.session import Night, Progress, conditioned


def write_npz(night: Night, path: Path, progress: Progress) -> list[str]:
    """`samples` (epochs * 3000,) float16 µV at 100 Hz, NaN where lost; `stages` (epochs,), -1 where unscored.

    `soft` holds the engine's probabilities, 0 where unscored. These are the engine's own stages, not an
    expert's: training on them teaches a network its own mistakes.
    """
    stages = [STAGES.index(label) if label in STAGES else -1 for label in night.labels]
    with open(path, "wb", opener=private.opener) as file:
        np.savez(
            file,
            recording=np.array(night.meta.session),
            subject=np.array(night.meta.stream),
            samples=conditioned(night, progress).astype(np.float16),
            stages=np.array(stages, dtype=np.int8),
            soft=np.nan_to_num(night.probabilities()).astype(np.float32),
        )
    return ["the stages are the engine's own, not an expert's"]
