"""What each part of the network and of its training is worth: one run, and variants of it, side by side.

    python -m tools.ablate model/configs/ablation.toml --out runs/ablation --seeds 2

The variants of the first table are trained from nothing, with as many steps as the reference: the steps of a
phase that is left out go to the last one. Those of the second, which differ in what they see around an epoch,
begin with the reference's backbones and keep them, so that only the sequence stage differs. All are measured
on the people of the held-out fold, each recording once, by the averaged network at the end: nothing is chosen
on these people. The parallel pass over a whole night is used, because a bidirectional network cannot be
streamed; for the others it equals streaming, which the export verifies.

Writes ablation.json and ablation.md into --out after every run, and goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from model.augment import NONE
from model.checkpoint import Checkpoint, save_checkpoint
from model.data import Night, load_nights
from model.mc2sleepnet import parameter_count
from model.settings import Phase, Settings, load_settings
from model.train import evaluate, trained
from streamer.errors import SettingsError, SleepstreamError, UsageError

REFERENCE = "reference"
NETWORK = "network.pt"  # the averaged network at the end of a run
CONTEXTS = (1, 5, 10, 20, 60)  # epochs, beside the reference's own
SCHEDULE = (("contrast", False), ("cross_mask", False), ("fine_tune", True), ("fine_tune", False))
Result = dict[str, Any]


def changed(settings: Settings, **what: object) -> Settings:
    """The same run with something else in it, validated again."""
    return Settings.model_validate(settings.model_dump() | what)


def only(settings: Settings, *phases: Phase) -> tuple[Phase, ...]:
    """These phases of a run, the steps of all others given to the last of them."""
    spare = sum(phase.steps for phase in settings.phases) - sum(phase.steps for phase in phases)
    return (*phases[:-1], phases[-1].model_copy(update={"steps": phases[-1].steps + spare}))


def from_nothing(reference: Settings) -> dict[str, Settings]:
    """The first table: the reference, and what differs in phases, views or size.

    Without contrast there is nothing yet that would be worth freezing: frozen fine-tuning goes with it.
    """
    _, cross_mask, _, fine_tune = phases = reference.phases
    untaught = changed(reference, phases=only(reference, fine_tune))
    return {
        REFERENCE: reference,
        "without contrast": changed(reference, phases=only(reference, cross_mask, fine_tune)),
        "without cross-masking": changed(reference, phases=only(reference, phases[0], *phases[2:])),
        "without either": untaught,
        "without either, raw signal only": changed(untaught, views="raw"),
        "without either, spectrogram only": changed(untaught, views="spectrum"),
        "size base": changed(reference, size="base"),
    }


def on_backbones(reference: Settings) -> dict[str, Settings]:
    """The second table: what differs in the epochs that are seen around each one."""
    _, cross_mask, frozen, _ = reference.phases
    own = reference.shape().context
    same = changed(reference, phases=only(reference, cross_mask, frozen), backbones=reference.out / NETWORK)
    contexts = {f"context {epochs}": changed(same, context=epochs) for epochs in CONTEXTS if epochs != own}
    return {
        f"context {own}, as the reference": same,
        **contexts,
        f"bidirectional, {own} each way": changed(same, causal=False),
    }


def check(reference: Settings) -> None:
    """Refuse a run of which the variants would make no sense; SettingsError in one line."""
    found = tuple((phase.objective, phase.frozen) for phase in reference.phases)
    if found != SCHEDULE:
        asked = ", ".join(objective + " frozen" * frozen for objective, frozen in SCHEDULE)
        raise SettingsError(f"ablation: the reference needs the phases {asked}, in this order")
    if reference.start or reference.backbones or reference.views != "both" or not reference.causal:
        raise SettingsError(
            "ablation: the reference must be trained from nothing, causal and with both views; take start, "
            "backbones, views and causal out of the settings"
        )


def folder_of(name: str, seed: int) -> str:
    """Name of the folder of one run."""
    return f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def plan(settings: Settings, out: Path, seed: int) -> list[tuple[int, str, Settings]]:
    """Every run of one seed: (table, name, settings), the reference first."""
    reference = changed(settings, seed=seed, out=out / folder_of(REFERENCE, seed), validation_nights=1)
    tables = (from_nothing(reference), on_backbones(reference))
    return [
        (number, name, changed(one, out=out / folder_of(name, seed)))
        for number, table in enumerate(tables)
        for name, one in table.items()
    ]


def once_each(nights: Sequence[Night]) -> list[Night]:
    """The first night of every recording: several draws of one are the same sleep."""
    first: dict[str, Night] = {}
    for night in nights:
        first.setdefault(night.recording, night)
    return list(first.values())


def measure(
    table: int, name: str, settings: Settings, nights: Sequence[Night], device: torch.device
) -> Result:
    """Train a variant and measure it, unless that was done before."""
    kept = settings.out / "result.json"
    if kept.exists():
        before: Result = json.loads(kept.read_text("utf-8"))
        if Settings.model_validate(before["settings"]) == settings:
            return before
    begun = time.monotonic()
    run = trained(settings, nights, device)
    network = run.averaged()
    save_checkpoint(settings.out / NETWORK, Checkpoint(run.size, network, settings.trained_on, {}))
    found = evaluate(network, once_each(run.held_out), NONE)[0]
    result = {
        "table": table,
        "name": name,
        "seed": settings.seed,
        "parameters": parameter_count(network),
        "steps": sum(phase.steps for phase in settings.phases),
        "seconds": round(time.monotonic() - begun),
        "agreement": found.as_dict(),
        "settings": settings.model_dump(mode="json"),
    }
    kept.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return result


def rows(results: Sequence[Result], table: int) -> Iterator[dict[str, Any]]:
    """One row per variant: means over its seeds, and beside the table's first variant on the same seeds."""
    of_table = [result for result in results if result["table"] == table]
    names = list(dict.fromkeys(result["name"] for result in of_table))
    kappa = {(one["name"], one["seed"]): one["agreement"]["kappa"] for one in of_table}
    for name in names:
        runs = [result for result in of_table if result["name"] == name]
        own = [kappa[name, run["seed"]] for run in runs]
        pairs = [
            kappa[name, run["seed"]] - kappa[names[0], run["seed"]]
            for run in runs
            if (names[0], run["seed"]) in kappa
        ]
        yield {
            "name": name,
            "parameters": runs[0]["parameters"],
            "seeds": [run["seed"] for run in runs],
            **{key: mean(run["agreement"][key] for run in runs) for key in ("accuracy", "kappa", "macro_f1")},
            "f1": {
                stage: mean(run["agreement"]["f1"][stage] for run in runs)
                for stage in runs[0]["agreement"]["f1"]
            },
            "kappa_range": [min(own), max(own)],
            "beside_first": mean(pairs) if pairs else None,
        }


