"""Whole nights of EEG for training, drawn again from what was measured on real ones.

The measurements are those of the 153 cassette nights of Sleep-EDF Expanded (Kemp et al., PhysioNet,
ODC-By 1.0): 195,479 epochs of 30 s with the experts' stage, no raw signal. The stage is handed through as the
target and is never looked at while drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.errors import RecordingError
from streamer.messages import EPOCH_SAMPLES, RATE_HZ
from streamer.sources.synthesis import (
    ALPHA,
    BANDS_HZ,
    DELTA,
    HIGH,
    LOW,
    SIGMA,
    Measured,
    above,
)

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

KEYS = {"recording": 0, "y": 0, "A_raw10": 10, "B_time39": 39, "C_band30": 30}
CHANNELS = ("Fpz-Cz", "Pz-Oz", "EOG")
MOMENTS = ("mobility", "complexity", "zero crossings", "kurtosis")
BAND_NAMES = ("delta", "theta", "alpha", "sigma", "beta")
BESIDE = (
    *(f"{one} {channel}" for one in MOMENTS for channel in CHANNELS),
    *(f"{one} {channel}" for channel in CHANNELS[1:] for one in BAND_NAMES),
    "s.d. EOG",
)  # what the measurements tell of the sleeper beside the power and the moments of one derivation
# Slow power at Fpz-Cz is that of the brain, in proportion to Pz-Oz, and of the eyes, in proportion to the
# EOG. Medians over the measured epochs: wake with still eyes 40 µV² at 9 µV² of Pz-Oz and 98 µV² of the EOG,
# wake with busy eyes 349 at 24 and 2689, N2 105 at 37 and 87, REM 46 at 17 and 108.
EYE_GAIN = 0.12  # slow power at Fpz-Cz per slow power of the horizontal EOG
BRAIN_GAIN = 2.9  # slow power at Fpz-Cz per slow power at Pz-Oz
QUIET = 10  # percentile of epochs in which a channel holds next to nothing outside 0.5-30 Hz

ALPHA_SHARE = (
    0.4  # of spindles' exponent: what is slow among them, while alpha itself is the back of the head's
)

# With 1.7 times the power of Fpz-Cz and no tilt, a central N2 had 1.3 times the slow power of the model
# card's real central recordings, N3 twice, N1 and R 2.6 times, but no more beta (by the stages of a scorer
# trained on real nights, not by their labels).
CENTRAL_TILT = 0.08

EYES = (1, 1, 0.5, 0, 0, 0, 0)  # share of a band that is eyes, as part of that of the slow bands
MUSCLE = (0, 0, 0.1, 0.3, 0.5, 0.8, 1)  # density of muscle noise against that above 30 Hz


@dataclass(frozen=True, slots=True)
class Derivation:
    """Another electrode, amplifier and head: what of the two measured derivations it picks up, in power."""

    brain: float = 1.0  # of what Fpz-Cz has from the brain
    parietal: float = 0.0  # of Pz-Oz, which has the alpha of quiet wake and hardly any eyes
    eyes: float = 1.0  # of what Fpz-Cz has from the eyes
    muscle: float = 1.0  # of what Fpz-Cz has from the forehead's muscle
    rhythms: float = 1.0  # of the sigma power that stands above the smooth spectrum; less of the alpha
    tilt: float = 0.0  # exponent: amplitude grows as (f / 6 Hz) ** tilt
    bend: float = 0.0  # amplitude of the middle frequencies against both ends, natural logarithm

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Derivation:
        """One for a night: at the forehead (one in five), the centre, or the back of the head (one in ten).

        Central ones, against a far reference, see the waves of sleep as large as both measured derivations
        together, about three times their spindles, whose field is flat between Fpz and Cz, and a fortieth to
        a third of what the forehead adds. Their spectra are flatter (CENTRAL_TILT).
        """
        size = generator.standard_normal(7)
        place = generator.random()
        tilt, bend = 0.1 * size[4:6]
        few_rhythms = np.exp(0.3 + 0.4 * size[6])
        if place < 0.2:
            gain = np.exp(0.4 * size[0])
            few = generator.uniform(0.3, 1.0, 2)
            behind = gain * generator.uniform(0, 0.5)
            return cls(gain, behind, gain * few[0], gain * few[1], few_rhythms, tilt, bend)
        eyes, muscle = np.exp(-2.9 + 0.7 * size[2]), np.exp(-1.8 + 0.8 * size[3])
        if place > 0.9:
            return cls(0.0, 4 * np.exp(0.4 * size[1]), eyes / 2, muscle, few_rhythms, tilt, bend)
        rhythms = 3 * np.exp(0.5 * size[6])
        brain, behind = 1.05 * np.exp(0.4 * size[0]), 0.65 * np.exp(0.5 * size[1])
        return cls(brain, behind, eyes, muscle, rhythms, tilt + CENTRAL_TILT, bend)


FRONTAL = Derivation()  # Fpz-Cz itself
CENTRAL = Derivation(brain=1.05, parietal=0.65, eyes=0.055, muscle=0.165, rhythms=3.0, tilt=CENTRAL_TILT)
PARIETAL = Derivation(brain=0.0, parietal=4.0, eyes=0.07, muscle=0.37)


def derived(frontal: Measured, parietal: Measured, derivation: Derivation) -> Measured:
    """What `derivation` would have measured on the same sleeper at the same time as Fpz-Cz and Pz-Oz.

    How much of Fpz-Cz is eyes is measured epoch by epoch (`Measured.eye`), how much is muscle follows from
    what lies above 30 Hz, so nothing here knows the stage. Parts add up in power.
    """
    power = frontal.power_uv2
    eyes = frontal.eye[:, None] * np.array(EYES) * power
    widths = np.diff(np.array(BANDS_HZ), axis=1)[:, 0]
    muscle = np.minimum(power[:, HIGH:] / widths[HIGH] * np.array(MUSCLE) * widths, 0.9 * (power - eyes))
    brain = derivation.brain * (power - eyes - muscle)
    eyes, muscle = derivation.eyes * eyes, derivation.muscle * muscle
    behind = derivation.parietal * parietal.power_uv2
    octaves = np.log([np.sqrt(a * b) / 6 for a, b in BANDS_HZ])
    curve = derivation.tilt * octaves + derivation.bend * (1 - (octaves / 2) ** 2).clip(-1)
    power = eyes + brain + muscle + behind
    _, alpha, sigma = above(np.maximum(power, 1e-6))
    power[:, SIGMA] += (derivation.rhythms - 1) * sigma
    power[:, ALPHA] += (derivation.rhythms**ALPHA_SHARE - 1) * alpha
    slow = slice(LOW, DELTA + 1)
    eye = eyes[:, slow].sum(1) / np.maximum(power[:, slow].sum(1), 1e-9)
    # Transients of the forehead that were eyes go with them; those of the brain are seen from both places.
    fewer = 1 - np.clip(frontal.eye - eye, 0, 1)
    back = behind.sum(1) / power.sum(1)
    spread = np.sqrt(np.maximum(0, 1 - fewer * (1 - frontal.spread**2)))
    kurtosis = np.where(frontal.kurtosis > 0, fewer**2, 1) * frontal.kurtosis
    return Measured(
        power_uv2=power * np.exp(2 * curve),
        spread=spread + back * (parietal.spread - spread),
        kurtosis=kurtosis + back * (parietal.kurtosis - kurtosis),
        skewness=frontal.skewness + back * (parietal.skewness - frontal.skewness),
        eye=eye,
    )


class Measurements:
    """The shared table of measurements: recordings in order, each a night of consecutive epochs."""

    def __init__(self, table: dict[str, NDArray[np.generic]]) -> None:
        self._table = table
        names, starts, counts = np.unique(table["recording"], return_index=True, return_counts=True)
        self._rows = {
            str(name): slice(int(start), int(start + count))
            for name, start, count in zip(names, starts, counts, strict=True)
        }

    @classmethod
    def load(cls, path: str | Path) -> Measurements:
        """Read the npz; raises RecordingError when it is missing or lacks a column."""
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [key for key in KEYS if key not in file]
                if missing:
                    raise RecordingError(
                        f"measurements {path}: found no {', '.join(missing)}; give the features npz"
                    )
                table = {key: file[key] for key in KEYS}
        except FileNotFoundError:
            raise RecordingError(
                f"measurements {path}: no such file; give the path of the features npz"
            ) from None
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"measurements {path}: not an npz ({error}); give the features npz"
            ) from error
        return cls(table)

    @property
    def recordings(self) -> list[str]:
        """Their names, e.g. SC4001E0, sorted."""
        return list(self._rows)

    def subject(self, recording: str) -> int:
        """The person who slept: characters 4-5 of the recording's name."""
        self._find(recording)
        return int(recording[3:5])

    def stages(self, recording: str) -> NDArray[np.int8]:
        """(n_epochs,) 0 W, 1 N1, 2 N2, 3 N3, 4 R."""
        return self._table["y"][self._find(recording)].astype(np.int8)

    def measured(self, recording: str, derivation: Derivation = FRONTAL) -> Measured:
        """Return what `derivation` measured or would have measured; missing values come from neighbours."""
        raw, time, band = (self.column(key, recording) for key in ("A_raw10", "B_time39", "C_band30"))
        time, band = _filled(time), _filled(band)
        frontal = measure_frontal(raw, time, band)
        return (
            frontal if derivation == FRONTAL else derived(frontal, measure_parietal(time, band), derivation)
        )

    def beside(self, recording: str) -> Array:
        """Return what BESIDE names, (n_epochs, 23), as logarithms; it is the same for every derivation."""
        time, band = (_filled(self.column(key, recording)) for key in ("B_time39", "C_band30"))
        where = np.array([0, 13, 26])
        positive = np.log(np.maximum(time[:, [*(5 + where), *(6 + where), *(4 + where)]], 1e-3))
        kurtosis = np.log1p(time[:, 3 + where].clip(-0.5, 8))
        eye_sd = np.log(np.maximum(time[:, 26:27], 1e-3))
        return np.column_stack([positive, kurtosis, band[:, 10:15], band[:, 20:25], eye_sd])

    def column(self, key: str, recording: str) -> Array:
        """One block of the table's columns for one night (n_epochs, columns), as it was measured."""
        return self._table[key][self._find(recording)].astype(np.float64)

    def _find(self, recording: str) -> slice:
        if recording not in self._rows:
            raise RecordingError(
                f"recording {recording!r}: not among the {len(self._rows)} measured, "
                f"which run from {self.recordings[0]} to {self.recordings[-1]}"
            )
        return self._rows[recording]


