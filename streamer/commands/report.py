"""`sleepstream report`: writes the report of one night or several, with statistics and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streamer.commands.nights import choose_folder, find_readable, say
from streamer.errors import UsageError
from streamer.report import WrittenReport, find_sessions, write_report, write_trend
from streamer.sinks.terminal import show_agreement, watch_progress


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream report`."""
    parser.add_argument("session", type=Path, nargs="+", help="session files, or folders of them")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="HYPNOGRAM",
        help="compare with a scorer's hypnogram: EDF+, CSV or text",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: the given folder, or beside the (first) session"
    )


def run(asked: argparse.Namespace) -> int:
    """Write what was asked for; return the exit code."""
    sessions = find_sessions(asked.session)
    if asked.compare is not None and len(sessions) > 1:
        raise UsageError(f"--compare needs exactly one session, but {len(sessions)} were given; name one")
    return report(sessions, asked.out or choose_folder(asked.session, sessions), asked.compare, Console())


def report(paths: Sequence[Path], folder: Path, against: Path | None, console: Console) -> int:
    """Write the report of each session, and a trend of several; print their paths.

    Returns:
        The exit code; a session that cannot be read does not stop the others.

    """
    written: list[WrittenReport] = []
    sessions, code = find_readable(paths)
    for session in sessions:
        with watch_progress(console, session.name) as progress:
            one = write_report(session, folder, against, progress)
        written.append(one)
        if one.compared is not None and against is not None:
            show_agreement(console, one.compared.found, against.name, one.compared.said())
        for line in one.night.missing:
            say(console, line)
        say(console, f"report: {one.html}" + ("" if one.drawn else " (nothing has changed)"))
    if len(written) > 1:
        trend, drawn = write_trend(written, folder)
        say(console, f"trend: {trend}" + ("" if drawn else " (nothing has changed)"))
    return code
