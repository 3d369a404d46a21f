"""The commands for the day after: `report` and `export`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streamer.errors import UsageError
from streamer.exports import FORMATS, export
from streamer.report import Written, sessions_of, write_report, write_trend
from streamer.terminal import show_agreement, watched


def add_report(parser: argparse.ArgumentParser) -> None:
    """Say what `report` takes."""
    parser.set_defaults(command=_report)
    parser.add_argument("session", type=Path, nargs="+", help="session files, or folders of them")
    parser.add_argument(
        "--compare", type=Path, metavar="HYPNOGRAM", help="another scorer's: EDF+, CSV or text"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: beside the (first) session")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Say what `export` takes."""
    parser.set_defaults(command=_export)
    parser.add_argument("session", type=Path, help="a session file, or a folder with one")
    listed = "; ".join(f"{name}: {what}" for name, (_, _, what) in FORMATS.items())
    parser.add_argument("--to", required=True, choices=tuple(FORMATS), help=listed)
    parser.add_argument("--out", type=Path, metavar="PATH", help="default: beside the session, with its name")


def report(sessions: Sequence[Path], folder: Path, against: Path | None, console: Console) -> None:
    """Write the report of each session, of several also their trend, and say where."""
    written: list[Written] = []
    for session in sessions:
        with watched(console, session.stem) as progress:
            written.append(write_report(session, folder, against, progress))
        compared = written[-1].compared
        if compared is not None and against is not None:
            show_agreement(console, compared.found, against.name, compared.said())
        for line in (*written[-1].night.missing, f"report: {written[-1].html}"):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if len(written) > 1:
        trend = write_trend(written, folder)
        console.print(f"trend: {trend}", highlight=False, markup=False, soft_wrap=True)


def _report(asked: argparse.Namespace) -> int:
    sessions = sessions_of(asked.session)
    if asked.compare is not None and len(sessions) > 1:
        raise UsageError(f"--compare is about one night, and these are {len(sessions)}; give one session")
    report(sessions, asked.out or sessions[0].parent, asked.compare, Console())
    return 0


def _export(asked: argparse.Namespace) -> int:
    console = Console()
    sessions = sessions_of([asked.session])
    if len(sessions) > 1:
        raise UsageError(f"{asked.session} holds {len(sessions)} sessions; name one of them")
    with watched(console, asked.to) as progress:
        path, remarks = export(sessions[0], asked.to, asked.out, progress)
    for line in (*remarks, f"written to {path}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0
