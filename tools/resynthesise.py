"""Nights of EEG drawn again from per-epoch measurements: write them, check how real they are, learn figures.

python -m tools.resynthesise FEATURES.npz --out DIR [--recordings SC4001E0 ...] [--workers 2]
python -m tools.resynthesise FEATURES.npz --check 12
python -m tools.resynthesise FEATURES.npz --figures streamer/sources/figures.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import stats

from model.draw import PLACES
from model.resynthesis import FRONTAL, Derivation, Measurements
from streamer.errors import SleepstreamError, UsageError
from streamer.messages import EPOCH_SAMPLES, RATE_HZ, STAGES
from streamer.night.agreement import Agreement, agreement_of
from streamer.sources.night import to_vectors
from streamer.sources.synthesis import BANDS_HZ, DEFAULT, Style, varied

Array = NDArray[np.float64]
Stages = NDArray[np.int8]

STYLES = {
    "default": DEFAULT,
    "calm": Style(transients=0.5, bursts=1.5, depth=0.25, clump=1.0),
    "busy": Style(transients=2.0, bursts=6.0, depth=0.7, pace_s=0.8),
    "sharp": Style(width=0.7, clump=0.2, alpha_hz=10.4, sigma_hz=13.6),
    "slow": Style(width=1.4, pace_s=4.0, alpha_hz=8.8, sigma_hz=12.3),
}
ATTRIBUTION = (
    "Learnt from the 153 cassette nights of Sleep-EDF Expanded (B. Kemp et al., PhysioNet, "
    "https://physionet.org/content/sleep-edfx/1.0.0/), Open Data Commons Attribution License 1.0 (ODC-By 1.0)"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One night to write."""

    features: Path
    recording: str
    seed: int
    style: Style
    vary: bool
    path: Path


def write_night(job: Job) -> Path:
    """Draw one night and write it: samples float32 µV at 100 Hz, stages int8, subject, recording."""
    table = Measurements.load(job.features)
    style, derivation = job.style, FRONTAL
    if job.vary:
        style = varied(style, job.seed)
        derivation = Derivation.draw(np.random.default_rng([job.seed, 3]))
    np.savez(
        job.path,
        samples=table.resynthesise(job.recording, job.seed, style, derivation),
        stages=table.stages(job.recording),
        subject=table.subject(job.recording),
        recording=job.recording,
    )
    return job.path


def write(jobs: Sequence[Job], workers: int, console: Console) -> None:
    """Write every night, `workers` at a time."""
    with Progress(console=console) as progress, ProcessPoolExecutor(workers) as pool:
        task = progress.add_task("nights", total=len(jobs))
        for done in as_completed([pool.submit(write_night, job) for job in jobs]):
            done.result()
            progress.advance(task)


# -- how real the nights are ---------------------------------------------------------------------------------

MEASURES = (
    *("rms 0.5-30", "0.5-4", "4-8", "8-12", "12-16", "16-30"),
    *("spread", "skewness", "kurtosis", "crossings", "mobility", "complexity"),
)


def measure(samples: NDArray[np.float32]) -> Array:
    """MEASURES (n_epochs, 12) of (n_epochs * 3000,) µV; band powers as shares of 0.5-30 Hz."""
    epochs = samples.reshape(-1, EPOCH_SAMPLES).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(epochs, axis=1)) ** 2 * 2 / EPOCH_SAMPLES**2
    frequency = np.fft.rfftfreq(EPOCH_SAMPLES, 1 / RATE_HZ)
    edges = np.searchsorted(frequency, [low for low, _ in BANDS_HZ[1:]])
    power = np.add.reduceat(spectrum, edges, axis=1)[:, :5]
    first, second = np.diff(epochs, axis=1), np.diff(epochs, 2, axis=1)
    mobility = first.std(1) / epochs.std(1)
    return np.column_stack(
        [
            np.sqrt(power.sum(1)),
            power / power.sum(1, keepdims=True),
            stats.iqr(epochs, axis=1) / 1.349 / epochs.std(1),
            stats.skew(epochs, axis=1),
            stats.kurtosis(epochs, axis=1),
            (np.diff(np.signbit(epochs), axis=1)).sum(1),
            mobility,
            second.std(1) / first.std(1) / mobility,
        ]
    )


