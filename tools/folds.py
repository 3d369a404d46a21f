"""Ten-fold cross-validation: trains without the people of each fold, scores them by streaming, pools all.

    python -m tools.folds model/configs/ablation.toml --out runs/folds

Nothing is chosen on the people of a fold: its network is the averaged one at the end of the schedule, and its
probabilities are not calibrated. Each recording counts once, from the first folder of nights that has it.
Writes folds.json and folds.md into --out after every fold, and continues an interrupted run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from model.data import FOLDS, PreparedNight, fold_of, load_nights
from model.export import export
from model.settings import Settings, load_settings
from model.train import trained
from streamer.errors import UsageError
from streamer.network.stager import Model
from streamer.pipeline import BLOCK
from tools.command import run
from tools.evaluate import Rows, StagedNight, describe_spread, from_prepared, stage_night, summarise
from tools.runs import (
    FIGURES,
    change_settings,
    format_table,
    make_training_parser,
    once_each,
    read_result,
    write,
    write_result,
)


def stage_fold(
    settings: Settings, nights: Sequence[PreparedNight], device: torch.device
) -> list[StagedNight]:
    """Train without the fold's people and score their nights, unless that was done before.

    Raises:
        SettingsError: the folder has a fold of another run.
        RecordingError: the nights are too short, or of too few people.

    """
    kept = read_result(settings)
    if kept is None:
        run = trained(settings, nights, device)
        export(run.averaged(), run.size, settings.trained_on, settings.out / "model.pt", onnx=False)
        model = Model.load(settings.out / "model.pt", trusted=True)
        results = [
            stage_night(from_prepared(night.recording, night), model, block=BLOCK)
            for night in track(once_each(run.held_out), "staging", console=Console(stderr=True))
        ]
        kept = write_result(settings, {"nights": [pack(one) for one in results]})
    return [unpack(one) for one in kept["nights"]]


def pack(staged: StagedNight) -> dict[str, Any]:
    """A scored night as JSON values."""
    grid = {name: column.tolist() for name, column in asdict(staged.grid).items()}
    return {"name": staged.name, "subject": staged.subject, "grid": grid}


def unpack(packed: dict[str, Any]) -> StagedNight:
    """The night that `pack` was given."""
    grid = Rows(**{name: np.array(column) for name, column in packed["grid"].items()})
    return StagedNight(packed["name"], packed["subject"], grid)


def make_page(figures: dict[str, Any]) -> list[str]:
    """The folds and their pool as lines of Markdown."""
    folds, pool = figures["folds"], figures["pool"]
    f1 = ", ".join(f"{stage} {value:.2f}" for stage, value in pool["pooled"]["f1"].items())
    return [
        f"# Folds: {len(folds)} of {len(FOLDS)}, {pool['subjects']} people",
        "",
        *format_table(
            ("fold", "people", *FIGURES),
            [
                (name, one["subjects"], *(one["pooled"][key] for key in FIGURES.values()))
                for name, one in [*folds.items(), ("**pooled**", pool)]
            ],
        ),
        "",
        f"F1 pooled: {f1}. Kappa over folds: s.d. {figures['kappa_sd_over_folds']:.3f}. "
        f"{describe_spread(pool)} Kappa of the smoothed stages: {pool['smoothed']['kappa']:.3f}.",
    ]


def cross_validate(asked: argparse.Namespace) -> str:
    """Run every wanted fold that has people, write both files after each, and return the page."""
    settings = load_settings(asked.settings)
    nights = load_nights(settings.nights)
    there = {fold_of(night.subject) for night in nights}
    wanted = [fold for fold in asked.only or range(len(FOLDS)) if fold in there]
    if not wanted:
        raise UsageError(f"folds {asked.only}: none of the prepared nights is of their people")
    staged: dict[int, list[StagedNight]] = {}
    page = ""
    for fold in wanted:
        one = change_settings(settings, held_out_fold=fold, out=asked.out / str(fold), validation_nights=1)
        staged[fold] = stage_fold(one, nights, torch.device(asked.device))
        folds = {str(number): summarise(results) for number, results in staged.items()}
        figures = {
            "folds": folds,
            "pool": summarise([one for results in staged.values() for one in results]),
            "kappa_sd_over_folds": float(np.std([one["pooled"]["kappa"] for one in folds.values()])),
        }
        page = write(asked.out, "folds", figures, make_page(figures))
    return page


def main(arguments: list[str] | None = None) -> int:
    """Run the folds, and print the table; return the exit code."""
    parser = make_training_parser("folds", __doc__)
    parser.add_argument(
        "--only", type=int, nargs="+", choices=range(len(FOLDS)), metavar="FOLD", help="run only these folds"
    )
    return run(cross_validate, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
