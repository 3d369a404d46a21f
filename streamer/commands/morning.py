"""The commands for the day after: `report` and `export`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streamer.errors import SleepstreamError, UsageError
from streamer.exports import FORMATS, export
from streamer.printable import printable
from streamer.report import Named, Written, distinct, named, sessions_of, write_report, write_trend
from streamer.terminal import show_agreement, watched


def add_report(parser: argparse.ArgumentParser) -> None:
    """Say what `report` takes."""
    parser.set_defaults(command=_report)
    parser.add_argument("session", type=Path, nargs="+", help="session files, or folders of them")
    parser.add_argument(
        "--compare", type=Path, metavar="HYPNOGRAM", help="another scorer's: EDF+, CSV or text"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: the folder given, or beside the (first) session"
    )


def add_export(parser: argparse.ArgumentParser) -> None:
    """Say what `export` takes."""
    parser.set_defaults(command=_export)
    parser.add_argument("session", type=Path, nargs="+", help="session files, or folders of them")
    listed = "; ".join(f"{name}: {what}" for name, (_, _, what) in FORMATS.items())
    parser.add_argument("--to", required=True, choices=tuple(FORMATS), help=listed)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="default: beside the session, with its name; of several a folder, or the BIDS dataset",
    )


def report(paths: Sequence[Path], folder: Path, against: Path | None, console: Console) -> int:
    """Write the report of each session, of several also their trend, and say where.

    Returns:
        The exit code: a session that cannot be read does not stop the others.

    """
    written: list[Written] = []
    sessions, code = _readable(paths)
    for session in sessions:
        with watched(console, session.name) as progress:
            one = write_report(session, folder, against, progress)
        written.append(one)
        if one.compared is not None and against is not None:
            show_agreement(console, one.compared.found, against.name, one.compared.said())
        for line in one.night.missing:
            _say(console, line)
        _say(console, f"report: {one.html}" + ("" if one.drawn else " (nothing has changed)"))
    if len(written) > 1:
        trend, drawn = write_trend(written, folder)
        _say(console, f"trend: {trend}" + ("" if drawn else " (nothing has changed)"))
    return code


def _report(asked: argparse.Namespace) -> int:
    sessions = sessions_of(asked.session)
    if asked.compare is not None and len(sessions) > 1:
        raise UsageError(f"--compare is about one night, and these are {len(sessions)}; give one session")
    return report(sessions, asked.out or _beside(asked.session, sessions), asked.compare, Console())


def _export(asked: argparse.Namespace) -> int:
    console = Console()
    paths = sessions_of(asked.session)
    sessions, code = _readable(paths)
    out = asked.out
    if out is None and asked.to == "bids" and len(paths) > 1:
        out = _beside(asked.session, paths) / "bids"
    for session in sessions:
        target = out
        if out is not None and len(paths) > 1 and asked.to != "bids":
            target = out / f"{session.name}{FORMATS[asked.to][0]}"
        try:
            with watched(console, f"{asked.to}: {session.name}") as progress:
                path, remarks = export(session.path, asked.to, target, progress)
        except SleepstreamError as error:
            code = _failed(error, len(paths))
            continue
        for line in (*remarks, f"{'dataset: ' if asked.to == 'bids' else 'written to '}{path}"):
            _say(console, line)
    return code


def _readable(paths: Sequence[Path]) -> tuple[list[Named], int]:
    """The sessions that can be read, each with a name of its own; of the others is said why not."""
    found, code = [], 0
    for path in paths:
        try:
            found.append(named(path))
        except SleepstreamError as error:
            code = _failed(error, len(paths))
    return distinct(found), code


def _failed(error: SleepstreamError, sessions: int) -> int:
    """One of several does not stop the others; a single one is the command's own error."""
    if sessions == 1:
        raise error
    print(f"sleepstream: {printable(str(error))}", file=sys.stderr)
    return error.exit_code


def _beside(asked: Sequence[Path], sessions: Sequence[Path]) -> Path:
    """The folder that was given, or the one of the (first) session."""
    return asked[0] if asked[0].is_dir() else sessions[0].parent


def _say(console: Console, line: str) -> None:
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
