"""The command line: finds the command that was asked for, and imports that one alone."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from streamer import __version__
from streamer.errors import SleepstreamError
from streamer.host.local import keep_caches_temporary
from streamer.host.standard import Quiet, complain, safe


class Command(NamedTuple):
    """Where a command lives, and what it does in one line."""

    module: str  # in it `arguments(parser)` says what it takes, and `run(asked)` returns its exit code
    help: str


COMMANDS: Final = {
    "demo": Command("streamer.commands.demo", "a simulated night through the whole engine, sped up"),
    "setup": Command("streamer.commands.setup", "ask what the engine has to know, and write its settings"),
    "run": Command("streamer.commands.run", "the engine, as a TOML file describes it"),
    "replay": Command("streamer.commands.replay", "stage a recording through the live path"),
    "report": Command("streamer.commands.report", "the morning: statistics and pictures, one night or many"),
    "export": Command("streamer.commands.export", "a session as EDF+, BIDS, CSV, Profusion, JSON or NPZ"),
    "command": Command("streamer.commands.command", "send a command to a running engine"),
    "fit": Command("streamer.commands.fit", "is every electrode on, before sleep?"),
    "doctor": Command("streamer.commands.doctor", "check this machine and the settings for known traps"),
    "sources": Command(
        "streamer.commands.discovery", "which LSL streams answer; --boards: which boards BrainFlow drives"
    ),
    "status": Command("streamer.commands.status", "show the sessions on this machine"),
    "prune": Command("streamer.commands.prune", "raw samples of old nights: show what goes, let it go"),
    "recover": Command("streamer.commands.recover", "save what can be read of a damaged session file"),
}
# Libraries that log each early end of a connection as an error; what matters of it we say ourselves.
TALKATIVE: Final = ("aiomqtt", "amqtt", "transitions", "websockets")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 wrong usage."""
    keep_caches_temporary()
    with safe():
        form = "%(levelname)s %(name)s: %(message)s"
        logging.basicConfig(level=logging.WARNING, format=form, handlers=[Quiet(sys.stderr)])
        for library in TALKATIVE:
            logging.getLogger(library).setLevel(logging.CRITICAL)
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


class _CommandParser(argparse.ArgumentParser):
    """The parser of one command, which imports the command only when it has something to read."""

    module = ""  # of the command; the parser of all commands has none

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the arguments, which the command's module names first."""
        if self.module:
            command = importlib.import_module(self.module)
            self.module = ""
            command.arguments(self)
            self.set_defaults(command=command.run)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = _CommandParser("sleepstream", description="Real-time sleep staging from one channel.")
    parser.add_argument("--version", action="version", version=f"sleepstream {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help).module = command.module
    return parser
