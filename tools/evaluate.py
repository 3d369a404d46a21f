"""Evaluates the engine on scored recordings, by streaming them through it.

    python -m tools.evaluate night1.edf night2.edf --peers --out report
    python -m tools.evaluate prepared/*.npz --fold 0 --out report

EDF files need `Sleep stage` annotations and take the whole path. Prepared nights (npz) are conditioned
already, and enter after the conditioner. Writes evaluation.json and evaluation.md into --out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model.data import FOLDS, PreparedNight, fold_of, load_night
from model.draw import yasa
from model.metrics import CalibratedAgreement, agreement
from streamer.errors import RecordingError, UsageError
from streamer.frontend import Graded, condition, join
from streamer.messages import (
    EPOCH_S,
    EPOCH_SAMPLES,
    RATE_HZ,
    STAGES,
    Channel,
    Chunk,
    Item,
    Label,
    Quality,
    Score,
    StreamInfo,
)
from streamer.network.stager import Model
from streamer.night.scoring import read_annotated
from streamer.pipeline import Pipeline
from streamer.settings import SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick
from streamer.window import Windows
from tools.command import run
from tools.runs import FIGURES, describe, format_table, make_model_parser, write

Floats = NDArray[np.float64]
Stages = NDArray[np.int64]  # index into STAGES, -1 where unscored

STABLE = 3  # epochs that a stage must last on both sides of a boundary whose delay is measured
UNSCORED = (np.nan,) * len(STAGES)  # in place of probabilities
PATIENCE = 10  # epochs within which a new stage must be scored to count as noticed


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Windows of one recording, with the scorer's stages."""

    probabilities: Floats  # (n, 5), NaN where unscored
    smoothed: Stages  # (n,)
    truth: Stages  # (n,) the scorer's stage of most of the window

    @property
    def stages(self) -> Stages:
        """The most probable stages, (n,)."""
        return np.where(np.isnan(self.probabilities[:, 0]), -1, np.nan_to_num(self.probabilities).argmax(1))

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """These windows alone."""
        return Rows(self.probabilities[chosen], self.smoothed[chosen], self.truth[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class ScoredNight:
    """A recording that a scorer has staged, or a prepared night, which is conditioned already."""

    name: str
    subject: str
    info: StreamInfo
    items: Sequence[Item]
    truth: Stages  # (epochs,)
    signal: SignalSettings
    conditioned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StagedNight:
    """One night: its committed epochs, the windows between them, and another program's epochs."""

    name: str
    subject: str
    grid: Rows
    off_grid: Rows | None = None
    peer: Rows | None = None


def open_night(path: Path, channel: str | None) -> ScoredNight:
    """Read a prepared night, or a recording with a scorer's annotations.

    Raises:
        RecordingError: the file is missing or damaged, or nobody scored it.
        UsageError: the channel does not exist.

    """
    if path.suffix == ".npz":
        return from_prepared(path.name, load_night(path))
    recording = open_recording(path)
    chosen, info = pick(recording, channel)
    items = list(recording.items(chosen))
    scoring = read_annotated(path)
    if not scoring.stages:
        raise RecordingError(f"{path}: has no `Sleep stage` annotations; give a scored recording")
    labels = scoring.labels(math.ceil(items[-1].stop / info.rate_hz / EPOCH_S) if items else 0)
    truth = np.array([index_of(label) for label in labels], dtype=np.int64)
    return ScoredNight(path.name, path.stem, info, items, truth, SignalSettings(channel=channel))


def from_prepared(name: str, night: PreparedNight) -> ScoredNight:
    """Take a prepared night, which enters after the conditioner."""
    info = StreamInfo(name, RATE_HZ, (Channel(PreparedFront.label, "uV"),), 0.0)
    items = [Chunk(0, night.samples.astype(np.float64)[None])]
    truth = night.stages.astype(np.int64)
    return ScoredNight(name, night.subject, info, items, truth, SignalSettings(), conditioned=True)


class PreparedFront:
    """The stages before the network for a prepared night, which is conditioned already."""

    label = "prepared"

    def __init__(self, hop_s: int) -> None:
        self._windows = Windows(hop_s)

    def push(self, item: Item) -> Iterator[Graded]:
        """Yield each window; of the quality, a prepared night has only the lost samples."""
        for window in self._windows.push(item):
            lost = 1 - float(np.isfinite(window.samples).mean())
            yield Graded(window, Quality("good", lost_fraction=lost), ())

    def flush(self) -> Iterator[Graded]:
        """Return nothing, as nothing is held back."""
        return iter(())


def stage_night(
    night: ScoredNight, model: Model, hop_s: int = EPOCH_S, peers: bool = False, block: int = 1
) -> StagedNight:
    """Stream a night through the whole pipeline, or the rest of it; `block` as for `Pipeline`."""
    front = PreparedFront(hop_s) if night.conditioned else None
    pipeline = Pipeline(night.info, night.signal, hop_s, model, front=front, block=block)
    pushed = (output for item in night.items for output in pipeline.push(item))
    scores = [output for output in chain(pushed, pipeline.flush()) if isinstance(output, Score)]
    end_s, rows = with_truth(scores, night.truth)
    on_grid = end_s % EPOCH_S == 0
    peer = ask_yasa(night) if peers else None
    return StagedNight(night.name, night.subject, rows.only(on_grid), rows.only(~on_grid), peer)


def with_truth(scores: Sequence[Score], truth: Stages) -> tuple[Stages, Rows]:
    """Return when each window ends, s, and its score with the scorer's stage of most of the window."""
    end_s = np.array([one.end // RATE_HZ for one in scores], dtype=np.int64)
    epoch = np.round((end_s - EPOCH_S) / EPOCH_S - 1e-6).astype(np.int64)
    known = np.append(truth, -1)  # for windows outside the scoring
    return end_s, Rows(
        np.array([one.probabilities or UNSCORED for one in scores]).reshape(-1, len(STAGES)),
        np.array([index_of(one.smoothed) for one in scores], dtype=np.int64),
        known[np.where((epoch >= 0) & (epoch < truth.size), epoch, -1)],
    )


def index_of(label: Label) -> int:
    """Index in STAGES; -1 for unscored."""
    return -1 if label == "unscored" else STAGES.index(label)


def ask_yasa(night: ScoredNight) -> Rows:
    """YASA's stages for the same samples."""
    conditioned = join(night.items) if night.conditioned else condition(night.items, night.info, night.signal)
    samples = np.nan_to_num(conditioned).astype(np.float32)
    found = yasa(samples[: samples.size // EPOCH_SAMPLES * EPOCH_SAMPLES]).astype(np.float64)
    return Rows(found, found.argmax(1), night.truth[: len(found)])


def compare(rows: Iterable[Rows], smoothed: bool = False, chance: bool = False) -> CalibratedAgreement:
    """Compute the agreement pooled over all epochs that both engine and scorer have scored."""
    probabilities, truth = [], []
    for one in rows:
        given = np.eye(len(STAGES))[one.smoothed] if smoothed else one.probabilities
        known = one.smoothed >= 0 if smoothed else ~np.isnan(one.probabilities[:, 0])
        probabilities.append(given[known])
        truth.append(one.truth[known])
    given, stages = (torch.from_numpy(np.concatenate(one)) for one in (probabilities, truth))
    return agreement(given, stages, chance)


def changes_per_hour(hypnograms: Sequence[Stages]) -> float:
    """Number of stage changes per hour."""
    hours = sum(stages.size for stages in hypnograms) * EPOCH_S / 3600
    return sum(int((np.diff(stages) != 0).sum()) for stages in hypnograms) / hours


def delays_s(rows: Rows) -> Iterator[float]:
    """Yield for each boundary between stable stages the seconds until the new one is first scored, or inf."""
    for at in range(STABLE, rows.truth.size - STABLE + 1):
        before, after = rows.truth[at - STABLE : at], rows.truth[at : at + STABLE]
        if before[-1] != after[0] >= 0 and len(set(before)) == len(set(after)) == 1:
            noticed = np.flatnonzero(rows.stages[at : at + PATIENCE] == after[0])
            yield float(noticed[0] * EPOCH_S) if noticed.size else float("inf")


def summarise(all_staged: Sequence[StagedNight], chance: bool = False) -> dict[str, Any]:
    """Compute every figure of the evaluation, as JSON values; `chance` as for `agreement`."""
    grids = [one.grid for one in all_staged]
    subjects = {
        one.subject: [other.grid for other in all_staged if other.subject == one.subject]
        for one in all_staged
    }
    delays = [delay for rows in grids for delay in delays_s(rows)]
    figures: dict[str, Any] = {
        "recordings": len(all_staged),
        "subjects": len(subjects),
        "pooled": compare(grids, chance=chance).as_dict(),
        "smoothed": compare(grids, smoothed=True).as_dict(),
        "kappa_sd_over_subjects": float(np.std([compare(rows).kappa for rows in subjects.values()])),
        "changes_per_hour": {
            "scorer": changes_per_hour([rows.truth for rows in grids]),
            "raw": changes_per_hour([rows.stages for rows in grids]),
            "smoothed": changes_per_hour([rows.smoothed for rows in grids]),
        },
        "boundaries": len(delays),
        "boundaries_never_noticed": int(np.isinf(delays).sum()),
        "boundary_delay_median_s": float(np.median(np.minimum(delays, PATIENCE * EPOCH_S)))
        if delays
        else None,
        "each": {one.name: compare([one.grid], chance=chance).as_dict() for one in all_staged},
    }
    peers = [one.peer for one in all_staged if one.peer is not None]
    if peers:
        figures["yasa"] = compare(peers, chance=chance).as_dict()
    return figures


def make_page(figures: dict[str, Any], model: Model) -> list[str]:
    """The figures as lines of Markdown."""
    named = {"**all**": figures["pooled"], "smoothed": figures["smoothed"]}
    named |= {key: figures[key] for key in ("yasa",) if key in figures} | figures["each"]
    return [
        f"# Evaluation: {figures['recordings']} recordings, {figures['subjects']} subjects",
        "",
        f"{describe(model)} Streamed through the engine; every committed 30 s epoch counts.",
        "",
        *format_table(
            ("", *FIGURES, *(f"F1 {stage}" for stage in STAGES), "ECE", "by chance"),
            [
                (
                    name,
                    *(row[key] for key in FIGURES.values()),
                    *(f"{row['f1'][stage]:.2f}" for stage in STAGES),
                    *("-" if name == "smoothed" else row[key] for key in ("ece", "ece_of_chance")),
                )
                for name, row in named.items()
            ],
        ),
        "",
        "By chance: the ECE that perfect probabilities would have on as many epochs.",
        "",
        "Confusion (rows: the scorer, columns: the engine):",
        "",
        *format_table(
            ("", *STAGES),
            [(stage, *row) for stage, row in zip(STAGES, figures["pooled"]["confusion"], strict=True)],
        ),
        "",
        f"{describe_spread(figures)} Boundaries between stages that last {STABLE} epochs: "
        f"{figures['boundaries']}, median delay {figures['boundary_delay_median_s']} s, "
        f"{figures['boundaries_never_noticed']} not noticed within {PATIENCE * EPOCH_S} s.",
    ]


def describe_spread(figures: dict[str, Any]) -> str:
    """How subjects differ, and how often stages change, as sentences."""
    changes = figures["changes_per_hour"]
    return (
        f"Kappa over subjects: s.d. {figures['kappa_sd_over_subjects']:.3f}. Stage changes per hour: scorer "
        f"{changes['scorer']:.1f}, raw {changes['raw']:.1f}, smoothed {changes['smoothed']:.1f}."
    )


def evaluate(asked: argparse.Namespace) -> str:
    """Stage every recording, compare, write both files, and return the page."""
    model = Model.load(asked.model, trusted=True)
    results: list[StagedNight] = []
    for path in track(asked.recordings, "staging", console=Console(stderr=True)):
        night = open_night(path, asked.channel)
        if asked.fold is None or not night.conditioned or fold_of(night.subject) == asked.fold:
            results.append(stage_night(night, model, peers=asked.peers))
    if not results:
        raise UsageError(f"fold {asked.fold}: none of the recordings is of its subjects")
    figures = summarise(results, chance=True)
    return write(asked.out, "evaluation", figures, make_page(figures, model))


def main(arguments: list[str] | None = None) -> int:
    """Evaluate, and print the page; return the exit code."""
    parser = make_model_parser("evaluate", __doc__)
    parser.add_argument(
        "--fold", type=int, choices=range(len(FOLDS)), help="of prepared nights, only this fold's subjects"
    )
    parser.add_argument("--peers", action="store_true", help="also score with YASA (extra `peers`)")
    return run(evaluate, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
