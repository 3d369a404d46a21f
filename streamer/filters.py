"""The filters of the signal's path: scipy's compiled loops, without importing `scipy.signal`.

Importing that package costs 70 MB of memory and a second, for its statistics, optimisers and splines. The two
loops that we need lie in two extension modules that need only numpy. If a version of scipy has changed them,
`scipy.signal` is imported instead. `tests/test_filters.py` compares both, to the bit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from math import pi, sqrt, tan
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np

from streamer.messages import Floats

# scipy.signal.butter(2, (0.3, 35), "bandpass", fs=100, output="sos"): each section's numerator, denominator.
BUTTERWORTH: Floats = np.array(
    [
        [
            0.49767008465320983,
            0.9953401693064197,
            0.49767008465320983,
            1.0,
            0.7443592583354199,
            0.2731732769909474,
        ],
        [1.0, -2.0, 1.0, 1.0, -1.973343328045524, 0.9736973174173223],
    ]
)
_CONSTANT = 0  # scipy's code for: pad with zeros


class Lfilter(Protocol):
    """A recursive filter: (n,) samples and a state in, (n,) samples and the next state out."""

    def __call__(self, b: Floats, a: Floats, x: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Filter; return the (n,) samples and the next state."""


Resample = Callable[[Floats], Floats]


class Polyphase(Protocol):
    """Upsample (..., n) samples by inserting zeros, filter, and keep every `down`-th sample."""

    def __call__(self, taps: Floats, up: int, down: int) -> Resample:
        """Prepare; return what resamples (..., n) to the full output, (..., m)."""


def design_low_pass(length: int, cutoff: float, beta: float) -> Floats:
    """Design a linear-phase low-pass of odd `length`, Kaiser window; `cutoff` is a share of half the rate."""
    place = np.arange(length) - (length - 1) / 2
    taps: Floats = cutoff * np.sinc(cutoff * place) * np.kaiser(length, beta)
    taps /= taps.sum()
    return taps


def design_second_order(
    kind: Literal["high", "low"], cutoff_hz: float, rate_hz: float
) -> tuple[Floats, Floats]:
    """Numerator and denominator of a Butterworth high-pass or low-pass of second order, for `lfilter`."""
    k = tan(pi * cutoff_hz / rate_hz)
    scale = 1 / (1 + sqrt(2) * k + k * k)
    shape = np.array([1.0, -2.0, 1.0]) if kind == "high" else k * k * np.array([1.0, 2.0, 1.0])
    return scale * shape, np.array([1.0, 2 * (k * k - 1) * scale, (1 - sqrt(2) * k + k * k) * scale])


def _loops() -> tuple[Lfilter, Polyphase]:
    """Load both loops, from scipy's extension modules if these work as expected."""
    try:
        recursive, polyphase = _extension("_sigtools"), _extension("_upfirdn_apply")
        found = _direct_lfilter(recursive._linear_filter), _direct_polyphase(polyphase)
        if _sound(*found):
            return found
    except Exception:  # another version of scipy: use its public functions, which are slow to import
        pass
    return _public()


def _extension(name: str) -> ModuleType:
    """Import an extension module of `scipy.signal` without that package."""
    scipy = importlib.util.find_spec("scipy")
    assert scipy is not None
    assert scipy.submodule_search_locations is not None
    folder = Path(scipy.submodule_search_locations[0]) / "signal"
    path = next(file for end in EXTENSION_SUFFIXES if (file := folder / f"{name}{end}").exists())
    spec = importlib.util.spec_from_file_location(f"scipy.signal.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _direct_lfilter(loop: Callable[..., Any]) -> Lfilter:
    def lfilter(b: Floats, a: Floats, x: Floats, state: Floats) -> tuple[Floats, Floats]:
        out, after = loop(b, a, x, -1, state)
        return out, after

    return lfilter


def _direct_polyphase(module: ModuleType) -> Polyphase:
    apply, length = module._apply, module._output_len

    def polyphase(taps: Floats, up: int, down: int) -> Resample:
        arms = np.zeros(-(-len(taps) // up) * up)
        arms[: len(taps)] = taps
        flipped = np.ascontiguousarray(arms.reshape(-1, up).T[:, ::-1]).ravel()

        def resample(x: Floats) -> Floats:
            out = np.zeros((*x.shape[:-1], length(len(taps), x.shape[-1], up, down)))
            apply(x, flipped, out, up, down, x.ndim - 1, _CONSTANT, 0.0)
            return out

        return resample

    return polyphase


def _public() -> tuple[Lfilter, Polyphase]:
    from scipy import signal

    def lfilter(b: Floats, a: Floats, x: Floats, state: Floats) -> tuple[Floats, Floats]:
        out, after = signal.lfilter(b, a, x, zi=state)
        return out, after

    def polyphase(taps: Floats, up: int, down: int) -> Resample:
        return lambda x: signal.upfirdn(taps, x, up, down)

    return lfilter, polyphase


def _sound(lfilter: Lfilter, polyphase: Polyphase) -> bool:
    """Check the loops on small examples with exact results."""
    out, after = lfilter(np.array([1.0, 2.0]), np.array([1.0, -0.5]), np.array([4.0, 8.0]), np.array([1.0]))
    up = polyphase(np.array([1.0, 2.0, 3.0]), 2, 1)(np.array([1.0, 10.0]))
    found: list[list[float]] = [out.tolist(), after.tolist(), up.tolist()]
    return found == [[5.0, 18.5], [25.25], [1.0, 2.0, 13.0, 20.0, 30.0]]


lfilter, polyphase = _loops()
