"""Runs an engine to its end, shown on a terminal or written to a log, and reports the outcome."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import gc
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from streamer.clock import SystemClock
from streamer.errors import OutputError, explain
from streamer.host.standard import complain, take_over_stderr
from streamer.live.engine import Engine, Outcome
from streamer.news import Remark, Sink
from streamer.settings import Settings
from streamer.sinks.handover import Aside
from streamer.sinks.logbook import collect_remarks
from streamer.sinks.terminal import Terminal, show_night

logger = logging.getLogger(__name__)


def speed(text: str) -> float | str:
    """A speed as the command line writes it: times real time, or max."""
    if text == "max":
        return "max"
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor max") from None
    if not 0 < value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 100000; max is as fast as it goes")
    return value


@contextlib.contextmanager
def allow_unread() -> Iterator[None]:
    """Show a result, and ignore a reader that is gone (`| head`): the work is already kept."""
    with contextlib.suppress(OutputError):
        yield


def conclude(outcome: Outcome, console: Console) -> None:
    """Raise the error that ended the stream, or show its night."""
    if outcome.error is not None:
        raise outcome.error
    if outcome.labels and outcome.statistics is not None:
        with allow_unread():
            show_night(console, outcome.labels, outcome.statistics)


def drive(
    ready: Settings,
    console: Console,
    zone: datetime.tzinfo | None = datetime.UTC,
    session_path: Path | None = None,
    resume_s: float | None = None,
) -> list[Outcome]:
    """Run an engine until it ends, shown to a person."""
    return run_watched(ready, Terminal(console, zone), session_path, resume_s)


def run_watched(
    ready: Settings, watcher: Sink, session_path: Path | None, resume_s: float | None
) -> list[Outcome]:
    """Run an engine. While it runs, only the watcher's thread writes to the terminal."""
    path = None if session_path is None else (lambda _session: session_path)
    clock = SystemClock()
    aside = Aside(watcher, clock)
    with (
        collect_remarks(aside),
        aside,
        take_over_stderr(lambda line: aside.hear("", Remark("INFO", "stderr", line))),
    ):
        if ready.web is not None:
            aside.hear("", Remark("INFO", __name__, f"live page: {ready.web.url}"))
        # What the imports and the sessions' beginnings made stays. To look through it for garbage, as Python
        # does every so often, would hold up all stages and triggers by a tenth of a second or more.
        engine = Engine(ready, clock, aside, path, resume_s, begun=gc.freeze)
        outcomes = asyncio.run(_until_signalled(engine))
    if aside.last is not None and not isinstance(aside.last.__cause__, BrokenPipeError):
        complain(f"{aside.failures} messages are missing above: {explain(aside.last)}")
    return outcomes


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
# Other programs send them to a daemon ("open your log again"), and a process that does not take them ends.
STRAY = (signal.SIGUSR1, signal.SIGUSR2)


async def _until_signalled(engine: Engine) -> list[Outcome]:
    """Run it until the first signal that ends it gently; SIGHUP does unless it is ignored (`nohup`)."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, engine.stop)
    for number in STRAY:
        loop.add_signal_handler(
            number, logger.warning, "%s means nothing here; the night goes on", number.name
        )
    signal.signal(
        signal.SIGTTOU, signal.SIG_IGN
    )  # else a terminal could stop what writes from its background
    return await engine.run()
