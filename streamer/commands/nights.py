"""Functions shared by the commands that read past nights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streamer.errors import SleepstreamError
from streamer.host.printable import printable
from streamer.night.names import Named, make_distinct, name_session


def find_readable(paths: Sequence[Path]) -> tuple[list[Named], int]:
    """Return the readable sessions with unique names, and the exit code; prints why others cannot be read."""
    found, code = [], 0
    for path in paths:
        try:
            found.append(name_session(path))
        except SleepstreamError as error:
            code = report_failure(error, len(paths))
    return make_distinct(found), code


def report_failure(error: SleepstreamError, sessions: int) -> int:
    """Print why a session failed and return the exit code; raise the error if it was the only session."""
    if sessions == 1:
        raise error
    print(f"sleepstream: {printable(str(error))}", file=sys.stderr)
    return error.exit_code


def choose_folder(asked: Sequence[Path], sessions: Sequence[Path]) -> Path:
    """The given folder, or else the folder of the first session."""
    return asked[0] if asked[0].is_dir() else sessions[0].parent


def say(console: Console, line: str) -> None:
    """Print one line."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