def measure_frontal(raw: Array, time: Array, band: Array) -> Measured:
    """Fpz-Cz out of columns (n, 10), (n, 39), (n, 30) of consecutive epochs, the last two without a NaN."""
    total = np.maximum(raw[:, 5] * 1e12 / EPOCH_SAMPLES - (raw[:, 0] * 1e6) ** 2, 1e-3)
    bands = raw[:, 6:10] * 1e12 * 2 / EPOCH_SAMPLES**2  # Parseval: 0.5-4, 4-8, 8-13, 13-30 Hz in µV²
    power = np.empty((len(raw), len(BANDS_HZ)))
    power[:, 1:3] = bands[:, :2]
    share = np.exp(band[:, 2:5])  # Welch power in 8-12, 12-16, 16-30 Hz: which part of 8-30 Hz is whose
    power[:, 3:6] = bands[:, 2:].sum(1)[:, None] * share / share.sum(1)[:, None]
    return _whole(power, total, time[:, :6], _eye(time, band))


def measure_parietal(time: Array, band: Array) -> Measured:
    """Return Pz-Oz from columns (n, 39) and (n, 30) of one night's epochs, without any part of the eyes."""
    power = np.empty((len(time), len(BANDS_HZ)))
    power[:, 1:6] = _absolute(time[:, 13], band[:, 10:15])
    return _whole(power, time[:, 13] ** 2, time[:, 13:19], np.zeros(len(time)))


