"""Measures how much staging degrades with another amplifier, electrode, room or sampling rate.

    python -m tools.robustness night1.edf prepared/*.npz --out robustness

EDF files need `Sleep stage` annotations, and are changed before they enter the engine. Prepared nights (npz)
are conditioned already, so what the conditioner removes (hum, other rates) is not tried on them. Every
condition is compared with the unchanged signal, on the epochs that were scored in both. Writes
robustness.json and robustness.md into --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import fft
from scipy.signal import resample_poly

from model.augment import PIVOT_HZ
from streamer.channels import choose
from streamer.derivation import Derivation
from streamer.frontend import join
from streamer.messages import EPOCH_S, Channel, Chunk, Floats, StreamInfo
from streamer.network.stager import Model
from streamer.settings import SignalSettings
from tools.command import run
from tools.evaluate import Rows, ScoredNight, StagedNight, compare, open_night, stage_night
from tools.runs import describe, format_table, make_model_parser, write

HUM_UV = 30.0  # mean r.m.s., as of dry electrodes in a bedroom; above the limit for "line noise"
BAND_HZ = 35.0  # noise is given as r.m.s. up to this frequency
LOST = 0.1  # share of epochs that are lost
RUN = 3  # mean length of a gap, in epochs
RATES_HZ = (50, 64, 128, 200, 256, 512)
HOPS_S = (1, 5, 10)
ALLOWED = 0.05  # larger falls of kappa are marked

Signal = tuple[Floats, float]  # samples (n,) µV, NaN where lost, and their rate in Hz
Change = Callable[[Floats, float, np.random.Generator], Signal | None]  # None: cannot be at this rate


@dataclass(frozen=True, slots=True)
class Condition:
    """A change of the signal; `behind`: it can be tried on prepared nights, too."""

    name: str
    change: Change
    behind: bool = True


def gain(factor: float) -> Change:
    """Scale the amplitude."""
    return lambda samples, rate_hz, rng: (factor * samples, rate_hz)


def hum(mains_hz: int) -> Change:
    """Add mains hum that varies by half over minutes, with a tenth of its third harmonic."""

    def change(samples: Floats, rate_hz: float, rng: np.random.Generator) -> Signal | None:
        if mains_hz >= rate_hz / 2:
            return None
        t = np.arange(samples.size) / rate_hz
        wave = np.sin(2 * np.pi * mains_hz * t + rng.uniform(0, 2 * np.pi))
        if 3 * mains_hz < rate_hz / 2:
            wave += 0.1 * np.sin(6 * np.pi * mains_hz * t)
        swell = 1 + 0.5 * np.sin(2 * np.pi * t / 180 + rng.uniform(0, 2 * np.pi))
        return samples + np.sqrt(2) * HUM_UV * swell * wave, rate_hz

    return change


def noise(uv: float) -> Change:
    """Add white noise of `uv` r.m.s. between 0 and 35 Hz; the conditioner removes higher frequencies."""

    def change(samples: Floats, rate_hz: float, rng: np.random.Generator) -> Signal:
        spectrum = fft.rfft(rng.standard_normal(samples.size))
        spectrum[fft.rfftfreq(samples.size, 1 / rate_hz) > BAND_HZ] = 0
        made = fft.irfft(spectrum, samples.size)
        return samples + uv * made / made.std(), rate_hz

    return change


def tilt(exponent: float) -> Change:
    """Tilt the spectrum, as another reference does: amplitude times (f / 6 Hz) ** exponent, 0.5 to 35 Hz."""

    def change(samples: Floats, rate_hz: float, rng: np.random.Generator) -> Signal:
        size = fft.next_fast_len(samples.size, real=True)
        frequency = fft.rfftfreq(size, 1 / rate_hz)
        spectrum = fft.rfft(np.nan_to_num(samples), size)
        spectrum *= (np.clip(frequency, 0.5, BAND_HZ) / PIVOT_HZ) ** exponent
        return np.where(np.isnan(samples), np.nan, fft.irfft(spectrum, size)[: samples.size]), rate_hz

    return change


def lose(samples: Floats, rate_hz: float, rng: np.random.Generator) -> Signal:
    """Lose a tenth of the night, in runs of whole epochs."""
    epochs = int(samples.size / rate_hz / EPOCH_S)
    gone = np.zeros(epochs, np.bool_)
    while gone.sum() < round(LOST * epochs):
        first = int(rng.integers(epochs))
        gone[first : first + int(rng.geometric(1 / RUN))] = True
    gone[np.flatnonzero(gone)[round(LOST * epochs) :]] = False
    changed = samples.copy()
    for epoch in np.flatnonzero(gone):
        changed[round(epoch * EPOCH_S * rate_hz) : round((epoch + 1) * EPOCH_S * rate_hz)] = np.nan
    return changed, rate_hz


def resample(to_hz: int) -> Change:
    """Resample to another device's rate, with an anti-alias filter."""

    def change(samples: Floats, rate_hz: float, rng: np.random.Generator) -> Signal | None:
        if rate_hz == to_hz:
            return None
        ratio = Fraction(to_hz / rate_hz).limit_denominator(4096)
        made = resample_poly(np.nan_to_num(samples), ratio.numerator, ratio.denominator)
        nearest = np.minimum((np.arange(made.size) * rate_hz / to_hz).astype(int), samples.size - 1)
        return np.where(np.isnan(samples[nearest]), np.nan, made), float(to_hz)

    return change


