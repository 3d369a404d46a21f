"""What a window costs when streams share a pass of the network, and how far its score then differs."""

from __future__ import annotations

import numpy as np

from streamer.messages import EPOCH_SAMPLES, Window
from streamer.network.stager import Model, Session, score_together
from streamer.window import BINS, FRAMES
from tools.bench.figures import Asked, Figures, cpu_s, one_core

TOGETHER = (2, 4, 8, 16)
PAST = 12  # epochs that each stream remembers
DRAWS = 10  # of windows to compare
TIMES = 60


def measure(asked: Asked) -> Figures:
    """Score the same windows alone and together; CPU time per window of the thread that does it."""
    model = Model.load(asked.model, asked.device, runtime=asked.runtime, trusted=True)
    rng = np.random.default_rng(0)
    sessions = [model.session() for _ in range(max(TOGETHER))]
    for epoch in range(PAST):
        for session in sessions:
            session.score(_window(rng, epoch), usable=True)
    provisional = [(session, _window(rng, None), True) for session in sessions]
    with one_core():
        figures: Figures = {"runtime": type(model.runner).__name__}
        figures["alone_us"] = 1e6 * cpu_s(lambda: provisional[0][0].score(*provisional[0][1:]), TIMES)
        for count in TOGETHER:
            some = provisional[:count]
            figures[f"of_{count}_us"] = 1e6 * cpu_s(lambda some=some: score_together(some), TIMES) / count
    figures["worst_difference"] = max(_difference(sessions, rng) for _ in range(DRAWS))
    return figures


def _difference(sessions: list[Session], rng: np.random.Generator) -> float:
    """The largest of a probability, over every size of a pass."""
    asked = [(session, _window(rng, None), True) for session in sessions]
    alone = [session.score(*given).probabilities for session, *given in asked]
    worst = 0.0
    for count in TOGETHER:
        together = [staged.probabilities for staged in score_together(asked[:count])]
        worst = max(worst, float(np.abs(np.array(together) - np.array(alone[:count])).max()))
    return worst


def _window(rng: np.random.Generator, epoch: int | None) -> Window:
    """Noise at EEG's amplitude, and at the level of its spectrogram."""
    samples = rng.normal(0, 20, EPOCH_SAMPLES).astype(np.float32)
    columns = rng.normal(35, 10, (FRAMES, BINS)).astype(np.float32)
    return Window(EPOCH_SAMPLES * (PAST + 1 if epoch is None else epoch + 1), epoch, samples, columns)
