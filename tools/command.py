"""What every command shares: its arguments, its errors, and the digest by which it recognises a file."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from streamer.errors import RecordingError, SleepstreamError


def make_parser(tool: str, what: str) -> argparse.ArgumentParser:
    """Make the parser of `python -m tools.TOOL`; `what` is its docstring, which --help shows."""
    shown = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"python -m tools.{tool}", description=what, formatter_class=shown)


def run(work: Callable[[argparse.Namespace], str], asked: argparse.Namespace) -> int:
    """Do what was asked for and print the text that it returns; an error of the user is one line.

    Returns:
        The exit code.

    """
    try:
        text = work(asked)
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


def digest_of(path: Path) -> tuple[str, os.stat_result]:
    """Return the sha256 of a file's content, and its stat.

    Raises:
        RecordingError: the file cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}; check the path") from error