def page(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    epochs = results[0]["agreement"]["epochs"]
    lines = [f"# Ablations: {epochs} epochs of held-out people, {results[0]['steps']} steps from nothing"]
    for table, title in enumerate(("Trained from nothing", "On the reference's backbones, frozen")):
        lines += [
            "",
            f"{title}:",
            "",
            "| | parameters | seeds | accuracy | kappa | macro-F1 | kappa beside first |",
        ]
        lines += ["|" + "---|" * 7]
        for row in rows(results, table):
            low, high = row["kappa_range"]
            spread = f" ({low:.3f}-{high:.3f})" if len(row["seeds"]) > 1 else ""
            beside = "" if row["beside_first"] is None else f"{row['beside_first']:+.3f}"
            lines.append(
                f"| {row['name']} | {row['parameters']} | {len(row['seeds'])} | {row['accuracy']:.3f} | "
                f"{row['kappa']:.3f}{spread} | {row['macro_f1']:.3f} | {beside} |"
            )
    return "\n".join(lines) + "\n"


def ablate(asked: argparse.Namespace) -> list[Result]:
    """Run what is not there yet, and write both files after each."""
    settings = load_settings(asked.settings)
    check(settings)
    runs = [one for seed in range(asked.seeds) for one in plan(settings, asked.out, settings.seed + seed)]
    names = dict.fromkeys(name for _, name, _ in runs)
    unknown = set(asked.only or ()) - set(names)
    if unknown:
        raise UsageError(f"variant {sorted(unknown)[0]!r}: unknown; there are {', '.join(map(repr, names))}")
    nights = load_nights(settings.nights)
    results: list[Result] = []
    for table, name, one in runs:
        done = (one.out / "result.json").exists()
        if done or (name in asked.only if asked.only else name not in (asked.leave_out or ())):
            results.append(measure(table, name, one, nights, torch.device(asked.device)))
            write(asked.out, results)
    return results


def write(out: Path, results: Sequence[Result]) -> None:
    """Both files, as far as the runs have come."""
    tables = [list(rows(results, table)) for table in (0, 1)]
    (out / "ablation.json").write_text(
        json.dumps({"tables": tables, "runs": results}, indent=1) + "\n", "utf-8"
    )
    (out / "ablation.md").write_text(page(results), "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Measure the variants of a run, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tools.ablate", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "settings", type=Path, help="TOML of the reference run, see model/configs/ablation.toml"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the tables")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each variant")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants")
    parser.add_argument("--leave-out", nargs="+", metavar="NAME", help="not these variants")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args(arguments)
    try:
        results = ablate(asked)
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")
    print(page(results))


if __name__ == "__main__":
    main()
