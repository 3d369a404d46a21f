"""What a person sees while it runs: a calm progress line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, tzinfo
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table

from streamer.agreement import Agreement
from streamer.messages import EPOCH_S, STAGES, Label, StreamInfo
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.mqtt import MqttStatus
from streamer.statistics import DEFINITIONS, Statistics

COLOURS = {"W": "yellow", "R": "magenta", "N1": "cyan", "N2": "blue", "N3": "bright_blue"}
PLAIN_EVERY_S = 1800  # of the recording, between two plain lines
SHOWN = {  # of all statistics, those that answer "how was the night?"
    "TIB": "tib_min",
    "TST": "tst_min",
    "SE": "se_percent",
    "SOL": "sol_min",
    "REM latency": "rem_latency_min",
    "WASO": "waso_min",
    "awakenings": "awakenings",
    "N1": "n1_percent",
    "N2": "n2_percent",
    "N3": "n3_percent",
    "R": "r_percent",
    "cycles": "cycles",
    "unscored": "unscored_min",
}
LOUD = ("warning", "error", "no_signal", "reconnected", "refused")


class Terminal:
    """Watches every stream of an engine; a context manager, because it owns the screen's last lines.

    Args:
        console: where to write.
        zone: time zone of the clock shown; None is this machine's own.

    """

    def __init__(self, console: Console, zone: tzinfo | None = UTC) -> None:
        self._console = console
        self._zone = zone
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[state]}"),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._infos: dict[str, StreamInfo] = {}
        self._said: dict[str, float] = {}  # stream -> seconds of the last plain line

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """Say what is being staged."""
        length = "" if info.duration_s is None else f", {_hours(info.duration_s)}"
        self._console.print(
            f"{stream}: {info.name}, channel {channel}, {info.rate_hz:g} Hz{length}\n  session {session}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        self._infos[stream] = info
        self._tasks[stream] = self._progress.add_task(stream, total=info.duration_s, state="")

    def staged(self, stream: str, payload: StagePayload) -> None:
        """Show the newest stage."""
        info = self._infos[stream]
        done_s = payload.t_end.timestamp() - info.started
        if payload.stage == "no_signal":
            done_s = self._said.get(stream, 0.0)
        self._progress.update(self._tasks[stream], completed=done_s, state=self._line(payload))
        if not self._console.is_terminal and self._due(stream, done_s):
            self._console.print(f"{stream} {self._line(payload)}", highlight=False)

    def happened(self, stream: str, payload: EventPayload) -> None:
        """Show an event that a person should know of."""
        if payload.event in LOUD and not (payload.event == "reconnected" and payload.seq <= 1):
            self._console.print(
                f"{stream} {payload.event}: {payload.text}", style="yellow", highlight=False, soft_wrap=True
            )

    def broker(self, status: MqttStatus) -> None:
        """Say when the broker comes and goes."""
        if status.connected:
            self._console.print(f"MQTT {status.protocol}: connected", highlight=False)
        elif status.last_error:
            self._console.print(
                f"MQTT: {status.last_error} (staging goes on; epochs wait in the session file)",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )

    def _due(self, stream: str, done_s: float) -> bool:
        last = self._said.get(stream)
        if last is not None and done_s - last < PLAIN_EVERY_S:
            return False
        self._said[stream] = done_s
        return True

    def _line(self, payload: StagePayload) -> str:
        clock = payload.t_end.astimezone(self._zone).strftime("%H:%M:%S")
        sure = "    " if payload.confidence is None else f"{payload.confidence:4.0%}"
        colour = COLOURS.get(payload.stage, "white")
        quality = payload.quality
        why = f" ({', '.join(quality.reasons)})" if quality.reasons else ""
        return f"{clock}  [{colour}]{payload.stage:8}[/] {sure}  {quality.grade}{why}"


def hypnogram(labels: Sequence[Label], width: int = 72) -> list[str]:
    """Draw a night in five rows of text; each column shows the most frequent label of its epochs."""
    width = max(1, min(width, len(labels)))
    columns = []
    for column in range(width):
        part = labels[column * len(labels) // width : (column + 1) * len(labels) // width]
        columns.append(Counter(part).most_common(1)[0][0] if part else "unscored")
    return [
        f"{row:>8} " + "".join("█" if label == row else " " for label in columns)
        for row in ("W", "R", "N1", "N2", "N3", "unscored")
        if row != "unscored" or "unscored" in columns
    ]


def show_night(console: Console, labels: Sequence[Label], statistics: Statistics) -> None:
    """Print hypnogram and statistics, each with its definition."""
    console.print()
    for line in hypnogram(labels, console.width - 12):
        console.print(line, highlight=False, markup=False, style=COLOURS.get(line.split()[0], "white"))
    console.print(f"{'':8} {_hours(len(labels) * EPOCH_S)} in {len(labels)} epochs of {EPOCH_S} s\n")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    values = statistics.to_json()
    for name, field in SHOWN.items():
        unit, meaning = DEFINITIONS[field]
        value = values[field]
        shown = "-" if value is None else f"{value:.1f}".removesuffix(".0")
        table.add_row(name, f"{shown} {unit}", meaning)
    console.print(table)


def show_agreement(console: Console, agreement: Agreement, against: str) -> None:
    """Print agreement and confusion."""
    accuracy, kappa, macro_f1 = (
        "undefined" if value is None else f"{value:.3f}"
        for value in (agreement.accuracy, agreement.kappa, agreement.macro_f1)
    )
    console.print(
        f"\nagreement with {against}: {agreement.n} epochs, accuracy {accuracy}, kappa {kappa}, "
        f"macro-F1 {macro_f1}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("truth \\ scored", *STAGES, box=None, pad_edge=False)
    for stage, row in zip(STAGES, agreement.confusion, strict=True):
        table.add_row(stage, *(str(count) for count in row))
    console.print(table)


@contextmanager
def watched(console: Console, text: str) -> Iterator[Callable[[float], None]]:
    """Give a function that takes the share done, 0 to 1: a bar on a terminal, quiet elsewhere."""
    columns = TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), TaskProgressColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
