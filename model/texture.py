"""Amplitude modulation of the bands of a synthetic night from second to second.

In real EEG the bands vary together, and by how much depends on the stage: most in wake, least in N3.
Synthetic noise does neither. Here each epoch is modulated by an amount that follows from what was measured
in it (kurtosis, spread, the eyes' share, band powers, and the other channels at the same time), also in
comparison with the rest of the night, never from the stage. The weights in `texture.json` were fitted on
nights of people who are not held out, so that the second-to-second statistics per stage stay near those of
real EEG, and a scorer trained on real nights agrees better with the experts (`tools/fit_texture.py`). The
power of every measured band in every epoch is kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter

from model.resynthesis import BESIDE
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, RATE_HZ
from streamer.sources.synthesis import BANDS_HZ, LOW, Measured

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

CENTRES_HZ = (0.5, 1.5, 3.0, 6.0, 9.5, 13.5, 18.0, 26.0)  # of the overlapping bands that vary
KEPT = np.array([0, 0, 0, 1, 2, 3, 4, 4])  # which measured band each belongs to: delta, theta ... beta
QUANTITIES = ("kurtosis", "spread", "eye", "delta", "theta", "alpha", "sigma", "beta", "high", "low")
WHOLE = "whole"  # power in 0.5-30 Hz: known only in comparison with the rest of the night
INPUTS = len(QUANTITIES) + len((*QUANTITIES, WHOLE, *BESIDE))  # as they are, then within the night
PARTS = ("slow", "fast", "own")  # two courses that all bands share, and one of each band's own
MAPS = ("hidden", *PARTS, "shape")
KNOT_S = 0.25
PACE_S = 0.6  # time constant of the courses
SHORT = 1.33  # a course of PACE_S is this much larger at a moment than over a second
LARGEST = 3.0  # standardised quantities beyond are taken for this


@dataclass(frozen=True, slots=True, eq=False)
class Strengths:
    """The strength of the modulation per epoch, as natural logarithms of amplitude."""

    slow: Array  # (n, 8) s.d. of the first shared course in each band
    fast: Array  # (n, 8) of the second
    own: Array  # (n, 8) of the band's own
    shape: Array  # (n, 8) mean: what within a measured band lies lower, what higher

    def scaled(self, factor: float) -> Strengths:
        """Return a copy that varies `factor` times as much."""
        return Strengths(factor * self.slow, factor * self.fast, factor * self.own, self.shape)


def quantities(measured: Measured, beside: Array) -> Array:
    """Return INPUTS (n, 45) of the epochs of a whole night.

    QUANTITIES as they are: moments, the eyes' share, and log power relative to 0.5-30 Hz. Then these, the
    power in 0.5-30 Hz and `beside`, from `Measurements.beside`, in comparison with the rest of the night.
    """
    log = np.log(measured.power_uv2 + 1e-6)
    whole = np.log(measured.power_uv2[:, 1:6].sum(1) + 1e-6)
    own = np.column_stack(
        [
            np.log1p(measured.kurtosis.clip(-0.5, 8)),
            measured.spread,
            measured.eye,
            log[:, 1:] - whole[:, None],
            log[:, LOW] - log[:, 1],
        ]
    )
    return np.column_stack([own, within_the_night(np.column_stack([own, whole, beside]))])


def within_the_night(columns: Array) -> Array:
    """Return each column's distance from its median, in units of the distance of its 10 % and 90 % points."""
    low, middle, high = np.percentile(columns, [10, 50, 90], axis=0)
    relative: Array = (columns - middle) / (high - low + 1e-3)
    return relative


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """A map with one hidden layer from an epoch's measurements to the strength of its modulation."""

    mean: Array  # (INPUTS,) over training nights
    spread: Array  # (INPUTS,)
    hidden: tuple[Array, Array]  # weights (units, INPUTS) and biases (units,)
    weights: dict[str, Array]  # of "slow", "fast", "own" and "shape": (8, units)
    biases: dict[str, Array]  # (8,)

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the packaged `texture.json`, or another file."""
        text = (path or files("model") / "texture.json").read_text(encoding="utf-8")
        saved = json.loads(text)
        maps = {name: {key: np.array(one) for key, one in saved[name].items()} for name in MAPS}
        hidden = maps.pop("hidden")
        return cls(
            np.array(saved["mean"]),
            np.array(saved["spread"]),
            (hidden["weight"], hidden["bias"]),
            {name: one["weight"] for name, one in maps.items()},
            {name: one["bias"] for name, one in maps.items()},
        )

    def strengths(self, measured: Measured, beside: Array) -> Strengths:
        """Return the strength of modulation for every epoch of a night, see `quantities`."""
        return self.of(quantities(measured, beside))

    def of(self, inputs: Array) -> Strengths:
        """Return the strength of modulation for epochs with these INPUTS (n, 45)."""
        seen = ((inputs - self.mean) / self.spread).clip(-LARGEST, LARGEST)
        weight, bias = self.hidden
        units = np.tanh(seen @ weight.T + bias)
        asked = {name: units @ self.weights[name].T + self.biases[name] for name in self.weights}
        to_amplitude = np.log(10) / 2  # from the decadic logarithm of power
        deep = {name: np.logaddexp(0, asked[name]) * 0.3 * to_amplitude for name in PARTS}
        return Strengths(**deep, shape=0.1 * to_amplitude * asked["shape"])


def textured(
    samples: Samples, strengths: Strengths, rng: np.random.Generator, pace_s: float = PACE_S
) -> Samples:
    """Modulate the bands of whole epochs (n * 3000,) in µV, and keep their power in every epoch."""
    epochs = len(strengths.slow)
    knots = round(epochs * EPOCH_S / KNOT_S) + 1
    epoch = np.minimum((np.arange(knots) * KNOT_S / EPOCH_S).astype(int), epochs - 1)
    slow, fast, *own = courses(len(CENTRES_HZ) + 2, knots, pace_s, rng)
    bands = split(samples)
    before = _power(bands, epochs)
    for band, signal in enumerate(bands):
        course = slow * strengths.slow[epoch, band] + fast * strengths.fast[epoch, band]
        course += own[band] * strengths.own[epoch, band]
        signal *= np.exp(_drawn_out(SHORT * course + strengths.shape[epoch, band], samples.size))
    after = _power(bands, epochs)
    out = np.zeros(samples.size, np.float32)
    for kept in np.unique(KEPT):
        ours = kept == KEPT
        lost = 0.5 * np.log((before[ours].sum(0) + 1e-9) / (after[ours].sum(0) + 1e-9))
        out += bands[ours].sum(0) * np.exp(_drawn_out(lost[epoch], samples.size))
    return out


def courses(count: int, knots: int, pace_s: float, rng: np.random.Generator) -> Array:
    """Draw autoregressive Gaussian series (count, knots) with s.d. 1 and time constant `pace_s`."""
    keep = np.exp(-KNOT_S / pace_s)
    steps = rng.standard_normal((count, knots))
    courses: Array = lfilter([np.sqrt(1 - keep**2)], [1, -keep], steps, axis=1)
    return courses


def _drawn_out(course: Array, size: int) -> Samples:
    """Interpolate a series given at knots linearly to every sample."""
    between = np.linspace(0, 1, round(KNOT_S * RATE_HZ), endpoint=False, dtype=np.float32)
    at = course.astype(np.float32)
    return (at[:-1, None] + np.diff(at)[:, None] * between).ravel()[:size]


def split(samples: Samples) -> Samples:
    """Split a signal into overlapping bands (8, n) that add up to it; the outermost ones are open-ended."""
    size = fft.next_fast_len(samples.size, real=True)
    spectrum = fft.rfft(samples.astype(np.float32), size)
    place = np.interp(
        np.log(np.maximum(fft.rfftfreq(size, 1 / RATE_HZ), BANDS_HZ[0][0])),
        np.log(CENTRES_HZ),
        np.arange(len(CENTRES_HZ)),
    ).astype(np.float32)
    bands = np.empty((len(CENTRES_HZ), samples.size), np.float32)
    for band in range(len(bands)):
        share = np.maximum(1 - np.abs(place - band), 0)
        bands[band] = fft.irfft(spectrum * share, size)[: samples.size]
    return bands


def _power(bands: Samples, epochs: int) -> Array:
    """Return the mean square (8, n_epochs) of bands (8, n)."""
    power: Array = np.square(bands.reshape(len(bands), epochs, EPOCH_SAMPLES)).mean(2, dtype=np.float64)
    return power
