"""`sleepstream demo`: runs a simulated night through the whole engine, sped up."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import socket
import sys
from pathlib import Path

from rich.console import Console

from streamer import settings
from streamer.clock import SystemClock
from streamer.commands.driving import allow_unread, conclude, drive, parse_speed
from streamer.commands.report import report
from streamer.errors import UsageError
from streamer.night.agreement import compare_stages
from streamer.sinks.terminal import show_agreement
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource
from streamer.web.settings import PORT

DEMO_S = 90  # duration of the demonstration


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream demo`."""
    parser.add_argument("--hours", type=float, default=8.0, help="length of the night (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="number of the simulated night (default: 1)")
    parser.add_argument(
        "--speed", type=parse_speed, help=f"times real time, or max (default: such that it takes {DEMO_S} s)"
    )
    parser.add_argument("--port", type=int, default=1883, help="port of the embedded broker (default: 1883)")
    parser.add_argument(
        "--out", type=Path, help="folder for session and report (default: ~/.local/share/sleepstream)"
    )
    parser.add_argument("--web-port", type=int, default=PORT, help=f"port of the live page (default: {PORT})")


def run(asked: argparse.Namespace) -> int:
    """Run the demonstration; return the exit code."""
    console = Console(file=sys.stdout)
    port = _free_port(asked.port)
    evening = datetime.datetime.now().astimezone().replace(hour=23, minute=0, second=0, microsecond=0)
    source = {
        "kind": "simulated",
        "seed": asked.seed,
        "hours": asked.hours,
        "speed": asked.speed or max(1.0, asked.hours * 3600 / DEMO_S),
        "started": evening.isoformat(),
        "artefacts_per_hour": 1.0,  # like in a real night: some movement,
        "dropouts_per_hour": 0.3,  # and some samples lost by the radio
    }
    data: dict[str, object] = {
        "node": "demo",
        "mqtt": {"embedded": True, "port": port},
        "web": {"port": _free_port(asked.web_port)},
        "stream": [{"name": "sleeper", "hop_s": 30, "source": source}],
    }
    if asked.out is not None:
        data["session_dir"] = str(asked.out)
    ready = settings.validate(data, "demo")
    with allow_unread():
        console.print(
            "[bold]A simulated night, sped up.[/] The stages are published over MQTT by a broker inside this "
            "process. To see them, run in another terminal:\n"
            f"  [green]mosquitto_sub -h 127.0.0.1 -p {port} -v -t 'sleepstream/#'[/]\n",
            highlight=False,
            soft_wrap=not console.is_terminal,
        )
    (outcome,) = drive(ready, console, zone=None)
    conclude(outcome, console)
    if outcome.session is not None:
        with allow_unread():
            report([outcome.session], outcome.session.parent, None, console)
    simulated = ready.stream[0].source
    assert isinstance(simulated, SimulatedSettings)
    truth = SimulatedSource(simulated, SystemClock()).truth[: len(outcome.labels)]
    with allow_unread():
        show_agreement(console, compare_stages(truth, outcome.labels), "the simulated night's true stages")
        console.print(
            "[dim]The network was trained on nights from a similar synthesiser. So this shows that it runs, "
            "not how good it is; for that, see the model card.[/]",
            soft_wrap=not console.is_terminal,
        )
    return 0


def _free_port(wanted: int) -> int:
    """Return the wanted port, or any free one if another program uses it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise UsageError("no free port on loopback for the embedded broker; name one with --port")
