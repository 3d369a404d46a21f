"""What could be staged right now: LSL streams on the network, and the boards that BrainFlow drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from streamer.channels import RATES_HZ
from streamer.errors import SourceError
from streamer.printable import printable
from streamer.sources.board import BrainflowBoard, load_brainflow
from streamer.sources.settings import BrainflowSettings

LOOK_S = 2.0  # for streams to answer
INFO_S = 1.0  # for one stream to say what its channels are called


@dataclass(frozen=True, slots=True)
class LslStream:
    """An LSL stream that answered."""

    name: str
    type: str
    channels: int
    labels: tuple[str, ...]  # empty when it names none, or does not answer
    rate_hz: float  # 0: irregular
    host: str
    source_id: str
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """As `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BoardKind:
    """A board that BrainFlow knows and that has EEG."""

    id: int
    name: str
    rate_hz: float
    labels: tuple[str, ...]
    losses: str  # how losses are found

    def to_json(self) -> dict[str, object]:
        """As `--json` prints it."""
        return asdict(self)


def lsl_streams(look_s: float = LOOK_S) -> list[LslStream]:
    """Every LSL stream that answers within `look_s`; blocks."""
    import pylsl

    return sorted((_describe(pylsl, found) for found in pylsl.resolve_streams(look_s)), key=lambda s: s.name)


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
        note = f"not EEG for us: {rate_hz:g} Hz"
    if not note and not found.source_id():
        note = "no source_id: found again by its name only"
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


def boards() -> list[BoardKind]:
    """Every board with EEG at a rate for sleep, by name.

    Raises:
        SourceError: BrainFlow cannot be used.

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


def show(console: Console, streams: Sequence[LslStream], kinds: Sequence[BoardKind]) -> None:
    """Print both as tables."""
    if streams:
        table = Table(
            "LSL stream", "type", "channels", "rate", "host", "source_id", "", box=None, pad_edge=False
        )
        for one in streams:
            labels = _short(one.labels) or str(one.channels)
            rate = f"{one.rate_hz:g} Hz" if one.rate_hz else "irregular"
            table.add_row(one.name, one.type, labels, rate, one.host, one.source_id, one.note)
        console.print(table, highlight=False, markup=False)
    else:
        console.print("no LSL stream answers; is one on, and is the firewall open for LSL (16571-16604)?")
    console.print()
    table = Table("BrainFlow board", "id", "rate", "channels", "losses by", box=None, pad_edge=False)
    for kind in kinds:
        table.add_row(kind.name, str(kind.id), f"{kind.rate_hz:g} Hz", _short(kind.labels), kind.losses)
    console.print(table, highlight=False, markup=False)


def _short(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
    return " ".join(labels[:8]) + more
