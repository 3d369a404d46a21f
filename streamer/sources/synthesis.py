"""Synthesises EEG from measurements of each epoch: spectrum, amplitude distribution, eye movements.

Every 30 s epoch is Gaussian noise with the measured spectrum, split into five bands with changing envelopes,
plus transients (K-complexes, blinks, rolling eyes) and sigma bursts. All follows from the epoch's
measurements and never from its stage: a network would learn an event that depends on the label as a shortcut.

    interquartile range against s.d.  -> how much of the power is in transients
    kurtosis                          -> the number of transients that share that power
    skewness                          -> their polarity
    power of the EOG against the EEG  -> how many of them are eye movements
    alpha and sigma above the 1/f     -> how strong the alpha rhythm and the sigma bursts are
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamer.messages import EPOCH_SAMPLES, RATE_HZ

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

BANDS_HZ = ((0.1, 0.5), (0.5, 4.0), (4.0, 8.0), (8.0, 12.0), (12.0, 16.0), (16.0, 30.0), (30.0, 50.0))
LOW, DELTA, THETA, ALPHA, SIGMA, BETA, HIGH = range(7)

HALF = RATE_HZ * 3 // 2  # half of the cross-fade over an epoch's edge, samples
LENGTH = EPOCH_SAMPLES + 2 * HALF  # samples drawn for an epoch
BLOCK = 16  # epochs drawn at once, for constant memory and few calls
EVENTS = 24  # the most transients, and the most sigma bursts, in one epoch
EVENT = 4 * RATE_HZ  # samples of a single one; its peak is in the middle
_EVENT_S = (np.arange(EVENT, dtype=np.float32) - EVENT // 2) / RATE_HZ
_FREQUENCY = np.fft.rfftfreq(LENGTH, 1 / RATE_HZ)
_GROUPS_HZ = (0.1, 4.0, 8.0, 12.0, 16.0, 50.1)  # edges of the five bands with an envelope each


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measurements of n consecutive epochs of one channel, 100 Hz, µV; no value may be NaN."""

    power_uv2: Array  # (n, 7) mean square in BANDS_HZ
    spread: (
        Array  # (n,) interquartile range / (1.349 s.d.): 1 for Gaussian noise, less with rare large events
    )
    kurtosis: Array  # (n,) excess kurtosis
    skewness: Array  # (n,)
    eye: Array  # (n,) share 0..1 of the slow power that came from the eyes

    def __len__(self) -> int:
        return len(self.spread)

    def rows(self, start: int, stop: int) -> Measured:
        """Epochs `start` up to, not including, `stop`."""
        part = slice(start, stop)
        return Measured(
            self.power_uv2[part], self.spread[part], self.kurtosis[part], self.skewness[part], self.eye[part]
        )


@dataclass(frozen=True, slots=True)
class Style:
    """Parameters of events and envelopes that the measurements do not determine."""

    alpha_hz: float = 9.6  # centre of the alpha rhythm
    sigma_hz: float = 13.0  # centre of the sigma bursts
    transients: float = 1.0  # times the number of transients that kurtosis asks for
    width: float = 1.0  # times the usual duration of every event
    bursts: float = 3.0  # sigma bursts per epoch if half of the sigma power is above the 1/f
    clump: float = 0.5  # share of the epoch over which its transients are spread
    depth: float = 0.45  # s.d. of the logarithm of a band's envelope
    pace_s: float = 1.5  # time constant of that envelope


DEFAULT = Style()


def varied(style: Style, seed: int) -> Style:
    """Return a random variation of `style`, for one sleeper."""
    draw = np.random.default_rng([seed, 0x57]).standard_normal(8)
    return Style(
        alpha_hz=float(style.alpha_hz + 0.7 * draw[0]),
        sigma_hz=float(style.sigma_hz + 0.5 * draw[1]),
        transients=float(style.transients * np.exp(0.25 * draw[2])),
        width=float(style.width * np.exp(0.12 * draw[3])),
        bursts=float(style.bursts * np.exp(0.3 * draw[4])),
        clump=float(min(1.0, style.clump * np.exp(0.3 * draw[5]))),
        depth=float(style.depth * np.exp(0.2 * draw[6])),
        pace_s=float(style.pace_s * np.exp(0.3 * draw[7])),
    )


