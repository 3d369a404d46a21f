"""What can happen to a night on its way to the network: another electrode, another amplifier, losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamer.messages import RATE_HZ

FIRST = 40  # epochs after the first scored one: until there a sequence begins where a night does
PIVOT_HZ = 6.0  # where a tilt neither lifts nor lowers: between the slow waves and the spindles


@dataclass(frozen=True)
class Augmentation:
    """How strong each change may be; zeros change nothing."""

    gain: float = 0.0  # s.d. of the natural logarithm of the amplitude
    tilt: float = 0.0  # s.d. of the exponent of amplitude against frequency
    wobble: float = 0.0  # s.d. of the smooth random deviations from that power law, natural logarithm
    phase: float = 0.0  # share of sequences cut off the 30 s grid
    low_pass: float = 0.0  # share of sequences behind a device that ends between 14 and 35 Hz
    noise_uv: float = 0.0  # largest r.m.s. of added white noise
    dropouts: float = 0.0  # share of sequences with short losses (NaN)
    lost_epochs: float = 0.0  # expected share of epochs lost as a whole, both views
    lost_views: float = 0.0  # expected share of epochs that lose one view
    lost_sequences: float = 0.0  # share of sequences in which one view is lost from end to end
    beginnings: float = 0.0  # share of sequences that begin where a night does, as every live stream does
    fixed_gain: float = 1.0  # for robustness tests: the same for every night
    fixed_tilt: float = 0.0


NONE = Augmentation()


def augment(samples: NDArray[np.float32], how: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Change the samples (n,) µV of one sequence as a whole; NaN is what was lost, before and after."""
    if how == NONE:
        return samples
    lost = np.isnan(samples)
    size = fft.next_fast_len(samples.size, real=True)
    spectrum = fft.rfft(np.where(lost, np.float32(0), samples), size)  # one NaN would be everywhere after it
    spectrum *= response(fft.rfftfreq(size, 1 / RATE_HZ), how, rng)
    changed: NDArray[np.float32] = fft.irfft(spectrum, size)[: samples.size].astype(np.float32)
    if how.noise_uv > 0:
        changed += rng.uniform(0, how.noise_uv) * rng.standard_normal(samples.size, np.float32)
    if rng.random() < how.dropouts:
        lose_samples(changed, rng)
    changed[lost] = np.nan
    return changed


def response(
    frequency_hz: NDArray[np.float64], how: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a smooth real frequency response: gain, tilt, wobble and perhaps the edge of a device."""
    octaves = np.log(np.clip(frequency_hz, 0.5, 35.0) / PIVOT_HZ)
    log_amplitude = (
        rng.normal(np.log(how.fixed_gain), how.gain) + rng.normal(how.fixed_tilt, how.tilt) * octaves
    )
    knots = np.log(np.geomspace(0.5, 35.0, 7) / PIVOT_HZ)
    log_amplitude += np.interp(octaves, knots, rng.normal(0.0, how.wobble, knots.size))
    amplitude = np.exp(log_amplitude)
    if rng.random() < how.low_pass:
        edge, order = rng.uniform(14.0, 35.0), rng.uniform(4.0, 16.0)
        amplitude /= np.sqrt(1 + (frequency_hz / edge) ** (2 * order))
    return amplitude.astype(np.float32)


def lose_samples(samples: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Punch NaN holes of 0.05 to 6 s, about one every two minutes."""
    for _ in range(rng.poisson(samples.size / RATE_HZ / 120) + 1):
        length = int(RATE_HZ * np.exp(rng.uniform(np.log(0.05), np.log(6.0))))
        start = int(rng.integers(samples.size))
        samples[start : start + length] = np.nan


def begin(places: int, how: Augmentation, rng: np.random.Generator) -> int:
    """Draw with which of `places` epochs a sequence begins: near the night's first as often as asked for."""
    if how.beginnings and rng.random() < how.beginnings:
        return int(rng.integers(min(places, FIRST)))
    return int(rng.integers(places))


def lose_epochs(epochs: int, how: Augmentation, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which views of which epochs are there (epochs, 2): losses come in runs, views singly."""
    present = rng.random((epochs, 2)) >= how.lost_views
    if how.lost_sequences and rng.random() < how.lost_sequences:
        present[:, rng.integers(2)] = False
    runs = rng.poisson(how.lost_epochs * epochs / 3)
    for start, length in zip(rng.integers(epochs, size=runs), rng.geometric(1 / 3, size=runs), strict=True):
        present[start : start + length] = False
    return present
