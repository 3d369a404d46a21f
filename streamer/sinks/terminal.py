"""The terminal output: a block that updates in place, or plain lines if the output is not a terminal."""

from __future__ import annotations

import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.host.printable import printable
from streamer.messages import EPOCH_S, STAGES, Label, StreamInfo
from streamer.news import MqttStatus, News, Opened, Remark
from streamer.night.agreement import Agreement
from streamer.night.statistics import DEFINITIONS, Statistics
from streamer.payloads import EventPayload, PublishedStage, StagePayload

CHANGES = 6  # changes of the stage that are shown
CALM_S = 0.5  # at least, between two updates of the block
GRADES = {"good": "green", "fair": "", "poor": "yellow", "off": "red"}
COLOURS = {"W": "yellow", "R": "magenta", "N1": "cyan", "N2": "blue", "N3": "bright_blue"}
PLAIN_EVERY_S = 1800  # of the recording, between two plain lines
SHOWN = {  # the statistics for the summary of a night
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
LOUD = ("session_resumed", "warning", "error", "no_signal", "reconnected", "refused")
RINGS = ("ringing", "snoozed", "dismissed", "gave_up", "missed")  # alarm events that are shown
OFTEN = 3  # times that a line is printed; further repeats are counted
AGAIN_S = 3600.0  # until a repeated line is printed again
LINES = 200  # lines remembered for that


@dataclass(slots=True)
class _Shown:
    """What the block shows for one stream."""

    info: StreamInfo
    payload: StagePayload | None = None
    done_s: float = 0.0  # of the recording
    said_s: float | None = None  # position of the last plain line, s of the recording
    away: bool = False  # the loss of the signal was shown
    alarm: str = ""  # while it rings or snoozes
    changes: deque[tuple[str, PublishedStage]] = field(default_factory=lambda: deque(maxlen=CHANGES))


class Repeats:
    """Holds back lines that are repeated; lines that differ only in numbers count as the same."""

    def __init__(self) -> None:
        # How often a line was printed, how often held back since, and when it was printed last.
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def line(self, text: str, now: float) -> str:
        """Return the line to print at steady time `now`, or "" to hold it back."""
        key = re.sub(r"[0-9]+", "#", text)
        said, held, last = self._seen.pop(key, [0.0, 0.0, now])
        if said >= OFTEN and now - last < AGAIN_S:
            self._seen[key] = [said, held + 1, last]
            return ""
        self._seen[key] = [said + 1, 0.0, now]
        if len(self._seen) > LINES:
            self._seen.popitem(last=False)
        if held:
            return f"{text} (and {held:.0f} times before)"
        return f"{text} (from now on at most once an hour)" if said + 1 == OFTEN else text


class Terminal:
    """A sink for all streams of an engine: one block that updates in place, or plain lines if not a terminal.

    A context manager, because it owns the screen's last lines. It may wait for the terminal and so runs in
    its own thread, the only one that writes there while an engine runs.

    Args:
        console: where to write.
        zone: time zone of the clock shown; None is this machine's own.

    """

    name = "the terminal"
    wants: tuple[type, ...] = (StagePayload, EventPayload, Opened, MqttStatus, Remark)
    prompt = False

    def __init__(self, console: Console, zone: tzinfo | None = UTC) -> None:
        self._console = console
        self._zone = zone
        self._shown: dict[str, _Shown] = {}
        self._repeats = Repeats()
        self._broker: MqttStatus | None = None
        # No refresh thread: it would read state while that is being changed. Other prints are not redirected:
        # they must not wait for this screen.
        self._live = Live(
            console=console,
            get_renderable=self.block,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._refreshed = 0.0
        self._is_screen = self._console.is_terminal  # asked once: each answer is a call of the system

    def __enter__(self) -> Self:
        if self._is_screen:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def hear(self, stream: str, news: News) -> None:
        """Show news.

        Raises:
            OutputError: the terminal does not take it.

        """
        try:
            self._show(stream, news)
        except BaseException:
            with self._console.capture():  # clears rich's buffer, which would grow
                pass
            raise

    def _show(self, stream: str, news: News) -> None:
        match news:
            case StagePayload():
                self._staged(stream, news)
            case EventPayload():
                self._happened(stream, news)
            case Opened():
                self._opened(stream, news)
            case MqttStatus():
                self._broker_changed(news)
            case Remark():
                self._remark(news)
            case _:
                pass

    def _opened(self, stream: str, opened: Opened) -> None:
        """Show what is being staged."""
        info = opened.info
        length = "" if info.duration_s is None else f", {_hours(info.duration_s)}"
        what = f"{info.name}, channel {opened.channel}, {info.rate_hz:g} Hz{length}"
        self._say(f"{stream}: {what}; session {opened.session}")
        self._shown[stream] = _Shown(info)

    def _staged(self, stream: str, payload: StagePayload) -> None:
        """Show the newest stage."""
        shown = self._shown.get(stream)
        if shown is None:  # its `Opened` was dropped
            return
        before, shown.payload = shown.payload, payload
        if before is None or before.stage != payload.stage:
            shown.changes.append((self._clock(payload), payload.stage))
        if payload.stage != "no_signal":
            shown.done_s = payload.t_end.timestamp() - shown.info.started
        self._refresh()
        due = shown.said_s is None or shown.done_s - shown.said_s >= PLAIN_EVERY_S
        if due and not self._is_screen:
            shown.said_s = shown.done_s
            self._console.print(Text(f"{stream} ") + self._line(payload), soft_wrap=True)

    def _happened(self, stream: str, payload: EventPayload) -> None:
        """Show an event, if it matters to the user."""
        shown = self._shown.get(stream)
        if payload.event == "alarm":
            self._alarmed(stream, payload)
        elif payload.event == "reconnected" and shown is not None and not shown.away:
            return  # the first samples
        elif payload.event in LOUD:
            self._warn(f"{stream} {payload.event}: {payload.text}")
        if shown is not None and payload.event in ("no_signal", "error", "reconnected"):
            shown.away = payload.event != "reconnected"

    def _alarmed(self, stream: str, payload: EventPayload) -> None:
        """Show a ring, and its end."""
        what = payload.data.get("what")
        shown = self._shown.get(stream)
        if shown is not None:
            shown.alarm = str(what) if what in ("ringing", "snoozed") else ""
        if what in RINGS:
            self._say(f"{stream} alarm {str(what).replace('_', ' ')}: {payload.text}", style="bold magenta")
        self._refresh()

    def _broker_changed(self, status: MqttStatus) -> None:
        """Show when the broker comes and goes."""
        self._broker = status
        self._refresh()
        if self._is_screen:
            return
        if status.connected and status.last_error:  # it takes all but one message, or topic
            self._warn(f"MQTT: {status.last_error}")
        elif status.connected:
            self._often(f"MQTT {status.protocol}: connected")
        elif status.last_error:
            self._warn(f"MQTT: {status.last_error} (staging goes on; epochs wait in the session file)")

    def _remark(self, remark: Remark) -> None:
        """Show a remark of the program."""
        if remark.level == "INFO":
            self._say(remark.text)
            return
        if self._warn(f"{remark.level} {remark.name}: {remark.text}"):
            for line in remark.trace.splitlines():
                self._say(line)

    def _say(self, text: str, style: str = "") -> None:
        """Print one line."""
        self._console.print(printable(text), style=style, highlight=False, markup=False, soft_wrap=True)

    def _often(self, text: str, style: str = "") -> bool:
        """Print one line unless it was repeated too often lately; return whether it was printed."""
        line = self._repeats.line(text, time.monotonic())
        if line:
            self._say(line, style)
        return bool(line)

    def block(self) -> Group:
        """Draw the block: two lines per stream, a bar if the end is known, and the broker's state."""
        parts: list[RenderableType] = []
        for stream, shown in self._shown.items():
            parts.append(Text(f"{stream}  ", style="bold") + self._now(shown))
            if shown.alarm:
                parts.append(Text(f"  alarm {shown.alarm}", style="bold magenta"))
            if shown.changes:
                parts.append(self._changes(shown))
            if shown.info.duration_s:
                parts.append(ProgressBar(total=shown.info.duration_s, completed=shown.done_s, width=60))
        if self._broker is not None:
            parts.append(_broker_line(self._broker))
        return Group(*parts)

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._is_screen and now - self._refreshed >= CALM_S:
            self._refreshed = now
            self._live.refresh()

    def _now(self, shown: _Shown) -> Text:
        if shown.payload is None:
            return Text("waiting for the first 30 s", style="dim")
        lag = shown.payload.latency_ms
        return self._line(shown.payload) + Text("" if lag is None else f"  lag {lag:.0f} ms", style="dim")

    def _changes(self, shown: _Shown) -> Text:
        """List the last changes, newest first."""
        text = Text("  since", style="dim")
        for clock, stage in reversed(shown.changes):
            text.append(f" {clock[:5]} ").append(stage, COLOURS.get(stage, "white")).append(" ·")
        text.right_crop(2)
        return text

    def _clock(self, payload: StagePayload) -> str:
        return payload.t_end.astimezone(self._zone).strftime("%H:%M:%S")

    def _line(self, payload: StagePayload) -> Text:
        sure = "    " if payload.confidence is None else f"{payload.confidence:4.0%}"
        quality = payload.quality
        why = f" ({', '.join(quality.reasons)})" if quality.reasons else ""
        line = Text(f"{self._clock(payload)}  ").append(
            f"{payload.stage:8}", COLOURS.get(payload.stage, "white")
        )
        return line.append(f" {sure}  ").append(f"{quality.grade}{why}", GRADES[quality.grade])

    def _warn(self, text: str) -> bool:
        return self._often(text, "yellow")


def _broker_line(status: MqttStatus) -> Text:
    if status.connected:
        waiting = f", {status.backlog} to deliver" if status.backlog else ""
        missing = f", without {', '.join(status.left_out)}" if status.left_out else ""
        return Text(f"MQTT {status.protocol}: connected{waiting}{missing}", style="dim")
    why = status.last_error or "connecting"
    return Text(f"MQTT: {why} (staging goes on; epochs wait in the session file)", style="yellow")


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
    for name, key in SHOWN.items():
        unit, meaning = DEFINITIONS[key]
        value = values[key]
        shown = "-" if value is None else f"{value:.1f}".removesuffix(".0")
        table.add_row(name, f"{shown} {unit}", meaning)
    console.print(table)


def show_agreement(console: Console, agreement: Agreement, against: str, said: Sequence[str] = ()) -> None:
    """Print agreement and confusion, and the remarks `said` below."""
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
    for line in said:
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def watch_progress(console: Console, text: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that takes the share done, 0 to 1, and shows a bar on a terminal."""
    columns = TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), TaskProgressColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