def synthesise(measured: Measured, seed: int, style: Style = DEFAULT) -> Iterator[Samples]:
    """Yield the epochs of `measured` in order: float32 µV at 100 Hz, in pieces, 3000 samples per epoch.

    Epoch k depends only on `seed`, k and its own measurements, and is cross-faded with its neighbours over 3
    s at constant power. Memory does not grow with the night.
    """
    tail = np.zeros(2 * HALF, np.float32)
    for start in range(0, len(measured), BLOCK):
        rows = measured.rows(start, min(start + BLOCK, len(measured)))
        generators = [np.random.Generator(np.random.SFC64([seed, start + k])) for k in range(len(rows))]
        drawn = _draw(rows, generators, style)
        drawn[(1 if start == 0 else 0) :, : 2 * HALF] *= _FADE  # nothing comes before the first epoch
        last = start + len(rows) == len(measured)
        drawn[: -1 if last else None, -2 * HALF :] *= _FADE[::-1]
        out = np.zeros(len(rows) * EPOCH_SAMPLES + 2 * HALF, np.float32)
        out[: 2 * HALF] = tail
        for k in range(len(rows)):
            out[k * EPOCH_SAMPLES :][:LENGTH] += drawn[k]
        tail = out[-2 * HALF :]
        yield out[HALF if start == 0 else 0 : len(out) - (HALF if last else 2 * HALF)]


def _draw(rows: Measured, generators: list[np.random.Generator], style: Style) -> Samples:
    """Draw epochs with their margins, before the cross-fade: (n, LENGTH)."""
    power = np.maximum(rows.power_uv2, 1e-6)  # a flat epoch must have a spectrum too
    total, slow = power.sum(1), power[:, LOW] + power[:, DELTA]
    transient = np.clip(1 - rows.spread**2, 0, 0.9 * slow / total) * total  # µV² of few large events
    smooth, alpha, burst = above(power)
    density = _density(smooth)
    density += alpha[:, None] * _peak(style.alpha_hz, 1.0)
    groups = _noise(density, generators)
    _modulate(groups, rows, generators, style)
    _lean(groups[:, 0], rows.skewness * np.clip(1 - 4 * transient / total, 0, 1))
    background = np.stack(
        [
            slow - transient,
            smooth[:, THETA],
            smooth[:, ALPHA] + alpha,
            smooth[:, SIGMA],
            smooth[:, BETA:].sum(1),
        ],
        axis=1,
    )
    out: Samples = np.einsum("ngt,ng->nt", groups, _gain(groups, background))
    count = _how_many(rows, transient / total, style)
    for events, asked in (
        (_transients(rows, count, generators, style), transient),
        (_bursts(burst / power[:, SIGMA], generators, style), burst),
    ):
        out += events * _gain(events, asked)[:, None]
    return out


def _gain(signal: Samples, power: Array) -> Samples:
    """Return the factor that gives the epoch's own 30 s of `signal` (..., LENGTH) the mean square `power`."""
    own = signal[..., HALF:-HALF]
    found = np.einsum("...t,...t->...", own, own) / EPOCH_SAMPLES
    gain: Samples = np.sqrt(np.divide(power, found, out=np.zeros_like(power), where=found > 1e-12)).astype(
        np.float32
    )
    return gain


def above(power: Array) -> tuple[Array, Array, Array]:
    """Split (n, 7) band powers into a smooth part (n, 7) and the alpha and sigma power (n,) above it."""
    widths = np.diff(np.array(BANDS_HZ), axis=1)[:, 0]
    log = np.log(np.maximum(power / widths, 1e-9))  # density

    def line(band: int) -> Array:
        """Density expected of `band` by a power law from theta to beta."""
        share = (_CENTRE[band] - _CENTRE[THETA]) / (_CENTRE[BETA] - _CENTRE[THETA])
        expected: Array = np.exp((1 - share) * log[:, THETA] + share * log[:, BETA]) * widths[band]
        return expected

    alpha = np.maximum(power[:, ALPHA] - line(ALPHA), 0)
    burst = np.maximum(power[:, SIGMA] - line(SIGMA), 0)
    smooth = power.copy()
    smooth[:, ALPHA] -= alpha
    smooth[:, SIGMA] -= burst
    return smooth, alpha, burst


