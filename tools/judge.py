"""Judges how realistic drawn nights are, by scorers trained on real nights and by their statistics.

    python -m tools.judge FEATURES.npz --teacher TEACHER.py --nights 6 --yasa
    python -m tools.judge FEATURES.npz --teacher TEACHER.py --real RECORDING.edf ...

First the agreement with the experts on drawn nights: of the teacher (see model/teacher.py), with 21 and with
81 epochs at once, of YASA, and of both together. Then, per stage, how much each band's power varies from
second to second within an epoch, and how much two bands vary together: for drawn nights by the experts'
stages, for real recordings by the teacher's, so that their labels are not read. The nights are of people who
are not held out, or with `--held-out` of those who are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data import FOLDS, spectrograms
from model.draw import draw_night, opinion, yasa
from model.metrics import agreement
from model.resynthesis import Measurements
from model.teacher import Samples, Scorer, load_teacher
from streamer.frontend import condition
from streamer.messages import EPOCH_SAMPLES, STAGES
from streamer.settings import SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick
from tools.command import make_parser, run
from tools.runs import format_table

EDGES_HZ = (0.5, 1.5, 4.0, 8.0, 11.0, 15.0, 22.0, 30.0)
PAIRS = {
    "slow-theta": (0, 2),
    "slow-sigma": (0, 4),
    "delta-theta": (1, 2),
    "theta-alpha": (2, 3),
    "alpha-sigma": (3, 4),
    "sigma-beta": (4, 5),
    "delta-beta": (1, 5),
}
LEAST = 5  # figures of a stage with fewer epochs are not shown
WINDOWS = (21, 81)

Labelled = tuple[Samples, NDArray[np.int8]]  # a night's samples and stages


def measure_variation(decibel: Tensor) -> tuple[Tensor, Tensor]:
    """How bands' powers (n_epochs, frames, 7) vary in an epoch: s.d. (n_epochs, 7), correlations of PAIRS."""
    away = decibel - decibel.mean(1, keepdim=True)
    spread = (away.square().mean(1) + 1e-9).sqrt()
    pairs = [
        (away[..., one] * away[..., other]).mean(1) / (spread[:, one] * spread[:, other])
        for one, other in PAIRS.values()
    ]
    return spread, torch.stack(pairs, 1)


def band_powers(samples: Samples) -> Tensor:
    """The bands' powers in every frame of every epoch, (n_epochs, frames, 7) dB."""
    power = 10 ** (spectrograms(samples.reshape(-1, EPOCH_SAMPLES)).astype(np.float64) / 10)
    hz = np.arange(1, power.shape[-1] + 1) * 100 / 256
    bands = [power[:, :, (low <= hz) & (hz < high)].sum(2) for low, high in pairwise(EDGES_HZ)]
    return torch.from_numpy(10 * np.log10(np.stack(bands, axis=2)))


def make_texture_table(title: str, parts: Sequence[Labelled]) -> list[str]:
    """Make a table of `measure_variation`, as means per stage."""
    spread, together = measure_variation(torch.cat([band_powers(samples) for samples, _ in parts]))
    stages = np.concatenate([stages for _, stages in parts])
    rows: list[tuple[object, ...]] = []
    for number, stage in enumerate(STAGES):
        ours = torch.from_numpy(stages == number)
        if (count := int(ours.sum())) >= LEAST:
            sds = " ".join(f"{one:.1f}" for one in spread[ours].mean(0))
            rows.append((stage, count, sds, *(f"{one:.2f}" for one in together[ours].mean(0))))
    return [title, "", *format_table(("stage", "epochs", "s.d. dB by band", *PAIRS), rows), ""]


