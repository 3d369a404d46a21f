"""Shared by the commands that measure networks: arguments, results that are kept, tables, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from model.data import PreparedNight
from model.settings import Settings
from streamer.errors import SettingsError
from streamer.network.stager import Model
from tools.command import make_parser

# Columns of a table, and their keys in an agreement.
FIGURES: Final = {"epochs": "epochs", "accuracy": "accuracy", "kappa": "kappa", "macro-F1": "macro_f1"}
RESULT = "result.json"  # in the folder of a run that is done
Result = dict[str, Any]


def make_training_parser(tool: str, what: str) -> argparse.ArgumentParser:
    """Make a parser with the arguments of commands that train; `what` is the command's docstring."""
    parser = make_parser(tool, what)
    parser.add_argument("settings", type=Path, help="TOML of the run, see model/configs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the tables")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of torch")
    return parser


def make_model_parser(tool: str, what: str) -> argparse.ArgumentParser:
    """Make a parser with the arguments of commands that stage recordings; `what` as before."""
    parser = make_parser(tool, what)
    parser.add_argument("recordings", nargs="+", type=Path, help="annotated EDF files or prepared nights")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--model", type=Path, help="an exported model (default: the packaged one)")
    parser.add_argument("--channel", help="channel of EDF files (default: chosen by the labels)")
    return parser


def change_settings(settings: Settings, **what: object) -> Settings:
    """Change settings of a run, and validate them again."""
    return Settings.model_validate(settings.model_dump() | what)


def once_each(nights: Sequence[PreparedNight]) -> list[PreparedNight]:
    """Keep the first night of every recording, because several draws of one are the same sleep."""
    first: dict[str, PreparedNight] = {}
    for night in nights:
        first.setdefault(night.recording, night)
    return list(first.values())


def read_result(settings: Settings) -> Result | None:
    """Read the result of a run that was done before; None if there is none.

    Raises:
        SettingsError: the folder has a run with other settings.

    """
    path = settings.out / RESULT
    if not path.exists():
        return None
    result: Result = json.loads(path.read_text("utf-8"))
    if Settings.model_validate(result["settings"]) != settings:
        raise SettingsError(f"{path.parent} has a run with other settings; give another --out, or delete it")
    return result


def write_result(settings: Settings, result: Result) -> Result:
    """Write the result of a run for `read_result`, completely or not at all; return it."""
    result |= {"settings": settings.model_dump(mode="json")}
    partial = settings.out / f"{RESULT}.partial"
    partial.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    partial.replace(settings.out / RESULT)
    return result


def describe(model: Model) -> str:
    """The network of a table, as a sentence."""
    contract = model.contract
    return (
        f"Model: {contract.size}, {contract.parameters} parameters, weights {contract.weights_sha256[:12]}."
    )


def format_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Make the lines of a Markdown table; floats get three decimals."""
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows),
    ]


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write(out: Path, name: str, figures: dict[str, Any], page: Sequence[str]) -> str:
    """Write NAME.json and, of these lines, NAME.md; return the page."""
    text = "\n".join(page) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    (out / f"{name}.md").write_text(text, "utf-8")
    return text
