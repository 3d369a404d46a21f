"""The one place for figures of speed and memory.

    python -m tools.bench                          every part that needs nothing but the checkout
    python -m tools.bench --only hop,night --json figures.json

Each part is measured --repeats times; a figure is the median, a maximum the largest.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from streamer.settings import Runtime
from tools.bench.figures import Asked, Figures, machine, median_of, missed, show
from tools.command import make_parser, run, some

# Name of the module -> what it measures, and whether it runs unasked.
PARTS: dict[str, tuple[str, bool]] = {
    "hop": ("cost of a hop inside the pipeline, and of redoing its whole context instead", True),
    "growth": ("a hop at hours 1 to 12, and with contexts of 10 to 240 epochs", True),
    "start": ("from a fresh process to the first score", True),
    "weight": ("on the disk, in memory, over Wi-Fi, and on the card in a night", True),
    "peers": ("other stagers, redoing the night so far for each new epoch", True),
    "night": ("a whole night from its samples, in time and memory", True),
    "archives": ("tools.score on one and two processes, against sleepstream replay", True),
    "fleet": ("real engines on one mosquitto, then ever more sleepers replayed, until it breaks", False),
    "latency": ("last sample to publication, through the whole engine", True),
    "streams": ("how many sleepers a core carries with latency held, and the memory of each", False),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print tables, write JSON if asked."""
    asked, names = _options(arguments)
    return run(lambda _: _measured(asked, names), asked)


def _measured(asked: Asked, names: list[str]) -> str:
    found: dict[str, Any] = {"machine": machine()}
    for name in names:
        part = import_module(f"tools.bench.{name}")
        figures: Figures = median_of([part.measure(asked) for _ in range(asked.repeats)])
        wanted = getattr(part, "WANTED", {})
        show(f"{name}: {PARTS[name][0]}", figures, wanted)
        found[name] = figures | {"missed": missed(figures, wanted)}
        if asked.json is not None:  # after each part: a long run that is ended leaves what it has
            asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return ""


def _options(arguments: list[str] | None) -> tuple[Asked, list[str]]:
    width = max(map(len, PARTS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, (what, _) in PARTS.items())
    parser = make_parser("bench", f"{__doc__}\nParts:\n{listed}")
    parser.add_argument("--only", metavar="PART,PART", help="these parts, in this order")
    parser.add_argument("--model", type=Path, help="an artifact (default: the packaged one)")
    parser.add_argument("--runtime", choices=get_args(Runtime), help="of the network")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="of the network in night")
    parser.add_argument("--peer", metavar="NAME=ADAPTER", action="append", help="see peers.py")
    parser.add_argument("--hours", type=float, help="length of the night (default: 8)")
    parser.add_argument("--repeats", type=some, metavar="N", help="of each part (default: 3)")
    parser.add_argument("--fleet", type=some, metavar="N", help="the part fleet, once, with N real sleepers")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args(arguments, Asked(peer=[]))
    names = asked.only.split(",") if asked.only else [name for name, (_, unasked) in PARTS.items() if unasked]
    if asked.fleet is not None:
        names, asked.repeats = ["fleet"], 1
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(map(repr, unknown))}; there are {', '.join(PARTS)}")
    if not all(all(peer.partition("=")) for peer in asked.peer):
        parser.error(f"--peer {' '.join(asked.peer)}: give NAME=ADAPTER")
    return asked, names


if __name__ == "__main__":
    sys.exit(main())
