"""`sleepstream replay`: stages a recording as if it were live, and compares with its scorer if it has one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from streamer import settings
from streamer.commands.driving import allow_unread, conclude, drive, parse_speed
from streamer.errors import ScoringError, UsageError
from streamer.host import private
from streamer.night.hypnogram import Scoring, refuse_empty
from streamer.night.scoring import read_annotated
from streamer.night.scoring.comparison import compare, format_comparison
from streamer.settings import Settings
from streamer.sinks.terminal import show_agreement


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream replay`."""
    parser.add_argument("file", type=Path, help="EDF, EDF+, BDF, XDF or CSV")
    parser.add_argument("--channel", help="a label, or a difference A-B (default: chosen by the labels)")
    parser.add_argument(
        "--unit",
        choices=("V", "mV", "uV", "nV"),
        help="unit of the samples, if the file's is wrong or missing",
    )
    parser.add_argument("--rate", type=float, metavar="HZ", help="sampling rate of a CSV file without times")
    parser.add_argument("--hop", type=int, metavar="S", help="seconds between scores, 1 to 30 (default: 30)")
    parser.add_argument("--speed", type=parse_speed, default="max", help="times real time, or max (default)")
    parser.add_argument(
        "--config", type=Path, metavar="C.toml", help="settings to use; a [[stream]] is not needed"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the results (default: FILE.sleepstream)"
    )


def run(asked: argparse.Namespace) -> int:
    """Stage the recording; return the exit code."""
    console = Console(file=sys.stdout)
    out = asked.out or asked.file.with_suffix(".sleepstream")
    ready = _replay_settings(asked, out)
    truth = _own_stages(asked.file, console)  # first, so that an unreadable file leaves no output behind
    if (out / "session.sqlite").exists():
        raise UsageError(f"{out} already has a session, which is not overwritten; give another --out")
    (outcome,) = drive(ready, console, session_path=out / "session.sqlite")
    conclude(outcome, console)
    refuse_empty(outcome.labels, asked.file)
    if truth.stages or truth.unknown:
        compared = compare(truth, outcome.labels)
        text = format_comparison(compared, outcome.labels, outcome.smoothed)
        private.write(out / "agreement.json", text)
        with allow_unread():
            show_agreement(console, compared.found, "the file's own stages", compared.said())
    with allow_unread():
        console.print(f"\nwritten to {out}", highlight=False, soft_wrap=True)
    return 0


def _own_stages(file: Path, console: Console) -> Scoring:
    """Read the stages in a recording's annotations; none, with a message, if they cannot be compared."""
    try:
        return read_annotated(file)
    except ScoringError as error:
        console.print(f"not compared: {error}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        return Scoring()


def _replay_settings(asked: argparse.Namespace, out: Path) -> Settings:
    """Make settings from `--config`, with the recording in place of its streams, and from the options."""
    data: dict[str, object] = {"jsonl": {"path": out / "epochs.jsonl"}}
    stream: dict[str, object] = {"name": "replay"}
    told: dict[str, object] = {}
    if asked.config is not None:
        base = settings.load(asked.config, {"name": "replay", "source": {"kind": "simulated"}})
        data |= base.model_dump(exclude_unset=True, exclude={"stream", "jsonl"})
        stream["hop_s"] = base.stream[0].hop_s
        told = base.stream[0].signal.model_dump()
    if asked.hop is not None:
        stream["hop_s"] = asked.hop
    told |= {key: value for key in ("channel", "unit") if (value := getattr(asked, key)) is not None}
    stream["signal"] = told
    stream["source"] = {"kind": "replay", "path": asked.file, "speed": asked.speed, "rate_hz": asked.rate}
    return settings.validate({**data, "stream": [stream]}, "replay")
