"""`sleepstream export`: exports sessions to the formats of other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from streamer.commands.nights import choose_folder, find_readable, report_failure, say
from streamer.errors import SleepstreamError
from streamer.exports import FORMATS, export
from streamer.night.names import find_sessions
from streamer.sinks.terminal import watch_progress


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream export`."""
    parser.add_argument("session", type=Path, nargs="+", help="session files, or folders of them")
    listed = "; ".join(f"{name}: {what}" for name, (_, _, what) in FORMATS.items())
    parser.add_argument("--to", required=True, choices=tuple(FORMATS), help=listed)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="a file or an existing folder; for several sessions a folder; for bids the dataset "
        "(default: beside the session, with its name)",
    )


def run(asked: argparse.Namespace) -> int:
    """Write every session; return the exit code."""
    console = Console()
    paths = find_sessions(asked.session)
    sessions, code = find_readable(paths)
    out = asked.out
    if out is None and asked.to == "bids" and len(paths) > 1:
        out = choose_folder(asked.session, paths) / "bids"
    for session in sessions:
        target = out
        if out is not None and asked.to != "bids" and (len(paths) > 1 or out.is_dir()):
            target = out / f"{session.name}{FORMATS[asked.to][0]}"
        try:
            with watch_progress(console, f"{asked.to}: {session.name}") as progress:
                path, remarks = export(session.path, asked.to, target, progress)
        except SleepstreamError as error:
            code = report_failure(error, len(paths))
            continue
        for line in (*remarks, f"{'dataset: ' if asked.to == 'bids' else 'written to '}{path}"):
            say(console, line)
    return code
