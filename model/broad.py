"""Random changes of a night's spectrogram, far wider than the differences between nights.

A network that learns to imitate a teacher on real EEG has to see more than synthetic nights: bands that vary
alone or together over seconds or minutes, bursts, stages with more or less contrast, and stages in any order
and of any length. The changed spectra have no labels of their own: the teacher labels them afterwards.

All changes are gains in dB at KNOTS_HZ, one row per second; `spread_over` interpolates them to the bins of a
spectrum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from streamer.messages import EPOCH_S

KNOTS_HZ = np.geomspace(0.4, 40.0, 9)
KNOTS = len(KNOTS_HZ)
ALIKE = 0.6  # correlation of the bands in slow changes
LEAST_DB, MOST_DB = -15.0, 20.0  # of all bursts at one moment
LEVEL_DB = 5.0  # s.d. of the level of a stretch of epochs

Array = NDArray[np.float64]
Samples = NDArray[np.float32]


def spread_over(frequency_hz: NDArray[np.float64]) -> Samples:
    """Return weights (KNOTS, bins) that interpolate gains at the knots to bins, linear in log frequency."""
    place = np.log(np.clip(frequency_hz, KNOTS_HZ[0], KNOTS_HZ[-1]))
    return np.stack([np.interp(place, np.log(KNOTS_HZ), one) for one in np.eye(KNOTS)]).astype(np.float32)


def gains(decibel: Samples, frequency_hz: NDArray[np.float64], rng: np.random.Generator) -> Samples:
    """Draw gains (n * 30, KNOTS) in dB for a sequence (n * 30, bins) in dB; a quarter are all zero."""
    changed = np.zeros((len(decibel), KNOTS))
    if rng.random() < 0.65:
        strength = float(np.exp(rng.uniform(np.log(0.3), np.log(2.2))))
        changed += strength * waxing(len(decibel), rng) + contrast(decibel, frequency_hz, strength, rng)
        if rng.random() < 0.5:
            changed += bursts(len(decibel), rng)
    if rng.random() < 0.35:
        changed += levels(len(decibel), rng)
    return changed.astype(np.float32)


def levels(seconds: int, rng: np.random.Generator) -> Array:
    """Draw gains (seconds, KNOTS) in dB, constant over 3 to 60 epochs; wake before sleep can be so."""
    steps: list[Array] = []
    while len(steps) < seconds // EPOCH_S:
        epochs = int(np.exp(rng.uniform(np.log(3), np.log(60))))
        steps += [rng.normal(0, LEVEL_DB) + smooth(LEVEL_DB / 2, rng)] * epochs
    return np.stack(steps[: seconds // EPOCH_S]).repeat(EPOCH_S, 0)


def waxing(seconds: int, rng: np.random.Generator) -> Array:
    """Draw slow gains per epoch, and gains per second that are shared by all bands or belong to one band."""
    total = np.zeros((seconds, KNOTS))
    if rng.random() < 0.7:
        alike = np.linalg.cholesky(ALIKE * np.ones((KNOTS, KNOTS)) + (1 - ALIKE) * np.eye(KNOTS))
        slow = course(seconds // EPOCH_S, float(np.exp(rng.uniform(0, np.log(30)))), KNOTS, rng) @ alike.T
        total += rng.uniform(0, 2.5) * slow.repeat(EPOCH_S, 0)
    if rng.random() < 0.6:
        shared = course(seconds, float(np.exp(rng.uniform(0, 2.3))), 1, rng)
        total += rng.uniform(0, 2.0) * shared * (1 + smooth(0.5, rng))
    if rng.random() < 0.4:
        total += rng.uniform(0, 1.5) * course(seconds, float(np.exp(rng.uniform(0, 2))), KNOTS, rng)
    return total


def contrast(
    decibel: Samples, frequency_hz: NDArray[np.float64], strength: float, rng: np.random.Generator
) -> Array:
    """Draw gains that widen or narrow the differences between epochs, and between the seconds of an epoch."""
    inverse = np.linalg.pinv(spread_over(frequency_hz))
    epochs = decibel.reshape(-1, EPOCH_S, decibel.shape[1])
    mean = epochs.mean(1)
    between = ((mean - mean.mean(0)) @ inverse).repeat(EPOCH_S, 0)
    within = (epochs - mean[:, None]).reshape(decibel.shape) @ inverse
    total: Array = smooth(0.2 * strength, rng) * between + smooth(0.2 * strength, rng) * within
    total += rng.normal(0, 0.15 * strength) * within.mean(1, keepdims=True)
    return total


def bursts(seconds: int, rng: np.random.Generator) -> Array:
    """Draw bursts in some of the epochs: similar to each other in band, height and length."""
    total, now = np.zeros((seconds, KNOTS)), np.arange(seconds)
    band = np.exp(-0.5 * ((np.arange(KNOTS) - rng.uniform(0, KNOTS - 1)) / rng.uniform(0.7, 4)) ** 2)
    height_db, often = rng.uniform(2, 12), float(np.exp(rng.uniform(np.log(0.5), np.log(8))))
    length_s = float(np.exp(rng.uniform(np.log(0.7), np.log(12))))
    for epoch in np.flatnonzero(rng.random(seconds // EPOCH_S) < rng.uniform(0.2, 1)):
        for _ in range(rng.poisson(often)):
            at, width = EPOCH_S * epoch + rng.uniform(0, EPOCH_S), length_s * np.exp(0.4 * rng.normal())
            size = height_db * rng.exponential(0.7) * np.sign(rng.random() - 0.15)
            part = slice(max(0, int(at - 3 * width)), min(seconds, int(at + 3 * width) + 1))
            total[part] += size * np.exp(-0.5 * ((now[part, None] - at) / width) ** 2) * band
    return total.clip(LEAST_DB, MOST_DB)


def course(length: int, pace: float, count: int, rng: np.random.Generator) -> Array:
    """Draw autoregressive Gaussian series (length, count) with s.d. 1 and a time constant of `pace` rows."""
    keep, lead = np.exp(-1 / pace), int(4 * pace)
    steps = rng.standard_normal((length + lead, count))
    drawn: Array = lfilter([np.sqrt(1 - keep**2)], [1, -keep], steps, axis=0)[lead:]
    return drawn


def smooth(spread: float, rng: np.random.Generator) -> Array:
    """Draw one smooth curve over the knots with the given s.d."""
    coarse = np.arange(0, KNOTS, 2)
    curve: Array = np.interp(np.arange(KNOTS), coarse, rng.normal(0, spread, coarse.size))
    return curve


def runs(stages: NDArray[np.integer], length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose `length` epochs of a night: runs of one stage each, in the order of time within a run.

    Stages come in any order, for 5 to 60 epochs; where none occurs five times, the first epochs are given.
    """
    there = [stage for stage in range(5) if (stages == stage).sum() >= 5]
    chosen: list[int] = []
    usual = np.array([0.2, 0.1, 0.25, 0.3, 0.15])[there]
    while there and len(chosen) < length:
        where = np.flatnonzero(stages == rng.choice(there, p=usual / usual.sum()))
        epochs = int(np.exp(rng.uniform(np.log(5), np.log(60))))
        start = int(rng.integers(max(1, len(where) - epochs)))
        chosen += where[start : start + epochs].tolist()
    return np.array(chosen[:length] or range(length), dtype=np.int64)


def shuffled(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cut a sequence into two to five parts and lay them in another order."""
    cuts = np.sort(rng.choice(np.arange(1, length), int(rng.integers(1, 5)), replace=False))
    parts = np.split(np.arange(length), cuts)
    return np.concatenate([parts[one] for one in rng.permutation(len(parts))])
