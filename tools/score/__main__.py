"""Stage an archive: all recordings that match a pattern, in parallel, with the results in one folder.

    python -m tools.score 'archive/**/*.edf' --out scores
    python -m tools.score 'archive/**/*.edf' --out scores --ray auto     # over a Ray cluster

DIR gets manifest.jsonl, and a folder for each recording with epochs.jsonl, statistics.json and, if it was
scored, agreement.json. The same command again stages what is new, changed or failed. Ctrl-C ends it and loses
nothing. Exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import FrameType

from rich.console import Console

from streamer.errors import SleepstreamError
from streamer.exports import SCORES
from streamer.network.trust import read_trusted
from tools.command import make_parser, some
from tools.score import cluster, processes
from tools.score.archive import Crew, Tally, fill
from tools.score.outcome import Options, manifest_of
from tools.score.recordings import find

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = _parsed(arguments)
    console = Console(stderr=True)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        tally = _run(given, console)
    except SleepstreamError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"interrupted; the same command continues in {given.out}", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    print(
        f"{given.out}: {tally.staged} recordings staged, {tally.there} there already, {tally.failed} failed"
        + ("; for the reasons see manifest.jsonl" if tally.failed else "")
    )
    return 1 if tally.failed else 0


def _run(given: argparse.Namespace, console: Console) -> Tally:
    recordings, refused = find(given.pattern, given.out)
    # The user vouches for the model named on the command line; workers must load the same file.
    digest = sha256(read_trusted(given.model, trusted=True)).hexdigest()
    asked = Options(
        channels=tuple(given.channel or ()),
        unit=given.unit,
        rate_hz=given.rate,
        formats=tuple(sorted(set(given.to or ()))),
        model_sha256=digest,
    )
    with manifest_of(given.out) as manifest:
        return fill(manifest, recordings, refused, asked, _crew(given, asked), console)


def _crew(given: argparse.Namespace, asked: Options) -> Crew:
    """Choose the workers: processes here, or a cluster."""
    model = None if given.model is None else given.model.resolve()
    if given.ray is None:
        return lambda jobs: processes.stage_all(jobs, asked, model, given.processes)
    return lambda jobs: cluster.stage_all(jobs, asked, model, given.ray, given.processes)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM end the run like Ctrl-C."""
    raise KeyboardInterrupt


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("score", __doc__)
    parser.add_argument(
        "pattern", nargs="+", help="a file, or a quoted pattern; ** means folders at any depth"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--channel",
        action="append",
        help="a label or a difference; if given several times, the first that a file has",
    )
    parser.add_argument(
        "--unit",
        choices=("V", "mV", "uV", "nV"),
        help="unit of the samples, if the files' is wrong or missing",
    )
    parser.add_argument("--rate", type=float, metavar="HZ", help="sampling rate of CSV files without times")
    parser.add_argument("--model", type=Path, help="an exported model (default: the packaged one)")
    parser.add_argument("--to", action="append", choices=SCORES, help="also write the hypnogram; see export")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--processes",
        type=some,
        default=cores,
        metavar="N",
        help=f"number of processes (default: {cores}, one per core)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="address of a Ray cluster (extra `ray`); auto: the running one; local: start one here",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
