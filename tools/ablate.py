"""Measures what each part of the network and of its training contributes: a run and variants of it.

    python -m tools.ablate model/configs/ablation.toml --out runs/ablation --seeds 2

Every variant has as many steps as the reference: those of a phase that is left out go to the longest other
one. If the reference begins with given `backbones` and keeps them frozen, only the sequence stage is
compared: nights are embedded once, and a run takes seconds. All are measured on the people of the held-out
fold, each recording once, with the averaged network at the end; nothing is chosen on these people. The
parallel pass over a whole night is used, because a bidirectional network cannot be streamed; for the others
it equals streaming, which the export verifies.

Writes ablation.json and ablation.md into --out after every run, and continues an interrupted one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from model.augment import NONE
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.data import PreparedNight, load_nights, split
from model.encoded import EncodedNight, encode_night
from model.mc2sleepnet import parameter_count
from model.settings import Phase, Settings, load_settings
from model.train import evaluate, trained
from streamer.errors import SettingsError, UsageError
from tools.command import run
from tools.runs import (
    Result,
    change_settings,
    format_table,
    make_training_parser,
    once_each,
    read_result,
    write,
    write_result,
)

REFERENCE = "reference"
NETWORK = "network.pt"  # file of a run's averaged network
CONTEXTS = (1, 5, 10, 20, 60)  # lengths of context that are tried, in epochs
BASE_RATE = 0.25  # factor on the learning rates for size `base`, which does not learn with those of `small`


def drop_objectives(settings: Settings, *objectives: str) -> tuple[Phase, ...]:
    """The phases of a run without these objectives; their steps go to the longest remaining phase."""
    kept = [phase for phase in settings.phases if phase.objective not in objectives]
    spare = sum(phase.steps for phase in settings.phases) - sum(phase.steps for phase in kept)
    longest = max(kept, key=lambda phase: phase.steps)
    return tuple(
        phase.model_copy(update={"steps": phase.steps + spare}) if phase is longest else phase
        for phase in kept
    )


def slow_down(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases of a run with the learning rates of the larger network."""
    return tuple(
        phase.model_copy(update={"learning_rate": BASE_RATE * phase.learning_rate}) for phase in phases
    )


def make_variants(reference: Settings) -> dict[str, Settings]:
    """Make the settings of every row of the table: the reference, and runs with one difference each.

    A network of one view cannot be trained by contrast or cross-masking: compare it with "fine-tuning only".
    """
    phases = {phase.objective for phase in reference.phases}
    untaught = change_settings(reference, phases=drop_objectives(reference, "contrast", "cross_mask"))
    own = reference.shape().context
    made = {REFERENCE: reference}
    if {"contrast", "cross_mask"} <= phases:
        made["without contrast"] = change_settings(reference, phases=drop_objectives(reference, "contrast"))
        made["without cross-masking"] = change_settings(
            reference, phases=drop_objectives(reference, "cross_mask")
        )
    made["fine-tuning only"] = untaught
    made["fine-tuning only, raw signal only"] = change_settings(untaught, views="raw")
    made["fine-tuning only, spectrogram only"] = change_settings(untaught, views="spectrum")
    for epochs in CONTEXTS:
        if epochs != own:
            made[f"context {epochs}"] = change_settings(reference, context=epochs)
    made[f"bidirectional, {own} each way"] = change_settings(reference, causal=False)
    if reference.backbones is None:
        made["size base"] = change_settings(reference, size="base", phases=slow_down(reference.phases))
    return {name: one for name, one in made.items() if name == REFERENCE or one != reference}


def check(reference: Settings) -> None:
    """Raise a SettingsError if the variants of a run would make no sense."""
    shape = reference.shape()
    if reference.start or shape.views != "both" or not shape.causal:
        raise SettingsError(
            "ablation: variants of other shapes must be able to start like the reference, which is causal "
            "with both views; take start, views and causal out of the settings (backbones may stay)"
        )
    if all(phase.objective != "fine_tune" for phase in reference.phases):
        raise SettingsError("ablation: the reference has no phase fine_tune, so it learns no stages")


def folder_of(name: str, seed: int) -> str:
    """Name of the folder of one run."""
    return f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def plan(settings: Settings, out: Path, seed: int) -> dict[str, Settings]:
    """The settings of every run of one seed, by name, the reference first."""
    reference = change_settings(settings, seed=seed, validation_nights=1)
    return {
        name: change_settings(one, out=out / folder_of(name, seed))
        for name, one in make_variants(reference).items()
    }


