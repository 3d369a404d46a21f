"""What the commands that train several runs from one TOML have in common: arguments, runs, people, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from model.data import Night
from model.settings import Settings
from streamer.errors import SleepstreamError

T = TypeVar("T")


def parser_of(tool: str, what: str) -> argparse.ArgumentParser:
    """The arguments that all of them take; `what` is the command's docstring, its first line shown."""
    parser = argparse.ArgumentParser(prog=f"python -m tools.{tool}", description=what.split("\n", 1)[0])
    parser.add_argument("settings", type=Path, help="TOML of the run, see model/configs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the tables")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def outcome(
    parser: argparse.ArgumentParser, arguments: list[str] | None, work: Callable[[argparse.Namespace], T]
) -> T:
    """What the work made of the arguments; an error that a user can cause ends the program in one line."""
    asked = parser.parse_args(arguments)
    try:
        return work(asked)
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")


def changed(settings: Settings, **what: object) -> Settings:
    """The same run with something else in it, validated again."""
    return Settings.model_validate(settings.model_dump() | what)


def once_each(nights: Sequence[Night]) -> list[Night]:
    """The first night of every recording: several draws of one are the same sleep."""
    first: dict[str, Night] = {}
    for night in nights:
        first.setdefault(night.recording, night)
    return list(first.values())


def write(out: Path, name: str, figures: dict[str, Any], page: str) -> None:
    """NAME.json and NAME.md, as far as the runs have come."""
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    (out / f"{name}.md").write_text(page, "utf-8")
