"""Learns the figures that simulated nights are drawn from, from per-epoch measurements of real ones.

    python -m tools.night_figures FEATURES.npz --out streamer/sources/figures.json

Training nights are drawn by `model.draw`, and judged by `tools.judge`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.resynthesis import Measurements
from streamer.messages import STAGES
from streamer.sources.night import to_vectors
from streamer.sources.synthesis import BANDS_HZ
from tools.command import make_parser, run

Array = NDArray[np.float64]
Stages = NDArray[np.int8]

ATTRIBUTION = (
    "Learnt from the 153 cassette nights of Sleep-EDF Expanded (B. Kemp et al., PhysioNet, "
    "https://physionet.org/content/sleep-edfx/1.0.0/), Open Data Commons Attribution License 1.0 (ODC-By 1.0)"
)

LEAST = 1e-3  # variance along any axis, so that what is rounded can still be drawn from


def compute_figures(table: Measurements) -> dict[str, object]:
    """Compute what `streamer.sources.night` draws from: vectors per stage, transitions, priors."""
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
    """How epochs of a stage vary in a typical night, and how each correlates with the one before."""
    covariances, before, after = [], [], []
    for (stages, vectors), mean in zip(nights, means[:, stage], strict=True):
        if np.isfinite(mean).all():
            rest = vectors - mean
            covariances.append(np.cov(rest[stages == stage].T))
            pairs = (stages[1:] == stage) & (stages[:-1] == stage)
            before.append(rest[:-1][pairs])
            after.append(rest[1:][pairs])
    first, second = np.concatenate(before), np.concatenate(after)
    memory = np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)])
    # The median, as for the means: pooled, a few nights of great variation would count more than all others.
    power, axes = np.linalg.eigh(np.median(covariances, axis=0))
    covariance = axes @ np.diag(np.maximum(power, LEAST)) @ axes.T
    return {"covariance": _short(covariance), "memory": round(float(memory), 3)}


def _tame(vectors: Array) -> Array:
    """Clip to the percentiles 3 to 97, so that epochs with movement or loose electrodes have no weight."""
    low, high = np.percentile(vectors, [3, 97], axis=0)
    return np.clip(vectors, low, high)


def _short(values: Array, digits: int = 4) -> list[object]:
    """Round, for a small and readable file."""
    rounded: list[object] = np.round(values, digits).tolist()
    return rounded


def write_figures(asked: argparse.Namespace) -> str:
    """Learn and write the figures; return where they are."""
    text = json.dumps(compute_figures(Measurements.load(asked.features)), ensure_ascii=False)
    asked.out.write_text(text + "\n", encoding="utf-8")
    return f"wrote {asked.out}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = make_parser("night_figures", __doc__)
    parser.add_argument("features", type=Path, help="npz of per-epoch measurements")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    return run(write_figures, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
