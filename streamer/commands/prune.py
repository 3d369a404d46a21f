"""`sleepstream prune`: shows which nights' raw samples a rule would delete, and deletes them on request."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from streamer.errors import JournalError, UsageError
from streamer.journal.packing import prune
from streamer.journal.settings import StorageSettings
from streamer.night.storage import find_stored, find_superfluous
from streamer.settings import Settings, load

FOR_EVER = "Scores, events and reports of all sessions are kept."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream prune`."""
    parser.add_argument(
        "config", type=Path, metavar="CONFIG.toml", help="settings with session_dir and [storage]"
    )
    parser.add_argument(
        "--nights", type=int, metavar="N", help="keep the samples of the last N nights of each sleeper"
    )
    parser.add_argument(
        "--gb", type=float, metavar="GB", help="keep the newest samples, up to so many gigabytes"
    )
    parser.add_argument(
        "--yes", action="store_true", help="delete; without it, only show what would be deleted"
    )


def run(asked: argparse.Namespace) -> int:
    """Show what would be deleted, or delete it; return 1 if some of it failed."""
    settings = load(asked.config)
    rule = _rule(settings, asked)
    nights = find_stored(settings.session_dir, settings.node, {stream.name for stream in settings.stream})
    going = find_superfluous(nights, rule)
    total, code = 0, 0
    for one, why in going:
        if asked.yes:
            try:
                total += prune(one.path)
            except JournalError as error:
                print(f"sleepstream: {error}", file=sys.stderr)
                code = 1
                continue
        else:
            total += one.sample_bytes
        print(f"{one.path.name}: {one.sample_bytes / 1e6:.1f} MB of samples ({why})")
    kept = _counted(len(nights) - len(going))
    if not going:
        print(f"nothing to delete: the rule keeps the samples of all {kept}")
    elif asked.yes:
        print(f"{total / 1e6:.1f} MB freed; {kept} still with samples. {FOR_EVER}")
    else:
        said = f"would delete the samples of {_counted(len(going))}, {total / 1e6:.1f} MB; add --yes to do it"
        print(f"{said}. {kept} would keep their samples. {FOR_EVER}")
    return code


def _rule(settings: Settings, asked: argparse.Namespace) -> StorageSettings:
    """The rule from the command line, or else from the settings."""
    if asked.nights is None and asked.gb is None:
        rule = settings.storage
    else:
        try:
            rule = StorageSettings(nights=asked.nights, gb=asked.gb)
        except ValidationError as error:
            raise UsageError("--nights and --gb must be above 0: they say how much to keep") from error
    if not rule.bounded:
        raise UsageError(
            "there is no rule which samples to delete; give --nights or --gb, or set them in [storage]"
        )
    return rule


def _counted(sessions: int) -> str:
    return f"{sessions} session{'' if sessions == 1 else 's'}"
