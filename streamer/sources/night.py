"""Draws a simulated night's stages, and for each epoch the measurements from which its EEG is drawn.

The statistics behind it come from the 153 cassette nights of Sleep-EDF Expanded (Kemp et al., PhysioNet,
ODC-By 1.0); `python -m tools.night_figures FEATURES.npz --out FILE` computes them again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.messages import EPOCH_S, STAGES, Stage
from streamer.sources.synthesis import BANDS_HZ, Measured

Array = NDArray[np.float64]

FIGURES = Path(__file__).with_name("figures.json")
W, N1, N2, N3, R = range(5)
PER_MIN = 60 // EPOCH_S  # epochs in a minute
TYPICAL = 0.6  # of the spread between real sleepers, electrodes and amplifiers, so that none is extreme
_BANDS = len(BANDS_HZ)

# Minutes of N3 and of REM in each of the night's cycles: deep sleep early, REM towards morning.
DEEP_MIN = (34, 25, 14, 5, 0)
REM_MIN = (7, 15, 22, 27, 30)
LIGHT_MIN = (27, 34, 41, 46, 46)  # N2 on the way down and up again


@dataclass(frozen=True, slots=True)
class Figures:
    """Statistics of each stage, as vectors like those of `to_vectors` (d = 11)."""

    mean: Array  # (5, d) by stage
    spread: Array  # (5, d, d) covariance of an epoch around its own night's mean
    offset: Array  # (d, d) covariance of a night's mean around everybody's
    memory: Array  # (5,) correlation of an epoch with the one before

    @classmethod
    def load(cls, path: Path = FIGURES) -> Figures:
        """Read the figures that ship with the engine."""
        known = json.loads(path.read_text(encoding="utf-8"))
        stages = [known["stages"][stage] for stage in STAGES]
        return cls(
            mean=np.array([stage["mean"] for stage in stages]),
            spread=np.array([stage["covariance"] for stage in stages]),
            offset=np.array(known["night_covariance"]),
            memory=np.array([stage["memory"] for stage in stages]),
        )


def to_vectors(measured: Measured) -> Array:
    """Transform measurements to (n, 11) numbers that are nearly Gaussian within a stage."""
    eye = np.clip(measured.eye, 0.01, 0.99)
    return np.column_stack(
        [
            np.log(measured.power_uv2),
            np.clip(measured.spread, 0.3, 1.2),
            np.log(np.clip(measured.kurtosis, -0.9, 20) + 1),
            np.clip(measured.skewness, -2, 2),
            np.log(eye / (1 - eye)),
        ]
    )


def from_vectors(vectors: Array) -> Measured:
    """Invert `to_vectors`."""
    return Measured(
        power_uv2=np.exp(vectors[:, :_BANDS]),
        spread=np.clip(vectors[:, _BANDS], 0.3, 1.2),
        kurtosis=np.clip(np.exp(vectors[:, _BANDS + 1]) - 1, -0.9, 20),
        skewness=np.clip(vectors[:, _BANDS + 2], -2, 2),
        eye=1 / (1 + np.exp(-vectors[:, _BANDS + 3])),
    )


def hypnogram(n_epochs: int, seed: int) -> tuple[Stage, ...]:
    """Draw the stages of a healthy night of `n_epochs` of 30 s, from lights off to the last awakening.

    Cycles take about 90 min: N2, N3 (less in each cycle), N2, REM (more in each), with short awakenings. A
    night of less than three hours ends in the middle of sleep.
    """
    draw = np.random.default_rng([seed, 1])
    stages: list[int] = [W] * _around(draw, 14 * PER_MIN) + [N1] * _around(draw, 2 * PER_MIN)
    cycle = 0
    while len(stages) < n_epochs:
        of_night = min(cycle, len(REM_MIN) - 1)
        light = _around(draw, LIGHT_MIN[of_night] * PER_MIN)
        down = int(light * draw.uniform(0.4, 0.6))
        stages += [N2] * down
        stages += [N3] * _around(draw, DEEP_MIN[of_night] * PER_MIN)
        stages += [N2] * (light - down)
        stages += [R] * _around(draw, REM_MIN[of_night] * PER_MIN)
        stages += [W] * int(draw.integers(0, 4)) + [N1] * int(draw.integers(1, 4))
        cycle += 1
    whole = np.array(stages[:n_epochs])
    _interrupt(whole, draw)
    if n_epochs >= 180 * PER_MIN:
        whole[-_around(draw, 6 * PER_MIN) :] = W
    return tuple(STAGES[stage] for stage in whole)


def _around(draw: np.random.Generator, epochs: int) -> int:
    """Draw a number of epochs around the given one, with an s.d. of about a fifth of it."""
    return round(epochs * float(np.exp(0.18 * draw.standard_normal())))


def _interrupt(stages: NDArray[np.int_], draw: np.random.Generator) -> None:
    """Interrupt bouts as in real sleep: N3 by N2, N2 and REM by N1, and all but N3 sometimes by waking."""
    for at in range(1, len(stages) - 4):
        now, chance = int(stages[at]), draw.random()
        if now == W or stages[at - 1] == W:
            continue
        if chance < 0.012 and now != N3:
            awake = int(draw.integers(1, 4))
            stages[at : at + awake] = W
            stages[at + awake] = N1
        elif chance < 0.04 and now in (N2, R):
            stages[at] = N1
        elif chance > 0.92 and now == N3:
            stages[at] = N2


def measurements(stages: tuple[Stage, ...], seed: int, figures: Figures) -> Measured:
    """Draw the measurements of every epoch of `stages`.

    Each epoch is drawn from its stage's distribution, shifted by the sleeper's own offset, and correlated
    with the epoch before it.
    """
    draw = np.random.default_rng([seed, 2])
    size = figures.mean.shape[1]
    offset = draw.multivariate_normal(np.zeros(size), TYPICAL**2 * figures.offset)
    roots = np.linalg.cholesky(figures.spread)
    state = draw.standard_normal(size)
    vectors = np.empty((len(stages), size))
    for epoch, stage in enumerate(map(STAGES.index, stages)):
        memory = figures.memory[stage]
        state = memory * state + np.sqrt(1 - memory**2) * draw.standard_normal(size)
        vectors[epoch] = figures.mean[stage] + offset + roots[stage] @ state
    return from_vectors(vectors)
