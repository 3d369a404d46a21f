"""`sleepstream run`: runs the engine with a settings file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from streamer import settings
from streamer.commands.driving import drive, run_watched
from streamer.host.standard import last_words
from streamer.sinks.logbook import Logbook
from streamer.web.settings import WebSettings


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream run`."""
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="the settings file")
    parser.add_argument(
        "--new", action="store_true", help="begin a new session instead of continuing the last one"
    )
    parser.add_argument(
        "--web", action="store_true", help="serve the live page, on loopback unless [web] has a host"
    )
    parser.add_argument(
        "--log", choices=("text", "json"), help="log lines instead of the terminal display, for services"
    )


def run(asked: argparse.Namespace) -> int:
    """Run the engine until it is stopped; return the exit code."""
    console = Console(file=sys.stdout)
    ready = settings.load(asked.config)
    if asked.web and ready.web is None:
        ready = ready.model_copy(update={"web": WebSettings()})
    resume_s = 0.0 if asked.new else ready.resume_min * 60
    if asked.log:
        outcomes = run_watched(ready, Logbook(sys.stdout, asked.log), None, resume_s)
    else:
        outcomes = drive(ready, console, zone=None, resume_s=resume_s)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    told = [
        f"{outcome.stream}: {len(outcome.labels)} epochs, {outcome.session or 'nothing recorded'}"
        for outcome in outcomes
    ]
    last_words(lambda: console.print("\n".join(told), highlight=False, markup=False, soft_wrap=True))
    if errors:
        raise errors[0]
    return 0
