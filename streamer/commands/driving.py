"""Runs an engine to its end, with a terminal display or a log, and reports the outcome."""

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
THRESHOLD = gc.get_threshold()  # new objects after which Python searches for garbage, and how far back
WAVE = 100  # objects of a stream that come and go together, at most; with 40 there is no search either


def parse_speed(text: str) -> float | str:
    """Parse a speed of the command line: times real time, or max."""
    if text == "max":
        return "max"
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor max") from None
    if not 0 < value <= 100_000:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not between 0 and 100000; use max for as fast as possible"
        )
    return value


@contextlib.contextmanager
def allow_unread() -> Iterator[None]:
    """Ignore a reader that is gone (`| head`) while a result is shown: the work is saved already."""
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
    """Run an engine until it ends, with a terminal display."""
    return run_watched(ready, Terminal(console, zone), session_path, resume_s)


def spare_garbage(streams: int) -> None:
    """Have Python's garbage collector search less; called when a session of one of so many has begun.

    A search stops all threads. Objects from imports and session starts stay for ever. If they were searched,
    stages and triggers would be late by a tenth of a second or more. What comes later leaves no garbage that
    needs a search, but it comes and goes in waves that grow with the streams. Each wave would start a search:
    with a thousand sleepers fifteen a second, and every seven seconds one of 80 ms.
    """
    gc.freeze()
    gc.set_threshold(max(THRESHOLD[0], WAVE * streams), *THRESHOLD[1:])


def run_watched(
    ready: Settings, watcher: Sink, session_path: Path | None, resume_s: float | None
) -> list[Outcome]:
    """Run an engine until it ends. While it runs, only the watcher's thread writes to the terminal."""
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
        engine = Engine(ready, clock, aside, path, resume_s, begun=spare_garbage)
        outcomes = asyncio.run(_until_signalled(engine))
    if aside.last is not None and not isinstance(aside.last.__cause__, BrokenPipeError):
        complain(f"{aside.failures} messages above are missing: {explain(aside.last)}")
    return outcomes


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
# Sent to daemons by other programs ("reopen your log"). Without a handler they would end the process.
STRAY = (signal.SIGUSR1, signal.SIGUSR2)


async def _until_signalled(engine: Engine) -> list[Outcome]:
    """Run an engine until a signal stops it; SIGHUP does, too, unless it is ignored (`nohup`)."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, engine.stop)
    for number in STRAY:
        loop.add_signal_handler(number, logger.warning, "%s ignored; the night goes on", number.name)
    # else the terminal could stop a background process that writes
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    return await engine.run()