CONDITIONS = (
    *(Condition(f"gain x{factor:g}", gain(factor)) for factor in (0.5, 0.7, 1.4, 2.0)),
    *(Condition(f"hum {mains_hz} Hz, {HUM_UV:g} µV", hum(mains_hz), behind=False) for mains_hz in (50, 60)),
    Condition("a tenth of the epochs lost", lose),
    *(Condition(f"spectral tilt {exponent:+g}", tilt(exponent)) for exponent in (-0.3, 0.3)),
    *(Condition(f"white noise {uv:g} µV", noise(uv)) for uv in (2.0, 5.0)),
    *(Condition(f"from {rate_hz} Hz", resample(rate_hz), behind=False) for rate_hz in RATES_HZ),
)


def open_derived(path: Path, channel: str | None) -> ScoredNight:
    """Read a night, as `open_night`; of a recording, only the derivation, in µV."""
    night = open_night(path, channel)
    if night.conditioned:
        return night
    derivation = Derivation(choose(night.info.channels, channel), night.info.channels)
    parts = [*(one for item in night.items for one in derivation.push(item)), *derivation.flush()]
    return change_signal(night, (join(parts), night.info.rate_hz))


def change_signal(night: ScoredNight, signal: Signal) -> ScoredNight:
    """The same night with another signal."""
    samples, rate_hz = signal
    if night.conditioned:  # as it would be on the disk
        samples = samples.astype(np.float16).astype(np.float64)
    info = StreamInfo(night.name, rate_hz, (Channel("EEG", "uV"),), 0.0)
    return replace(night, info=info, items=[Chunk(0, samples[None])], signal=SignalSettings())


def keep_shared(one: Rows, other: Rows) -> tuple[Rows, Rows]:
    """Keep the epochs that were scored in both."""
    n = min(one.truth.size, other.truth.size)  # at another rate the last epoch may be missing
    both = ~np.isnan(one.probabilities[:n, 0] + other.probabilities[:n, 0])
    return (
        Rows(one.probabilities[:n], one.smoothed[:n], one.truth[:n]).only(both),
        Rows(other.probabilities[:n], other.smoothed[:n], one.truth[:n]).only(both),
    )


def compare_pairs(before: Sequence[Rows], after: Sequence[Rows]) -> dict[str, Any]:
    """The figures of a condition and their fall, over the epochs that were scored with and without it."""
    pairs = [keep_shared(one, other) for one, other in zip(before, after, strict=True)]
    was, now = compare(one for one, _ in pairs), compare(other for _, other in pairs)
    figures = {key: getattr(now, key) for key in ("accuracy", "kappa", "macro_f1")}
    return {
        "recordings": len(pairs),
        "epochs": now.epochs,
        "staged": now.epochs / compare(before).epochs,
        **figures,
        "fall": {key: getattr(was, key) - value for key, value in figures.items()},
    }


