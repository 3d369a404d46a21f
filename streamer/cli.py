"""The command line: finds the command that was asked for and imports only that one."""

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
    """A command: the module that implements it, and one line of help."""

    # has `arguments(parser)`, which adds its arguments, and `run(asked)`, which returns its exit code
    module: str
    help: str


COMMANDS: Final = {
    "demo": Command("streamer.commands.demo", "run a simulated night through the whole engine, sped up"),
    "setup": Command("streamer.commands.setup", "ask a few questions and write the settings"),
    "run": Command("streamer.commands.run", "run the engine with a settings file"),
    "replay": Command("streamer.commands.replay", "stage a recording as if it were live"),
    "report": Command("streamer.commands.report", "make a report of one night or several, with pictures"),
    "export": Command(
        "streamer.commands.export", "export a session as EDF+, BIDS, CSV, Profusion, JSON or NPZ"
    ),
    "command": Command("streamer.commands.command", "send a command to a running engine"),
    "fit": Command("streamer.commands.fit", "check before sleep whether every electrode has contact"),
    "doctor": Command("streamer.commands.doctor", "check this machine and the settings for known problems"),
    "sources": Command(
        "streamer.commands.discovery",
        "list the LSL streams on the network, or with --boards the boards of BrainFlow",
    ),
    "status": Command("streamer.commands.status", "show the sessions on this machine"),
    "prune": Command("streamer.commands.prune", "show or delete the raw samples of old nights"),
    "recover": Command("streamer.commands.recover", "copy what can be read of a damaged session file"),
}
# These libraries log each dropped connection as an error; we report the ones that matter ourselves.
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
            if not isinstance(error.__cause__, BrokenPipeError):  # as in `sleepstream ... | head`
                complain(str(error))
        except KeyboardInterrupt:
            code = 130
        return code


class _CommandParser(argparse.ArgumentParser):
    """A parser that imports its command's module only when that command was asked for."""

    module = ""  # the command's module; "" for the top parser

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Let the command's module add its arguments, then parse them."""
        if self.module:
            command = importlib.import_module(self.module)
            self.module = ""
            command.arguments(self)
            self.set_defaults(command=command.run)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = _CommandParser("sleepstream", description="Real-time sleep staging from one channel of EEG.")
    parser.add_argument("--version", action="version", version=f"sleepstream {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        added = commands.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}."
        )
        added.module = command.module
    return parser
