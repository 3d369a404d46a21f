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
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter
from torch import Tensor, nn

from model.resynthesis import BESIDE
from streamer.messages import EPOCH_S, RATE_HZ
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
TO_AMPLITUDE = np.log(10) / 2  # decadic logarithm of power to natural logarithm of amplitude


@dataclass(frozen=True, slots=True, eq=False)
class Strengths:
    """The strength of the modulation per epoch, as natural logarithms of amplitude."""

    slow: Tensor  # (n, 8) s.d. of the first shared course in each band
    fast: Tensor  # (n, 8) of the second
    own: Tensor  # (n, 8) of the band's own
    shape: Tensor  # (n, 8) mean: what within a measured band lies lower, what higher

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


class Texture(nn.Module):
    """A map with one hidden layer from an epoch's measurements to the strength of its modulation."""

    mean: Tensor  # (INPUTS,) over training nights
    spread: Tensor  # (INPUTS,)

    def __init__(self, units: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(INPUTS))
        self.register_buffer("spread", torch.ones(INPUTS))
        bands = len(CENTRES_HZ)
        sizes = dict.fromkeys(MAPS, (units, bands)) | {"hidden": (INPUTS, units)}
        self.maps = nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read the packaged `texture.json`, or another file that `saved` made."""
        text = (path or files("model") / "texture.json").read_text(encoding="utf-8")
        saved = json.loads(text)
        texture = cls(len(saved["hidden"]["bias"]))
        texture.mean.copy_(torch.tensor(saved["mean"]))
        texture.spread.copy_(torch.tensor(saved["spread"]))
        for name, one in texture.maps.items():
            one.load_state_dict({key: torch.tensor(numbers) for key, numbers in saved[name].items()})
        return texture.eval().requires_grad_(False)

    def saved(self, source: str) -> dict[str, object]:
        """The content of the file that `load` reads; `source` says how it was made."""
        maps = {
            name: {key: _rounded(numbers, 3) for key, numbers in one.state_dict().items()}
            for name, one in self.maps.items()
        }
        return {"source": source, "mean": _rounded(self.mean, 5), "spread": _rounded(self.spread, 5), **maps}

    def strengths(self, measured: Measured, beside: Array) -> Strengths:
        """Return the strength of modulation for every epoch of a night, see `quantities`."""
        return self(torch.from_numpy(quantities(measured, beside)).float())  # type: ignore[no-any-return]

    def standardised(self, inputs: Tensor) -> Tensor:
        """INPUTS (n, 45) relative to those of the training nights, within LARGEST."""
        return ((inputs - self.mean) / self.spread).clamp(-LARGEST, LARGEST)

    def forward(self, inputs: Tensor) -> Strengths:
        """Return the strength of modulation for epochs with these INPUTS (n, 45)."""
        return self.of(self.standardised(inputs))

    def of(self, standardised: Tensor) -> Strengths:
        """As `forward`, for inputs that are standardised."""
        units = torch.tanh(self.maps["hidden"](standardised))
        asked = {name: self.maps[name](units) for name in MAPS if name != "hidden"}
        deep = {name: F.softplus(asked[name]) * 0.3 * TO_AMPLITUDE for name in PARTS}
        return Strengths(**deep, shape=0.1 * TO_AMPLITUDE * asked["shape"])


def _rounded(numbers: Tensor, digits: int) -> list[object]:
    given: list[object] = np.round(numbers.numpy().astype(np.float64), digits).tolist()
    return given


def textured(
    samples: Samples, strengths: Strengths, rng: np.random.Generator, pace_s: float = PACE_S
) -> Samples:
    """Modulate the bands of whole epochs (n * 3000,) in µV, and keep their power in every epoch."""
    out: Samples = modulated(torch.from_numpy(split(samples)), strengths, rng, pace_s).numpy()
    return out


def modulated(
    bands: Tensor, strengths: Strengths, rng: np.random.Generator, pace_s: float = PACE_S
) -> Tensor:
    """Modulate bands (8, n) in µV at any rate, and keep their power in every epoch; return their sum (n,)."""
    epochs = len(strengths.slow)
    knots = round(epochs * EPOCH_S / KNOT_S) + 1
    epoch = torch.from_numpy(np.minimum((np.arange(knots) * KNOT_S / EPOCH_S).astype(int), epochs - 1))
    drawn = torch.from_numpy(courses(len(CENTRES_HZ) + 2, knots, pace_s, rng)).float()
    course = drawn[0] * strengths.slow[epoch].T + drawn[1] * strengths.fast[epoch].T
    course = SHORT * (course + drawn[2:] * strengths.own[epoch].T) + strengths.shape[epoch].T
    out = torch.zeros(bands.size(1))
    for kept in np.unique(KEPT):
        ours = torch.from_numpy(np.flatnonzero(kept == KEPT))
        varied = bands[ours] * torch.exp(_drawn_out(course[ours], bands.size(1)))
        before, after = (
            one.view(len(ours), epochs, -1).square().mean(2).sum(0) for one in (bands[ours], varied)
        )
        lost = 0.5 * torch.log((before + 1e-9) / (after + 1e-9))
        out = out + varied.sum(0) * torch.exp(_drawn_out(lost[epoch], bands.size(1)))
    return out


def courses(count: int, knots: int, pace_s: float, rng: np.random.Generator) -> Array:
    """Draw autoregressive Gaussian series (count, knots) with s.d. 1 and time constant `pace_s`."""
    keep = np.exp(-KNOT_S / pace_s)
    steps = rng.standard_normal((count, knots))
    courses: Array = lfilter([np.sqrt(1 - keep**2)], [1, -keep], steps, axis=1)
    return courses


def _drawn_out(course: Tensor, size: int) -> Tensor:
    """Interpolate series (..., knots) linearly to samples (..., size)."""
    steps = size // (course.size(-1) - 1)
    between = torch.arange(steps) / steps
    return (course[..., :-1, None] + course.diff(dim=-1)[..., None] * between).flatten(-2)


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