def _density(power: Array) -> Array:
    """Return spectra (n, bins), power laws from band to band, with `power` (n, 7) in the bands."""
    widths = np.diff(np.array(BANDS_HZ), axis=1)[:, 0]
    aim = np.log(np.maximum(power, 1e-6))
    knots = aim - np.log(widths)
    for _ in range(4):
        coarse = np.exp(knots @ _COARSE)
        knots += aim - np.log(np.add.reduceat(coarse * _COARSE_WIDTH, _COARSE_STARTS, axis=1))
    fine: Array = np.exp(knots @ _FINE) * _IN_RANGE
    return fine


def _peak(centre_hz: float, sd_hz: float) -> Array:
    """Return a Gaussian spectrum over _FREQUENCY with a power of 1."""
    bell = np.exp(-0.5 * ((_FREQUENCY - centre_hz) / sd_hz) ** 2)
    peak: Array = bell / (bell.sum() * _FREQUENCY[1])
    return peak


def _noise(density: Array, generators: list[np.random.Generator]) -> Samples:
    """Draw Gaussian noise of the given spectra, split into the five groups of bands: (n, 5, LENGTH)."""
    bins = len(_FREQUENCY)
    white = np.stack([g.standard_normal(2 * bins, np.float32) for g in generators]).view(np.complex64)
    spectrum = white * np.sqrt(density).astype(np.float32)
    parts = np.zeros((len(generators), len(_GROUPS), bins), np.complex64)
    for group, part in enumerate(_GROUPS):
        parts[:, group, part] = spectrum[:, part]
    noise: Samples = np.fft.irfft(parts, LENGTH, axis=-1).astype(np.float32)
    return noise


def _modulate(groups: Samples, rows: Measured, generators: list[np.random.Generator], style: Style) -> None:
    """Give every group a log-normal envelope with the style's depth and pace.

    The slow group has most of the power, so its envelope varies only as much as the kurtosis allows.
    """
    knots = _ENVELOPE.shape[0]
    steps = np.stack([g.standard_normal((len(_GROUPS), knots), np.float32) for g in generators])
    keep = np.exp(-_KNOT_S / style.pace_s)
    for k in range(1, knots):
        steps[..., k] = keep * steps[..., k - 1] + np.sqrt(1 - keep**2) * steps[..., k]
    depth = np.tile(style.depth * np.array([0.5, 0.8, 1.2, 0.8, 0.5], np.float32), (len(rows), 1))
    depth[:, 0] *= np.clip(rows.kurtosis, 0, 1)
    groups *= np.exp((depth[..., None] * steps) @ _ENVELOPE)


def _lean(slow: Samples, skewness: Array) -> None:
    """Make the crests of `slow` (n, LENGTH) sharper or blunter than its troughs, by `skewness` (n,)."""
    unit = slow * _gain(slow, np.ones(len(slow)))[:, None]
    slow += (
        slow.std(1, keepdims=True) * np.clip(skewness / 6, -0.12, 0.12)[:, None].astype(np.float32) * unit**2
    )


def _how_many(rows: Measured, share: Array, style: Style) -> Array:
    """Transients per epoch (n,): `share` of the power in N pulses gives a kurtosis of share² * pulse / N."""
    pulse = EPOCH_SAMPLES * (0.022 - 0.008 * rows.eye) / style.width
    return np.clip(style.transients * share**2 * pulse / np.maximum(rows.kurtosis, 0.1), 1, EVENTS)


def _transients(rows: Measured, count: Array, generators: list[np.random.Generator], style: Style) -> Samples:
    """Draw K-complexes, blinks and rolling eyes at random times: (n, LENGTH), any amplitude."""
    draws = np.stack([g.random((7, EVENTS), np.float32) for g in generators], axis=1)  # (7, n, EVENTS)
    present = np.arange(EVENTS) < np.floor(count[:, None] + draws[0, :, :1])
    eye = draws[1] < rows.eye[:, None]
    rolling = eye & (draws[2] < 0.35)
    up = draws[3] < 1 / (1 + np.exp(-4 * rows.skewness))[:, None]
    t = _EVENT_S / (style.width * (0.7 + 0.6 * draws[4]))[..., None]
    blink = np.exp(-((t / 0.13) ** 2)) - 0.25 * np.exp(-(((t - 0.45) / 0.3) ** 2))
    roll = np.where(t < 0, np.exp(-((t / 0.12) ** 2)), np.exp(-np.abs(t) / 0.6))
    kcomplex = np.exp(-((t / 0.13) ** 2)) - 0.6 * np.exp(-(((t - 0.45) / 0.25) ** 2))
    shape = np.where(rolling[..., None], roll, np.where(eye[..., None], blink, kcomplex))
    size = np.where(up, 1, -1) * np.exp(0.35 * (2 * draws[5] - 1)) * present
    when = (draws[6, :, :1] + style.clump * (draws[6] - 0.5)) % 1
    return _place(shape * size[..., None], when)