def judge_scorers(nights: Sequence[Labelled], scorers: dict[str, Scorer]) -> list[str]:
    """Make a table of each scorer's agreement with the experts, and that of the last two combined."""
    truth = torch.from_numpy(np.concatenate([stages for _, stages in nights]))
    said = {name: [scorer(samples) for samples, _ in nights] for name, scorer in scorers.items()}
    if len(said) > len(WINDOWS):
        said["both of the last"] = [combine(*pair) for pair in zip(*list(said.values())[-2:], strict=True)]
    rows: list[tuple[object, ...]] = []
    for name, parts in said.items():
        found = agreement(torch.from_numpy(np.concatenate(parts)), truth)
        confusion = np.array(found.confusion)
        recall = np.diag(confusion) / np.maximum(confusion.sum(1), 1)
        rows.append((name, found.accuracy, found.kappa, *(f"{one:.2f}" for one in recall)))
    return [*format_table(("scorer", "accuracy", "kappa", *(f"{stage} found" for stage in STAGES)), rows), ""]


def combine(first: Samples, second: Samples) -> Samples:
    """Combine two scorers' probabilities, (n_epochs, 5), by their geometric mean."""
    shared = opinion(first, [lambda _: first, lambda _: second])
    assert shared is not None
    return shared


def choose_recordings(measurements: Measurements, count: int, held_out: bool = False) -> list[str]:
    """Choose recordings of people who are held out, or of all others, spread over them."""
    ours = [one for one in measurements.recordings if (measurements.subject(one) in FOLDS[0]) == held_out]
    return ours[:: max(1, len(ours) // count)][:count]


def read_epochs(path: Path, channel: str | None) -> Samples:
    """Read the whole epochs of a recording, conditioned: (n_epochs * 3000,) µV, lost samples as 0."""
    recording = open_recording(path)
    chosen, info = pick(recording, channel)
    samples = condition(list(recording.items(chosen)), info, SignalSettings(channel=channel))
    whole = np.nan_to_num(samples[: samples.size // EPOCH_SAMPLES * EPOCH_SAMPLES])
    return whole.astype(np.float32)


def judge(asked: argparse.Namespace) -> str:
    """Make every table that was asked for."""
    scorers: dict[str, Scorer] = {}
    if asked.teacher is not None:
        scorers = {f"teacher, window {window}": load_teacher(asked.teacher, window) for window in WINDOWS}
    page: list[str] = []
    if asked.nights:
        measurements = Measurements.load(asked.features)
        chosen = choose_recordings(measurements, asked.nights, asked.held_out)
        drawn = [draw_night(measurements, one, asked.seed) for one in chosen]
        nights = [(one.samples.astype(np.float32), one.stages) for one in drawn]
        asked_too: dict[str, Scorer] = {"YASA": yasa} if asked.yasa else {}
        if scorers or asked_too:
            page += judge_scorers(nights, scorers | asked_too)
        page += make_texture_table(f"{len(nights)} drawn nights, experts' stages", nights)
    if asked.real:
        teacher = list(scorers.values())[-1]
        signals = [read_epochs(path, asked.channel) for path in asked.real]
        parts = [(one, teacher(one).argmax(1).astype(np.int8)) for one in signals]
        page += make_texture_table(f"{len(parts)} real recordings, the teacher's stages", parts)
    return "\n".join(page)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = make_parser("judge", __doc__)
    parser.add_argument("features", type=Path, help="npz of per-epoch measurements")
    parser.add_argument("--teacher", type=Path, metavar="FILE.py", help="a scorer, see model/teacher.py")
    parser.add_argument("--yasa", action="store_true", help="also score with YASA (extra `peers`)")
    parser.add_argument("--nights", type=int, default=0, help="number of drawn nights to judge")
    parser.add_argument("--held-out", action="store_true", help="the nights of the people who are held out")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn nights")
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="recordings to compare with")
    parser.add_argument("--channel", help="channel of the recordings (default: chosen by the labels)")
    asked = parser.parse_args(arguments)
    if asked.real and asked.teacher is None:
        parser.error("--real takes its stages from a teacher; give --teacher")
    if not asked.real and not asked.nights:
        parser.error("nothing to do; give --nights or --real")
    return run(judge, asked)


if __name__ == "__main__":
    sys.exit(main())