def select_off_grid(night: StagedNight, hop_s: int) -> Rows:
    """Select, from windows at every second between epochs, those of a hop of `hop_s`."""
    assert night.off_grid is not None
    offset_s = 1 + np.arange(night.off_grid.truth.size) % (EPOCH_S - 1)  # without the epochs themselves
    return night.off_grid.only(offset_s % hop_s == 0)


def try_all(nights: Sequence[ScoredNight], model: Model, hops_s: Sequence[int] = HOPS_S) -> dict[str, Any]:
    """Compute every figure, as JSON values."""
    finest_s = 1 if hops_s else EPOCH_S
    before = [
        stage_night(night, model, finest_s)
        for night in track(nights, "as it is", console=Console(stderr=True))
    ]
    grids = [one.grid for one in before]
    after: dict[str, list[tuple[Rows, Rows]]] = {condition.name: [] for condition in CONDITIONS}
    tries = [(condition, number) for condition in CONDITIONS for number in range(len(nights))]
    for condition, number in track(tries, "changed", console=Console(stderr=True)):
        night = nights[number]
        rng = np.random.default_rng([number, *condition.name.encode()])  # independent of the other conditions
        made = condition.change(join(night.items), night.info.rate_hz, rng)
        if made is not None and (condition.behind or not night.conditioned):
            after[condition.name].append((grids[number], stage_night(change_signal(night, made), model).grid))
    whole = compare(grids)
    hops = {hop_s: compare(select_off_grid(one, hop_s) for one in before) for hop_s in hops_s}
    return {
        "recordings": [night.name for night in nights],
        "as_it_is": whole.as_dict(),
        "conditions": {
            name: compare_pairs([one for one, _ in pairs], [other for _, other in pairs])
            for name, pairs in after.items()
            if pairs
        },
        "hops": {
            str(hop_s): found.as_dict() | {"fall": {"kappa": whole.kappa - found.kappa}}
            for hop_s, found in hops.items()
        },
    }


def make_page(figures: dict[str, Any], model: Model) -> list[str]:
    """The figures as lines of Markdown: unchanged, each condition, each hop."""
    count, whole = len(figures["recordings"]), figures["as_it_is"]
    rows = {"as it is": whole} | figures["conditions"]
    rows |= {f"between epochs, hop {hop_s} s": row for hop_s, row in figures["hops"].items()}
    return [
        f"# Robustness: {count} recordings, {whole['epochs']} epochs",
        "",
        f"{describe(model)} The fall is relative to the unchanged signal on the same epochs, those scored "
        f"with and without the change; **bold** where kappa falls by more than {ALLOWED:g}.",
        "",
        *format_table(
            ("", "recordings", "staged", "accuracy", "kappa", "macro-F1", "fall of kappa"),
            [
                (
                    name,
                    row.get("recordings", count),
                    f"{row['staged']:.0%}" if "staged" in row else "",
                    *(row[key] for key in ("accuracy", "kappa", "macro_f1")),
                    format_fall(row) if "fall" in row else "",
                )
                for name, row in rows.items()
            ],
        ),
    ]


def format_fall(row: dict[str, Any]) -> str:
    """The fall of kappa, bold if it is larger than ALLOWED."""
    text = f"{row['fall']['kappa']:+.3f}"
    return f"**{text}**" if row["fall"]["kappa"] > ALLOWED else text


def measure(asked: argparse.Namespace) -> str:
    """Try every condition on every recording, write both files, and return the page."""
    model = Model.load(asked.model, trusted=True)
    nights = [open_derived(path, asked.channel) for path in asked.recordings]
    figures = try_all(nights, model, () if asked.no_hops else HOPS_S)
    return write(asked.out, "robustness", figures, make_page(figures, model))


def main(arguments: list[str] | None = None) -> int:
    """Try every condition, and print the page; return the exit code."""
    parser = make_model_parser("robustness", __doc__)
    parser.add_argument(
        "--no-hops",
        action="store_true",
        help="leave out the windows between epochs, which take most of the time",
    )
    return run(measure, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