def originals(table: Measurements, recording: str) -> Array:
    """The same measures (n_epochs, 12) as they were taken from the real night; NaN where they are missing."""
    measured, time = table.measured(recording), table.column("B_time39", recording)
    power = measured.power_uv2[:, 1:6]
    return np.column_stack(
        [
            np.sqrt(power.sum(1)),
            power / power.sum(1, keepdims=True),
            time[:, 1] / 1.349 / time[:, 0],
            time[:, 2:7],
        ]
    )


def yasa_stages(samples: NDArray[np.float32]) -> Stages:
    """How YASA scores (n_epochs * 3000,) µV from this one channel: (n_epochs,) 0-4.

    Raises:
        UsageError: YASA is not installed.

    """
    try:
        import mne
        import yasa
    except ImportError:
        raise UsageError("--check: YASA is not installed; pip install '.[peers]'") from None
    raw = mne.io.RawArray(samples[None] * 1e-6, mne.create_info(["EEG"], RATE_HZ, "eeg"), verbose="error")
    scored = yasa.SleepStaging(raw, eeg_name="EEG").predict()
    names = {"WAKE": 0, "W": 0, "N1": 1, "N2": 2, "N3": 3, "REM": 4, "R": 4}
    return np.array([names[str(stage)] for stage in scored.hypno], np.int8)


def compare(truth: Stages, scored: Stages) -> Agreement:
    """How well stages (n,), numbered in the order of STAGES, agree with the true ones."""
    counts = np.zeros((len(STAGES), len(STAGES)), np.int64)
    np.add.at(counts, (truth, scored), 1)
    return agreement_of(counts)


def check(
    table: Measurements, recordings: Sequence[str], seed: int, style: Style, at: Derivation, console: Console
) -> None:
    """Print how YASA scores nights drawn again, and how their measures compare per stage."""
    truth: list[Stages] = []
    scored: list[Stages] = []
    found: list[Array] = []
    asked: list[Array] = []
    with Progress(console=console) as progress:
        for recording in progress.track(recordings, description="nights"):
            samples = table.resynthesise(recording, seed, style, at)
            scored.append(yasa_stages(samples))
            truth.append(table.stages(recording))
            found.append(measure(samples))
            asked.append(originals(table, recording))
    agreed = compare(np.concatenate(truth), np.concatenate(scored))
    console.print(
        f"YASA on {len(recordings)} nights, {agreed.n} epochs: accuracy {agreed.accuracy:.3f}, "
        f"kappa {agreed.kappa:.3f}, macro-F1 {agreed.macro_f1:.3f}"
    )
    console.print(_confusion(agreed))
    console.print(_comparison(np.concatenate(truth), np.concatenate(asked), np.concatenate(found)))


def _confusion(agreed: Agreement) -> Table:
    view = Table("true \\ YASA", *STAGES, "F1", title="Confusion, epochs")
    for stage, row in zip(STAGES, agreed.confusion, strict=True):
        view.add_row(stage, *map(str, row), f"{agreed.f1[stage] or 0:.2f}")
    return view


def _comparison(truth: Stages, asked: Array, found: Array) -> Table:
    """Medians per stage: measured on the real epochs / on the drawn ones (correlation over epochs).

    The real ones hold drift below 0.3 Hz, half of which is not drawn: that moves the last six a little.
    """
    view = Table("measure", *STAGES, title="Medians: measured / drawn (correlation over epochs)")
    whole = np.isfinite(asked).all(1)
    for column, name in enumerate(MEASURES):
        cells = []
        for stage in range(5):
            real, drawn = asked[whole & (truth == stage), column], found[whole & (truth == stage), column]
            alike = np.corrcoef(real, drawn)[0, 1] if len(real) > 2 else np.nan
            cells.append(
                f"{np.median(real):.3g} / {np.median(drawn):.3g} ({alike:.2f})" if len(real) else "-"
            )
        view.add_row(name, *cells)
    return view


# -- figures for simulated nights ----------------------------------------------------------------------------


