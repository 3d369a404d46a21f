"""The command line: reads what was asked, builds the settings, runs the engine, shows what came of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from streamer import __version__, private, settings
from streamer.agreement import agreement
from streamer.clock import SystemClock
from streamer.commands.command import add_command
from streamer.commands.morning import add_export, add_report, report
from streamer.commands.recover import add_recover
from streamer.commands.status import add_status
from streamer.errors import OutputError, ScoringError, SleepstreamError, SourceError, UsageError
from streamer.handover import Aside, explain
from streamer.hypnogram import Scoring, refuse_empty
from streamer.live.engine import Engine, Outcome
from streamer.local import keep_caches_temporary
from streamer.logbook import Logbook, Style, remarked
from streamer.news import Remark, Sink
from streamer.scoring import annotated
from streamer.scoring.comparison import compare, comparison_text
from streamer.settings import Settings
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource
from streamer.standard import Quiet, complain, last_words, safe, taken_over
from streamer.terminal import Terminal, show_agreement, show_night
from streamer.web.settings import PORT, WebSettings

DEMO_S = 90  # how long the demonstration takes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 wrong usage."""
    keep_caches_temporary()
    with safe():
        form = "%(levelname)s %(name)s: %(message)s"
        logging.basicConfig(level=logging.WARNING, format=form, handlers=[Quiet(sys.stderr)])
        try:
            asked = _parser().parse_args(arguments)
            code: int = asked.command(asked)
        except SleepstreamError as error:
            code = error.exit_code
            if not isinstance(error.__cause__, BrokenPipeError):  # else whoever read it has seen enough
                complain(str(error))
        except KeyboardInterrupt:
            code = 130
        return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sleepstream", description="Real-time sleep staging from one channel.")
    parser.add_argument("--version", action="version", version=f"sleepstream {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands.add_parser("demo", help="a simulated night through the whole engine, sped up"))
    _add_run(commands.add_parser("run", help="the engine, as a TOML file describes it"))
    _add_replay(commands.add_parser("replay", help="stage a recording through the live path"))
    add_report(commands.add_parser("report", help="the morning: statistics and pictures, one night or many"))
    add_export(commands.add_parser("export", help="a session as EDF+, BIDS, CSV, Profusion, JSON or NPZ"))
    add_command(commands.add_parser("command", help="say something to an engine that runs"))
    _add_fit(commands.add_parser("fit", help="is every electrode on, before sleep?"))
    _add_doctor(commands.add_parser("doctor", help="check this machine and the settings for known traps"))
    _add_sources(commands.add_parser("sources", help="list LSL streams and BrainFlow boards"))
    add_status(commands.add_parser("status", help="how it goes, by this machine's session files"))
    add_recover(commands.add_parser("recover", help="save what can be read of a damaged session file"))
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_demo)
    parser.add_argument("--hours", type=float, default=8.0, help="length of the night (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="which night (default: 1)")
    parser.add_argument("--speed", type=_speed, help=f"times real time, or max (default: ends in {DEMO_S} s)")
    parser.add_argument("--port", type=int, default=1883, help="of the embedded broker (default: 1883)")
    parser.add_argument("--out", type=Path, help="folder for session and report (default: as for run)")
    parser.add_argument("--web-port", type=int, default=PORT, help=f"of the live page (default: {PORT})")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_run)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--new", action="store_true", help="do not continue the last session")
    parser.add_argument(
        "--web", action="store_true", help="the live page, on loopback unless [web] says more"
    )
    parser.add_argument("--log", choices=("text", "json"), help="one line per event, for services")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_replay)
    parser.add_argument("file", type=Path, help="EDF, EDF+, BDF, XDF or CSV")
    parser.add_argument("--channel", help="a label, or two as A-B (default: a sensible EEG channel)")
    parser.add_argument("--unit", choices=("V", "mV", "uV", "nV"), help="if the file's is wrong or missing")
    parser.add_argument("--rate", type=float, metavar="HZ", help="of a CSV file without times")
    parser.add_argument("--hop", type=int, metavar="S", help="seconds between scores, 1 to 30 (default: 30)")
    parser.add_argument("--speed", type=_speed, default="max", help="times real time, or max (default)")
    parser.add_argument(
        "--config", type=Path, metavar="C.toml", help="for model, MQTT, hop and signal; needs no stream"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: FILE with the suffix .sleepstream")


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_fit)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--stream", metavar="NAME", help="which sleeper (default: the first)")
    parser.add_argument("--seconds", type=float, metavar="S", help="end by itself (default: on Ctrl-C)")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_doctor)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", nargs="?")
    parser.add_argument("--json", action="store_true", help="findings as a JSON array")


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_sources)
    parser.add_argument("--json", action="store_true", help="as a JSON object")


