"""What every command shares: an error is one line, and a count is a whole number."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from streamer.errors import SleepstreamError


def run(work: Callable[[], str]) -> int:
    """Run a command and print the text that it returns; an error of the user is printed as one line.

    Returns:
        The exit code.

    """
    try:
        text = work()
    except SleepstreamError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if text:
        print(text)
    return 0


def some(text: str) -> int:
    """Read an argument that is a whole number above 0."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