def _bursts(share: Array, generators: list[np.random.Generator], style: Style) -> Samples:
    """Draw sigma bursts of 0.5-1.5 s, more of them if sigma stands out more: (n, LENGTH), any amplitude."""
    draws = np.stack([g.random((6, EVENTS), np.float32) for g in generators], axis=1)
    present = np.arange(EVENTS) < np.floor(2 * style.bursts * share[:, None] + draws[0, :, :1])
    present[:, 0] = True
    width = (style.width * (0.2 + 0.25 * draws[1]))[..., None]
    hz = (style.sigma_hz + 2 * (draws[2] - 0.5))[..., None]
    turns = hz * _EVENT_S - 0.3 * _EVENT_S**2 + draws[3][..., None]  # spindles slow down towards their end
    wave = np.cos(2 * np.pi * turns) * np.exp(-0.5 * (_EVENT_S / width) ** 2)
    size = np.exp(0.5 * (2 * draws[4] - 1)) * present
    return _place(wave * size[..., None], draws[5])


def _place(shapes: Samples, when: Samples) -> Samples:
    """Add shapes (n, EVENTS, EVENT) into (n, LENGTH), peaks at `when` (n, EVENTS) of the epoch, 0..1."""
    out = np.zeros((len(shapes), EVENT + LENGTH + EVENT), np.float32)
    starts = EVENT + HALF - EVENT // 2 + (when * EPOCH_SAMPLES).astype(np.intp)
    for epoch, event in np.argwhere(shapes.any(-1)):
        out[epoch, starts[epoch, event] :][:EVENT] += shapes[epoch, event]
    return out[:, EVENT:-EVENT]


def _hats(knots: Array, at: Array) -> Array:
    """Return weights (knots, points) of linear interpolation, with extrapolation beyond the ends."""
    weights = np.zeros((len(knots), len(at)))
    left = np.clip(np.searchsorted(knots, at) - 1, 0, len(knots) - 2)
    share = (at - knots[left]) / (knots[left + 1] - knots[left])
    weights[left, np.arange(len(at))] = 1 - share
    weights[left + 1, np.arange(len(at))] = share
    return weights


_EDGES = np.array([low for low, _ in BANDS_HZ] + [BANDS_HZ[-1][1]])
_CENTRE = np.log(np.sqrt(_EDGES[:-1] * _EDGES[1:]))  # of the bands, logarithm of Hz
_STEPS = 12  # coarse points per band
_CUTS = np.concatenate([np.geomspace(a, b, _STEPS + 1)[:-1] for a, b in BANDS_HZ] + [_EDGES[-1:]])
_COARSE = _hats(_CENTRE, np.log(np.sqrt(_CUTS[:-1] * _CUTS[1:])))
_COARSE_WIDTH = np.diff(_CUTS)
_COARSE_STARTS = np.arange(0, len(_COARSE_WIDTH), _STEPS)
_FINE = _hats(_CENTRE, np.log(np.maximum(_FREQUENCY, 0.1)))
_IN_RANGE = np.greater_equal(_FREQUENCY, _EDGES[0])
_GROUPS = [slice(a, b) for a, b in pairwise(np.searchsorted(_FREQUENCY, _GROUPS_HZ).tolist())]
_KNOT_S = 0.5
_ENVELOPE = _hats(np.arange(0, LENGTH / RATE_HZ + _KNOT_S, _KNOT_S), np.arange(LENGTH) / RATE_HZ).astype(
    np.float32
)
_FADE = np.sin(np.pi / 2 * (np.arange(2 * HALF, dtype=np.float32) + 0.5) / (2 * HALF))
