"""A whole Home Assistant core, its MQTT integration, mosquitto and the engine, through the end of a night.

    python -m tests.homeassistant [--version 2025.4.4] [--python python3.13] [--work FOLDER]

The newest Home Assistant that the newest Python here can have is installed into an environment of its own,
from the package index alone; that takes minutes the first time and 600 MB, and `--work` keeps it. Then the
check runs in a network of its own that has loopback only: nothing of it can leave this machine.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from streamer.errors import RunError, SleepstreamError
from tests.homeassistant.alone import shut_in
from tests.homeassistant.check import Check
from tests.homeassistant.environment import Environment

DOCS = Path(__file__).parents[2] / "docs" / "homeassistant.md"
MODULE = ("-m", "tests.homeassistant")


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, go where nobody is reached, check; 0 if all of it held."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.ready is not None:
            shut_in(())
            return checked(asked.ready, asked.work)
        work = asked.work or Path(tempfile.gettempdir()) / "sleepstream-homeassistant"
        work.mkdir(parents=True, exist_ok=True)
        environment = Environment(work.resolve() / "venv", asked.python)
        print(f"Home Assistant {environment.make(asked.version)}", flush=True)
        shut_in((*MODULE, "--ready", str(environment.hass), "--work", str(work.resolve())))
    except SleepstreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 1


def checked(hass: Path, work: Path) -> int:
    """Run every step in a fresh folder; a folder in which something failed is kept."""
    folder = Path(tempfile.mkdtemp(prefix="night-", dir=work))
    check = Check(hass, folder, documented(DOCS.read_text(encoding="utf-8")), print)
    check.run()
    if check.failed:
        print(f"{check.failed} failed; settings and logs are in {folder}")
        return 1
    print("all of it held")
    return 0


def documented(text: str) -> str:
    """The automation that the page shows.

    Raises:
        RunError: it shows none.

    """
    found = re.search(r"```yaml\n(automation:\n.*?)```", text, re.DOTALL)
    if found is None:
        raise RunError(f"{DOCS.name} shows no automation")
    return found[1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.homeassistant", description=__doc__.split("\n")[0])
    parser.add_argument("--version", help="of Home Assistant (default: the newest that installs)")
    parser.add_argument("--python", help="that it runs on (default: the newest python3.N on the path)")
    parser.add_argument(
        "--work", type=Path, help="folder for its environment (default: in the temporary one)"
    )
    parser.add_argument("--ready", type=Path, help=argparse.SUPPRESS)  # the program, inside
    return parser


if __name__ == "__main__":
    sys.exit(main())