def _speed(text: str) -> float | str:
    if text == "max":
        return "max"
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor max") from None
    if not 0 < value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 100000; max is as fast as it goes")
    return value


def _demo(asked: argparse.Namespace) -> int:
    console = Console(file=sys.stdout)
    port = _free_port(asked.port)
    evening = datetime.datetime.now().astimezone().replace(hour=23, minute=0, second=0, microsecond=0)
    source = {
        "kind": "simulated",
        "seed": asked.seed,
        "hours": asked.hours,
        "speed": asked.speed or max(1.0, asked.hours * 3600 / DEMO_S),
        "started": evening.isoformat(),
        "artefacts_per_hour": 1.0,  # a night is never perfect: some movement,
        "dropouts_per_hour": 0.3,  # and a radio that loses some
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
    with _unread():
        console.print(
            "[bold]A simulated night, sped up.[/] The stages arrive over MQTT at a broker inside this "
            "process; to see them, in another terminal:\n"
            f"  [green]mosquitto_sub -h 127.0.0.1 -p {port} -v -t 'sleepstream/#'[/]\n",
            highlight=False,
            soft_wrap=not console.is_terminal,
        )
    (outcome,) = _drive(ready, console, zone=None)
    _conclude(outcome, console)
    if outcome.session is not None:
        with _unread():
            report([outcome.session], outcome.session.parent, None, console)
    simulated = ready.stream[0].source
    assert isinstance(simulated, SimulatedSettings)
    truth = SimulatedSource(simulated, SystemClock()).truth[: len(outcome.labels)]
    with _unread():
        show_agreement(console, agreement(truth, outcome.labels), "the simulated night's true stages")
        console.print(
            "[dim]The network was trained on nights made by the same synthesiser: this shows that it runs, "
            "not how good it is. For that, see the model card.[/]",
            soft_wrap=not console.is_terminal,
        )
    return 0


@contextlib.contextmanager
def _unread() -> Iterator[None]:
    """Show what came of it, to whoever still reads (`| head`): the work is done and kept without it."""
    with contextlib.suppress(OutputError):
        yield


def _free_port(wanted: int) -> int:
    """Take the port asked for, or any free one where another broker sits on it already."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise UsageError("no free port on loopback for the embedded broker; give one with --port")


def _run(asked: argparse.Namespace) -> int:
    console = Console(file=sys.stdout)
    ready = settings.load(asked.config)
    if asked.web and ready.web is None:
        ready = ready.model_copy(update={"web": WebSettings()})
    resume_s = 0.0 if asked.new else ready.resume_min * 60
    if asked.log:
        outcomes = _serve(ready, asked.log, resume_s)
    else:
        outcomes = _drive(ready, console, zone=None, resume_s=resume_s)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    told = [
        f"{outcome.stream}: {len(outcome.labels)} epochs, {outcome.session or 'nothing recorded'}"
        for outcome in outcomes
    ]
    last_words(lambda: console.print("\n".join(told), highlight=False, markup=False, soft_wrap=True))
    if errors:
        raise errors[0]
    return 0


def _replay(asked: argparse.Namespace) -> int:
    console = Console(file=sys.stdout)
    out = asked.out or asked.file.with_suffix(".sleepstream")
    ready = _replay_settings(asked, out)
    truth = _own_stages(asked.file, console)  # first: what cannot be read is refused before anything is made
    if (out / "session.sqlite").exists():
        raise UsageError(f"{out} already holds a session, which is never overwritten; give another --out")
    (outcome,) = _drive(ready, console, session_path=out / "session.sqlite")
    _conclude(outcome, console)
    refuse_empty(outcome.labels, asked.file)
    if truth.stages or truth.unknown:
        compared = compare(truth, outcome.labels)
        text = comparison_text(compared, outcome.labels, outcome.smoothed)
        private.write(out / "agreement.json", text)
        with _unread():
            show_agreement(console, compared.found, "the file's own stages", compared.said())
    with _unread():
        console.print(f"\nwritten to {out}", highlight=False, soft_wrap=True)
    return 0


def _own_stages(file: Path, console: Console) -> Scoring:
    """The stages in a recording's annotations; those that cannot be compared do not stop the staging."""
    try:
        return annotated(file)
    except ScoringError as error:
        console.print(f"not compared: {error}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        return Scoring()


def _fit(asked: argparse.Namespace) -> int:
    from streamer.commands import fit

    streams = {stream.name: stream for stream in settings.load(asked.config).stream}
    name = asked.stream or next(iter(streams))
    if name not in streams:
        raise UsageError(f"no stream {name!r} in {asked.config}; there are: {', '.join(streams)}")
    good = asyncio.run(fit.run(streams[name], SystemClock(), Console(), asked.seconds))
    return 0 if good else 1


def _doctor(asked: argparse.Namespace) -> int:
    from streamer.doctor.examination import examine, show

    console = Console(file=sys.stdout)
    findings = []
    for finding in examine(settings.load(asked.config) if asked.config else None):
        findings.append(finding)
        if not asked.json:
            show(console, finding)
    if asked.json:
        print(json.dumps([finding.to_json() for finding in findings], indent=1))
    return 1 if any(finding.status == "failed" for finding in findings) else 0


def _sources(asked: argparse.Namespace) -> int:
    from streamer.commands import discovery

    streams, boards = discovery.lsl_streams(), []
    try:
        boards = discovery.boards()
    except SourceError as error:  # LSL works without BrainFlow
        print(f"sleepstream: {error}", file=sys.stderr)
    if asked.json:
        found = {"lsl": [one.to_json() for one in streams], "brainflow": [one.to_json() for one in boards]}
        print(json.dumps(found, indent=1))
    else:
        discovery.show(Console(), streams, boards)
    return 0


def _replay_settings(asked: argparse.Namespace, out: Path) -> Settings:
    """What the file `--config` says, with the recording in place of its streams; the command line wins."""
    data: dict[str, object] = {"jsonl": {"path": out / "epochs.jsonl"}}
    stream: dict[str, object] = {"name": "replay"}
    told: dict[str, object] = {}
    if asked.config is not None:
        base = settings.load(asked.config, {"name": "replay", "source": {"kind": "simulated"}})
        data |= base.model_dump(exclude_unset=True, exclude={"stream", "jsonl"})
        stream["hop_s"] = base.stream[0].hop_s
        told = base.stream[0].signal.model_dump()
    if asked.hop is not None:
        stream["hop_s"] = asked.hop
    told |= {key: value for key in ("channel", "unit") if (value := getattr(asked, key)) is not None}
    stream["signal"] = told
    stream["source"] = {"kind": "replay", "path": asked.file, "speed": asked.speed, "rate_hz": asked.rate}
    return settings.validate({**data, "stream": [stream]}, "replay")


def _conclude(outcome: Outcome, console: Console) -> None:
    """Raise what ended the stream, or show its night."""
    if outcome.error is not None:
        raise outcome.error
    if outcome.labels and outcome.statistics is not None:
        with _unread():
            show_night(console, outcome.labels, outcome.statistics)


def _serve(ready: Settings, style: Style, resume_s: float) -> list[Outcome]:
    """Run an engine as a service does: its log is all that is seen of it."""
    return _watched(ready, Logbook(sys.stdout, style), None, resume_s)


def _drive(
    ready: Settings,
    console: Console,
    zone: datetime.tzinfo | None = datetime.UTC,
    session_path: Path | None = None,
    resume_s: float | None = None,
) -> list[Outcome]:
    """Run an engine until it ends, shown to a person."""
    return _watched(ready, Terminal(console, zone), session_path, resume_s)


def _watched(
    ready: Settings, watcher: Sink, session_path: Path | None, resume_s: float | None
) -> list[Outcome]:
    """Run an engine; while it runs, all that is written of it is written by the watcher's own thread."""
    path = None if session_path is None else (lambda _session: session_path)
    clock = SystemClock()
    aside = Aside(watcher, clock)
    with remarked(aside), aside, taken_over(lambda line: aside.hear("", Remark("INFO", "stderr", line))):
        if ready.web is not None:
            aside.hear("", Remark("INFO", __name__, f"live page: {ready.web.url}"))
        outcomes = asyncio.run(_until_signalled(Engine(ready, clock, aside, path, resume_s)))
    if aside.last is not None and not isinstance(aside.last.__cause__, BrokenPipeError):
        complain(f"{aside.failures} messages are missing above: {explain(aside.last)}")
    return outcomes


async def _until_signalled(engine: Engine) -> list[Outcome]:
    """Run it; the first Ctrl-C or SIGTERM ends it gently, and SIGHUP unless it is ignored (`nohup`)."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, engine.stop)
    signal.signal(
        signal.SIGTTOU, signal.SIG_IGN
    )  # else a terminal could stop what writes from its background
    return await engine.run()
