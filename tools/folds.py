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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from model.data import FOLDS, PreparedNight, fold_of, load_nights
from model.export import export
from model.settings import Settings, load_settings
from model.train import trained
from streamer.errors import SettingsError, UsageError
from streamer.messages import EPOCH_S
from streamer.network.stager import Model
from streamer.pipeline import BLOCK
from tools.command import run
from tools.evaluate import Rows, StagedNight, stage_prepared, summarise
from tools.runs import FIGURES, change_settings, format_table, make_parser, once_each, write


def stage_fold(
    settings: Settings, nights: Sequence[PreparedNight], device: torch.device
) -> list[StagedNight]:
    """Train without the fold's people and score their nights, unless that was done before.

    Raises:
        SettingsError: the folder has a fold of another run.
        RecordingError: the nights are too short, or of too few people.

    """
    kept = settings.out / "staged.npz"
    if kept.exists():
        return read_staged(kept, settings)
    run = trained(settings, nights, device)
    export(run.averaged(), run.size, settings.trained_on, settings.out / "model.pt", onnx=False)
    model = Model.load(settings.out / "model.pt", trusted=True)
    results = [
        stage_prepared(night.recording, night, model, EPOCH_S, peers=False, block=BLOCK)
        for night in track(once_each(run.held_out), "staging", console=Console(stderr=True))
    ]
    write_staged(kept, results, settings)
    return results


def write_staged(path: Path, results: Sequence[StagedNight], settings: Settings) -> None:
    """Write the scored nights, completely or not at all."""
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        settings=settings.model_dump_json(),
        names=[one.name for one in results],
        subjects=[one.subject for one in results],
        epochs=[len(one.grid.truth) for one in results],
        probabilities=np.concatenate([one.grid.probabilities for one in results]),
        smoothed=np.concatenate([one.grid.smoothed for one in results]),
        truth=np.concatenate([one.grid.truth for one in results]),
    )
    partial.replace(path)


def read_staged(path: Path, settings: Settings) -> list[StagedNight]:
    """Read what `write_staged` wrote; SettingsError if it is of another run."""
    with np.load(path, allow_pickle=False) as file:
        if Settings.model_validate_json(str(file["settings"])) != settings:
            raise SettingsError(
                f"{path.parent} has a fold of a run with other settings; give another --out, or delete it"
            )
        ends = np.cumsum(file["epochs"])[:-1]
        parts = [np.split(file[column], ends) for column in ("probabilities", "smoothed", "truth")]
        nothing = Rows(np.empty((0, 5)), np.empty(0, np.int64), np.empty(0, np.int64))
        return [
            StagedNight(str(name), str(subject), Rows(*columns), nothing, None)
            for name, subject, *columns in zip(file["names"], file["subjects"], *parts, strict=True)
        ]


def make_page(figures: dict[str, Any]) -> str:
    """The folds and their pool as Markdown."""
    folds = figures["folds"]
    lines = [
        f"# Folds: {len(folds)} of {len(FOLDS)}, {figures['pool']['subjects']} people",
        "",
        *format_table(
            ("fold", "people", *FIGURES),
            [
                (name, one["subjects"], *(one["pooled"][key] for key in FIGURES.values()))
                for name, one in [*folds.items(), ("**pooled**", figures["pool"])]
            ],
        ),
    ]
    pool = figures["pool"]
    f1 = ", ".join(f"{stage} {value:.2f}" for stage, value in pool["pooled"]["f1"].items())
    changes = pool["changes_per_hour"]
    lines += [
        "",
        f"F1 pooled: {f1}. Kappa, s.d. over folds {figures['kappa_sd_over_folds']:.3f}, over people "
        f"{pool['kappa_sd_over_subjects']:.3f}. Changes of stage an hour: scorer {changes['scorer']:.1f}, "
        f"raw {changes['raw']:.1f}, smoothed {changes['smoothed']:.1f} "
        f"(kappa {pool['smoothed']['kappa']:.3f}).",
    ]
    return "\n".join(lines) + "\n"


def cross_validate(asked: argparse.Namespace) -> dict[str, Any]:
    """Run every wanted fold that has people; return the figures."""
    settings = load_settings(asked.settings)
    nights = load_nights(settings.nights)
    there = {fold_of(night.subject) for night in nights}
    wanted = [fold for fold in asked.only or range(len(FOLDS)) if fold in there]
    if not wanted:
        raise UsageError(f"folds {asked.only}: none of the prepared nights is of their people")
    staged: dict[int, list[StagedNight]] = {}
    figures: dict[str, Any] = {}
    for fold in wanted:
        one = change_settings(settings, held_out_fold=fold, out=asked.out / str(fold), validation_nights=1)
        staged[fold] = stage_fold(one, nights, torch.device(asked.device))
        folds = {str(number): summarise(results, EPOCH_S) for number, results in staged.items()}
        figures = {
            "folds": folds,
            "pool": summarise([one for results in staged.values() for one in results], EPOCH_S),
            "kappa_sd_over_folds": float(np.std([one["pooled"]["kappa"] for one in folds.values()])),
        }
        write(asked.out, "folds", figures, make_page(figures))
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Run the folds, and print the table; return the exit code."""
    parser = make_parser("folds", __doc__)
    parser.add_argument(
        "--only", type=int, nargs="+", choices=range(len(FOLDS)), metavar="FOLD", help="run only these folds"
    )
    asked = parser.parse_args(arguments)
    return run(lambda: make_page(cross_validate(asked)))


if __name__ == "__main__":
    sys.exit(main())