def figures(table: Measurements) -> dict[str, object]:
    """What `streamer.sources.night` needs to invent a night, and the stage transitions of real hypnograms."""
    nights = [(table.stages(name), _tame(to_vectors(table.measured(name)))) for name in table.recordings]
    transitions = np.zeros((5, 5))
    for stages, _ in nights:
        np.add.at(transitions, (stages[:-1], stages[1:]), 1)
    counts = np.bincount(np.concatenate([stages for stages, _ in nights]), minlength=5)
    means = np.full((len(nights), 5, nights[0][1].shape[1]), np.nan)
    for night, (stages, vectors) in enumerate(nights):
        for stage in range(5):
            if (stages == stage).sum() >= 10:
                means[night, stage] = vectors[stages == stage].mean(0)
    typical = np.nanmedian(means, axis=0)
    offsets = np.nanmean(means - typical, axis=1)
    return {
        "source": ATTRIBUTION,
        "vector": "log of µV² in the bands, spread, log(kurtosis + 1), skewness, logit of eye",
        "bands_hz": BANDS_HZ,
        "stages": {
            name: {"mean": _short(typical[stage]), **_around(nights, means, stage)}
            for stage, name in enumerate(STAGES)
        },
        "night_covariance": _short(np.cov(offsets.T)),
        "transitions": _short(transitions / transitions.sum(1, keepdims=True), 6),
        "priors": _short(counts / counts.sum(), 6),
    }


def _around(nights: list[tuple[Stages, Array]], means: Array, stage: int) -> dict[str, object]:
    """How epochs of `stage` scatter around their own night's mean, and how each resembles the one before."""
    parts, before, after = [], [], []
    for (stages, vectors), mean in zip(nights, means[:, stage], strict=True):
        if np.isfinite(mean).all():
            rest = vectors - mean
            parts.append(rest[stages == stage])
            pairs = (stages[1:] == stage) & (stages[:-1] == stage)
            before.append(rest[:-1][pairs])
            after.append(rest[1:][pairs])
    first, second = np.concatenate(before), np.concatenate(after)
    memory = np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)])
    covariance = np.cov(np.concatenate(parts).T) + 1e-4 * np.eye(first.shape[1])
    return {"covariance": _short(covariance), "memory": round(float(memory), 3)}


def _tame(vectors: Array) -> Array:
    """Keep a few wild epochs (movement, loose electrodes) from speaking for a healthy night."""
    low, high = np.percentile(vectors, [3, 97], axis=0)
    return np.clip(vectors, low, high)


def _short(values: Array, digits: int = 4) -> list[object]:
    """Rounded, for a small file that people can read."""
    rounded: list[object] = np.round(values, digits).tolist()
    return rounded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.resynthesise", description=__doc__.split("\n")[0])
    parser.add_argument("features", type=Path, help="the npz of per-epoch measurements")
    parser.add_argument("--out", type=Path, help="write nights into this folder")
    parser.add_argument(
        "--check", type=int, metavar="N", help="score N nights with YASA and compare measures"
    )
    parser.add_argument("--figures", type=Path, metavar="FILE", help="write the figures of simulated nights")
    parser.add_argument("--recordings", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--nights-per-recording", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=STYLES, default="default", help="how events look")
    parser.add_argument(
        "--vary", action="store_true", help="a style and a derivation of its own for every night"
    )
    parser.add_argument("--at", choices=PLACES, default="frontal", help="where --check puts the electrodes")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args(arguments)
    try:
        return _run(asked, Console())
    except SleepstreamError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _run(asked: argparse.Namespace, console: Console) -> int:
    if asked.out is None and asked.check is None and asked.figures is None:
        raise UsageError("nothing asked for; give --out DIR, --check N or --figures FILE")
    table = Measurements.load(asked.features)
    if asked.figures is not None:
        asked.figures.write_text(json.dumps(figures(table), ensure_ascii=False) + "\n", encoding="utf-8")
        console.print(f"wrote {asked.figures}")
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        write(_jobs(asked, table), asked.workers, console)
    if asked.check is not None:
        some = asked.recordings or table.recordings
        some = some[:: max(1, len(some) // asked.check)][: asked.check]  # spread over the subjects
        check(table, some, asked.seed, STYLES[asked.style], PLACES[asked.at], console)
    return 0


def _jobs(asked: argparse.Namespace, table: Measurements) -> list[Job]:
    """Every night to write, each with a seed of its own."""
    jobs = []
    for recording in asked.recordings or table.recordings:
        number = table.recordings.index(recording) if recording in table.recordings else -1
        table.stages(recording)  # an unknown name is an error before anything is written
        for again in range(asked.nights_per_recording):
            name = recording if asked.nights_per_recording == 1 else f"{recording}-{again}"
            seed = (asked.seed * 1000 + number) * 100 + again
            style = STYLES[asked.style]
            jobs.append(Job(asked.features, recording, seed, style, asked.vary, asked.out / f"{name}.npz"))
    return jobs


if __name__ == "__main__":
    sys.exit(main())
