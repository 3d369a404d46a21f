"""What takes longer than a test.

    python -m tests.chaos faults --seed 2 --faults 205
    python -m tests.chaos soak --hours 10

`faults` prints what was lost, duplicated, reordered, rewritten or left out of the ledger; `soak` prints what
each hour of a long night left behind. Both end with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.chaos.run import unleash
from tests.chaos.soak import judge, soak


def faults(asked: argparse.Namespace, folder: Path) -> int:
    """Faults, one after the other and in twos."""
    verdict, done = asyncio.run(unleash(folder, asked.seed, asked.faults, asked.minutes))
    print(json.dumps({"faults": done.total(), "by_kind": done, **asdict(verdict)}, indent=1, default=sorted))
    return verdict.broken()


def endure(asked: argparse.Namespace, folder: Path) -> int:
    """A long night, hour by hour."""
    night = soak(
        folder, asked.hours, asked.speed, asked.hop, lambda look: print(json.dumps(look.told()), flush=True)
    )
    found = judge(asyncio.run(night))
    print("; ".join(found) or "nothing grew")
    return len(found)


def main(arguments: list[str]) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    struck = commands.add_parser("faults", help=faults.__doc__)
    struck.set_defaults(command=faults)
    struck.add_argument("--seed", type=int, default=1)
    struck.add_argument("--minutes", type=float, default=30.0, help="no new fault after that (default 30)")
    struck.add_argument("--faults", type=int, default=1_000_000, help="at most so many")
    soaked = commands.add_parser("soak", help=endure.__doc__)
    soaked.set_defaults(command=endure)
    soaked.add_argument("--hours", type=float, default=10.0)
    soaked.add_argument("--speed", type=float, default=300.0, help="times real time; 1 for a night as it is")
    soaked.add_argument("--hop", type=int, default=5, help="seconds between scores")
    for command in (struck, soaked):
        command.add_argument("--keep", type=Path, help="folder for what it wrote; default: a temporary one")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return 1 if asked.command(asked, folder) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
