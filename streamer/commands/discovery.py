"""`sleepstream sources`: lists LSL streams, a BrainVision Recorder's channels, or BrainFlow's boards."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from streamer.channels import RATES_HZ
from streamer.errors import SourceError, UsageError
from streamer.host.printable import printable
from streamer.host.standard import hush
from streamer.messages import StreamInfo
from streamer.sources.board import BrainflowBoard, load_brainflow
from streamer.sources.liblsl import load_pylsl
from streamer.sources.settings import BrainflowSettings, RdaSettings

LOOK_S = 1.5  # for streams to answer; with INFO_S and its start, the command takes 3 s
INFO_S = 0.8  # for one stream to send the names of its channels
AT_ONCE = 32  # number of streams that are asked at the same time


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream sources`."""
    parser.add_argument(
        "--boards", action="store_true", help="list the boards that BrainFlow supports instead"
    )
    parser.add_argument("--rda", metavar="HOST[:PORT]", help="show what a BrainVision Recorder sends instead")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(asked: argparse.Namespace) -> int:
    """List what was asked for; return the exit code."""
    if asked.rda is not None:
        return _show_rda(asyncio.run(find_rda_stream(asked.rda)), asked.json)
    with hush():
        streams, kinds = ([], find_boards()) if asked.boards else (find_lsl_streams(), [])
    if asked.json:
        key, found = ("brainflow", kinds) if asked.boards else ("lsl", streams)
        print(json.dumps({key: [asdict(one) for one in found]}, indent=1))
    elif asked.boards:
        show_boards(Console(file=sys.stdout), kinds)
    else:
        show_streams(Console(file=sys.stdout), streams)
    return 0


@dataclass(frozen=True, slots=True)
class LslStream:
    """An LSL stream that answered."""

    name: str
    type: str
    channels: int
    labels: tuple[str, ...]  # empty if it names none, or does not answer
    rate_hz: float  # 0: irregular
    host: str
    source_id: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class BoardKind:
    """A board with EEG that BrainFlow supports."""

    id: int
    name: str
    rate_hz: float
    labels: tuple[str, ...]
    losses: str  # by what losses are found: counter or time


async def find_rda_stream(where: str) -> StreamInfo:
    """Ask a BrainVision Recorder at HOST or HOST:PORT what it sends.

    Raises:
        UsageError: it is not such an address.
        SourceError, SignalError: it sends nothing, or nothing that can be staged.

    """
    from streamer.sources.rda import RdaSource

    host, _, port = where.rpartition(":") if where.count(":") == 1 else (where, "", "")
    try:
        settings = RdaSettings.model_validate(
            {"host": host, "resolve_s": LOOK_S, **({"port": port} if port else {})}
        )
    except ValueError as error:
        raise UsageError(f"--rda {where!r} is not HOST or HOST:PORT") from error
    async with RdaSource(settings) as source:
        return source.info


def _show_rda(info: StreamInfo, as_json: bool) -> int:
    labels = [channel.label for channel in info.channels]
    if as_json:
        print(json.dumps({"rda": {"name": info.name, "labels": labels, "rate_hz": info.rate_hz}}, indent=1))
    else:
        print(f"{info.name}: {len(labels)} channels at {info.rate_hz:g} Hz: {_short(labels)}")
    return 0


def find_lsl_streams(look_s: float = LOOK_S) -> list[LslStream]:
    """List the LSL streams that answer within `look_s` seconds; blocks.

    Raises:
        SourceError: LSL does not work here.

    """
    pylsl = load_pylsl()
    seen = pylsl.resolve_streams(look_s)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="lsl info") as asking:  # an answer may take long
        return sorted(asking.map(lambda found: _describe(pylsl, found), seen), key=lambda one: one.name)


def _describe(pylsl: Any, found: Any) -> LslStream:
    labels: tuple[str, ...] = ()
    note = ""
    try:
        inlet = pylsl.StreamInlet(found, recover=False)
        labels = tuple(label for label in inlet.info(INFO_S).get_channel_labels() or () if label)
    except (pylsl.util.TimeoutError, pylsl.util.LostError):
        note = "seen, but does not answer: is the firewall open for LSL?"
    rate_hz = float(found.nominal_srate())
    if not note and found.channel_format() == pylsl.cf_string:
        note = "text, not samples"
    elif not note and not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        note = f"not usable: {rate_hz:g} Hz"
    if not note and not found.source_id():
        note = "no source_id: identified by its name only"
    return LslStream(
        printable(found.name()),
        printable(found.type()),
        found.channel_count(),
        tuple(map(printable, labels)),
        rate_hz,
        printable(found.hostname()),
        printable(found.source_id()),
        note,
    )


def find_boards() -> list[BoardKind]:
    """List the boards with EEG at a usable sampling rate, by name.

    Raises:
        SourceError: BrainFlow does not work here.

    """
    out = []
    for board in load_brainflow().BoardIds:
        try:
            described = BrainflowBoard(BrainflowSettings(board=int(board))).describe()
        except SourceError:  # stands for another board, or has no EEG
            continue
        if RATES_HZ[0] <= described.rate_hz <= RATES_HZ[1]:
            losses = "counter" if described.numbering else "time"
            labels = tuple(channel.label for channel in described.channels)
            out.append(BoardKind(int(board), board.name, described.rate_hz, labels, losses))
    return sorted(out, key=lambda kind: kind.name)


def show_streams(console: Console, streams: Sequence[LslStream]) -> None:
    """Print the streams as a table."""
    if not streams:
        console.print(
            "no LSL stream answers; is a device on, and is the firewall open for LSL (ports 16571-16604)? "
            "`sleepstream sources --boards` lists the boards that BrainFlow supports",
            highlight=False,
            soft_wrap=True,
        )
        return
    table = Table("LSL stream", "type", "channels", "rate", "host", "source_id", "", box=None, pad_edge=False)
    for one in streams:
        labels = _short(one.labels) or str(one.channels)
        rate = f"{one.rate_hz:g} Hz" if one.rate_hz else "irregular"
        table.add_row(one.name, one.type, labels, rate, one.host, one.source_id, one.note)
    console.print(table, highlight=False, markup=False)


def show_boards(console: Console, kinds: Sequence[BoardKind]) -> None:
    """Print the boards as a table."""
    table = Table("BrainFlow board", "id", "rate", "channels", "losses by", box=None, pad_edge=False)
    for kind in kinds:
        table.add_row(kind.name, str(kind.id), f"{kind.rate_hz:g} Hz", _short(kind.labels), kind.losses)
    console.print(table, highlight=False, markup=False)


def _short(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
    return " ".join(labels[:8]) + more