def _whole(power: Array, total: Array, time: Array, eye: Array) -> Measured:
    """Add what lies outside 0.5-30 Hz of `power` (n, 7), and the moments out of six columns of `time`."""
    rest = np.maximum(total - power[:, 1:6].sum(1), 0)
    power[:, HIGH] = np.clip(_high(power, total, time[:, 5]), 1e-3, np.maximum(rest, 2e-3))
    power[:, LOW] = np.clip((rest - power[:, HIGH]) / 2, 1e-2, 2 * power[:, 1])  # the other half drifts below
    return Measured(
        power_uv2=power,
        spread=time[:, 1] / np.maximum(1.349 * time[:, 0], 1e-3),
        kurtosis=time[:, 3],
        skewness=time[:, 2],
        eye=eye,
    )


def _absolute(sd_uv: Array, log_power: Array) -> Array:
    """Band powers in µV² (n, 5) of one night, out of those (log) of the night divided by its own s.d.

    The divisor is not known, but an epoch's variance is; where next to nothing lies outside the bands, their
    sum is the variance.
    """
    power = np.exp(log_power)
    absolute: Array = power * np.percentile(sd_uv**2 / power.sum(1), QUIET)
    return absolute


def _high(power: Array, total: Array, mobility: Array) -> Array:
    """Power above 30 Hz (n,) that Hjorth mobility, the spectrum's second moment, asks for."""
    centre = np.array([np.sqrt(a * b) for a, b in BANDS_HZ])
    weight = 4 * np.sin(np.pi * centre / RATE_HZ) ** 2
    high: Array = (mobility**2 * total - power[:, 1:6] @ weight[1:6]) / weight[HIGH]
    return high


def _eye(time: Array, band: Array) -> Array:
    """Share 0..1 of the slow frontal power that eyes explain, from the EOG against the posterior EEG."""
    eyes = EYE_GAIN * _absolute(time[:, 26], band[:, 20:25])[:, 0]
    brain = BRAIN_GAIN * _absolute(time[:, 13], band[:, 10:15])[:, 0]
    share: Array = eyes / np.maximum(eyes + brain, 1e-6)
    return np.clip(share, 0, 1)


def _filled(columns: Array) -> Array:
    """Replace what is not finite by interpolating in time; a column without any value becomes 0."""
    columns = columns.copy()
    at = np.arange(len(columns))
    for column in columns.T:
        good = np.isfinite(column)
        if not good.all():
            column[~good] = np.interp(at[~good], at[good], column[good]) if good.any() else 0.0
    return columns