def embed_nights(settings: Settings, nights: Sequence[PreparedNight]) -> list[EncodedNight] | None:
    """Embed every training night once, if all variants keep their initial backbones; otherwise None."""
    taught = any(
        phase.objective == "contrast" or (phase.objective == "fine_tune" and not phase.frozen)
        for phase in settings.phases
    )
    if settings.backbones is None or taught:
        return None
    network = load_checkpoint(settings.backbones).network.eval()
    learn = split(nights, settings.held_out_fold)[0]
    return [
        encode_night(network, night, settings.soft_share, settings.augmentation, seed)
        for seed, night in enumerate(track(learn, "embedding", console=Console(stderr=True)))
    ]


def measure(
    name: str,
    settings: Settings,
    nights: Sequence[PreparedNight],
    device: torch.device,
    embedded: Sequence[EncodedNight] | None,
) -> Result:
    """Train a variant, measure it, and keep the result."""
    begun = time.monotonic()
    run = trained(settings, nights, device, embedded)
    network = run.averaged()
    save_checkpoint(settings.out / NETWORK, Checkpoint(run.size, network, settings.trained_on, {}))
    found = evaluate(network, once_each(run.held_out), NONE)[0]
    result: Result = {
        "name": name,
        "seed": settings.seed,
        "parameters": parameter_count(network),
        "steps": sum(phase.steps for phase in settings.phases),
        "seconds": round(time.monotonic() - begun),
        "agreement": found.as_dict(),
    }
    return write_result(settings, result)


def make_rows(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """One row per variant: means over its seeds, and its kappa minus the reference's of the same seeds."""
    kappa = {(one["name"], one["seed"]): one["agreement"]["kappa"] for one in results}
    for name in dict.fromkeys(result["name"] for result in results):
        runs = [result for result in results if result["name"] == name]
        found = [run["agreement"] for run in runs]
        own = [one["kappa"] for one in found]
        pairs = [
            kappa[name, run["seed"]] - kappa[REFERENCE, run["seed"]]
            for run in runs
            if (REFERENCE, run["seed"]) in kappa
        ]
        yield {
            "name": name,
            "parameters": runs[0]["parameters"],
            "seeds": [run["seed"] for run in runs],
            **{key: mean(one[key] for one in found) for key in ("accuracy", "kappa", "macro_f1")},
            "f1": {stage: mean(one["f1"][stage] for one in found) for stage in found[0]["f1"]},
            "kappa_range": [min(own), max(own)],
            "beside_reference": mean(pairs) if pairs else None,
        }


def make_page(results: Sequence[Result]) -> list[str]:
    """The results as lines of Markdown."""
    first = results[0]
    return [
        f"# Ablations: {first['agreement']['epochs']} epochs of held-out people, {first['steps']} steps each",
        "",
        *format_table(
            ("", "parameters", "seeds", "accuracy", "kappa", "macro-F1", "kappa beside the reference"),
            map(_cells, make_rows(results)),
        ),
    ]


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    low, high = row["kappa_range"]
    spread = f" ({low:.3f}-{high:.3f})" if len(row["seeds"]) > 1 else ""
    beside = "" if row["beside_reference"] is None else f"{row['beside_reference']:+.3f}"
    kappa = f"{row['kappa']:.3f}{spread}"
    return row["name"], row["parameters"], len(row["seeds"]), row["accuracy"], kappa, row["macro_f1"], beside


def ablate(asked: argparse.Namespace) -> str:
    """Run what was not run yet, write both files after each run, and return the page."""
    settings = load_settings(asked.settings)
    check(settings)
    runs = [
        one for seed in range(asked.seeds) for one in plan(settings, asked.out, settings.seed + seed).items()
    ]
    names = list(dict(runs))
    for name in asked.only or ():
        if name not in names:
            raise UsageError(f"variant {name!r}: unknown; there are {', '.join(map(repr, names))}")
    results = {one.out: result for _, one in runs if (result := read_result(one))}
    due = [(name, one) for name, one in runs if name in (asked.only or names) and one.out not in results]
    nights = load_nights(settings.nights) if due else []
    embedded = embed_nights(settings, nights) if due else None
    for name, one in due:
        results[one.out] = measure(name, one, nights, torch.device(asked.device), embedded)
        write_tables(asked.out, [results[run.out] for _, run in runs if run.out in results])
    return write_tables(asked.out, [results[run.out] for _, run in runs if run.out in results])


def write_tables(out: Path, done: Sequence[Result]) -> str:
    """Write the results so far, in the order of the table; return the page."""
    return write(out, "ablation", {"rows": list(make_rows(done)), "runs": done}, make_page(done))


def main(arguments: list[str] | None = None) -> int:
    """Measure the variants of a run, and print the table; return the exit code."""
    parser = make_training_parser("ablate", __doc__)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each variant")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these variants")
    return run(ablate, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
