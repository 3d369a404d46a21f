"""`sleepstream fit`: shows the contact of every electrode before sleep, and how to improve it."""

from __future__ import annotations

import argparse
import asyncio
import signal as signals
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamer.channels import Pick, choose_all
from streamer.clock import Clock, SystemClock
from streamer.derivation import Derivation
from streamer.errors import UsageError
from streamer.messages import Chunk, Item, Marker, Quality, StreamInfo
from streamer.quality import QualityMeter
from streamer.settings import SignalSettings, StreamSettings, load
from streamer.sources.opener import open_source
from streamer.sources.source import Source
from streamer.sources.units import is_voltage

SPAN_S = 5  # seconds that are graded: long enough to be reliable, short enough to follow an adjustment
SILENT_S = 3.0  # without samples for so long, contacts are shown as lost
PLAIN_EVERY_S = 5.0  # between two reports without a terminal
MEASURING = "measuring"  # too few samples so far
# What to do for each reason of a bad quality, most important first.
ADVICE = {
    MEASURING: "one moment",
    "lost": "samples are lost: bring the receiver nearer, charge the band",
    "railed": "no contact: press the electrode on, clear hair away",
    "flat": "no signal: is it plugged in and on the skin?",
    "line noise": "mains hum: moisten the electrode, move chargers and cables away",
    "movement": "hold still for a moment",
    "muscle": "relax jaw and forehead",
}
HARMLESS = {"muscle", "movement"}  # normal while a person puts on the band


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream fit`."""
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="the settings file")
    parser.add_argument("--stream", metavar="NAME", help="which sleeper (default: the first)")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="stop after so many seconds (default: on Ctrl-C)"
    )


def run(asked: argparse.Namespace) -> int:
    """Run until Ctrl-C or the time is up; return the exit code, 0 if the contacts are good."""
    streams = {stream.name: stream for stream in load(asked.config).stream}
    name = asked.stream or next(iter(streams))
    if name not in streams:
        raise UsageError(f"no stream {name!r} in {asked.config}; there are: {', '.join(streams)}")
    good = asyncio.run(fit_stream(streams[name], SystemClock(), Console(), asked.seconds))
    return 0 if good else 1


@dataclass(frozen=True, slots=True)
class Contact:
    """The present contact of one channel, or of the derivation that will be staged."""

    label: str
    choices: frozenset[int]  # numbers, from 0, of the configured channels that depend on it
    quality: Quality
    amplitude_uv: float | None  # s.d. over the last second; None without samples

    @property
    def needed(self) -> bool:
        """Whether a configured channel depends on it."""
        return bool(self.choices)

    @property
    def good(self) -> bool:
        """Whether it is good enough for the night."""
        return self.quality.grade in ("good", "fair") and set(self.quality.reasons) <= HARMLESS

    @property
    def advice(self) -> str:
        """How to improve it; "" if it is good."""
        return next((text for reason, text in ADVICE.items() if reason in self.quality.reasons), "")


class Fitting:
    """Grades every voltage channel of a stream while samples arrive.

    Raises:
        UsageError: a configured channel does not exist.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings) -> None:
        wanted = choose_all(info.channels, signal.channel, [info.rate_hz] * len(info.channels))
        self._choices = [{pick.plus, pick.minus} for pick in wanted]
        single = [
            Pick(index, None, channel.label)
            for index, channel in enumerate(info.channels)
            if is_voltage(channel.unit) or any(index in choice for choice in self._choices)
        ]
        self._picks = [*single, *(pick for pick in wanted if pick.minus is not None)]
        self._derivations = [Derivation(one, info.channels, signal.unit) for one in self._picks]
        self._meters = [QualityMeter(info.rate_hz, signal.mains_hz) for _ in self._picks]
        self._rate_hz = info.rate_hz
        self._samples = 0
        self.heard: float | None = None  # when the last sample came, monotonic s
        self._looked: float | None = None  # when the contacts were first asked for, monotonic s

    def push(self, item: Item) -> None:
        """Take the next chunk or gap."""
        self._samples = item.stop
        if isinstance(item, Chunk):
            self.heard = item.arrived
        for derivation, meter in zip(self._derivations, self._meters, strict=True):
            for derived in derivation.push(item):
                meter.push(derived)

    def contacts(self, now: float) -> list[Contact]:
        """Return the contacts at monotonic time `now`, s."""
        self._looked = now if self._looked is None else self._looked
        silent = now - (self._looked if self.heard is None else self.heard) > SILENT_S
        end_s = int(self._samples / self._rate_hz)
        return [
            Contact(
                pick.label,
                frozenset(
                    n for n, choice in enumerate(self._choices) if {pick.plus, pick.minus} <= choice | {None}
                ),
                Quality("off", ("lost",), 1.0) if silent else _grade(meter, end_s),
                None if silent else meter.amplitude_uv(),
            )
            for pick, meter in zip(self._picks, self._meters, strict=True)
        ]


def _grade(meter: QualityMeter, end_s: int) -> Quality:
    """Grade the last SPAN_S seconds; at the start fewer, with the reason MEASURING."""
    if end_s >= SPAN_S:
        return meter.grade(end_s, SPAN_S)
    found = meter.grade(end_s, end_s) if end_s else Quality("poor", (), 0.0)
    return replace(found, reasons=(MEASURING, *found.reasons))


def verdict(contacts: list[Contact]) -> str:
    """The verdict on all contacts, in a few words."""
    if any(MEASURING in contact.quality.reasons for contact in contacts):
        return MEASURING
    return "good to go" if is_ready(contacts) else "not yet"


def is_ready(contacts: list[Contact]) -> bool:
    """Whether at least one configured channel is good enough for the night, with all its electrodes."""
    choices = {choice for contact in contacts for choice in contact.choices}
    return any(all(contact.good for contact in contacts if choice in contact.choices) for choice in choices)


def make_table(contacts: list[Contact]) -> Table:
    """Show the contacts as a table."""
    colour = "green" if is_ready(contacts) else "yellow"
    made = Table(
        title=f"[bold {colour}]{verdict(contacts)}[/]", title_justify="left", box=None, pad_edge=False
    )
    for heading in ("channel", "contact", "amplitude", "railed", "flat", "hum", "lost", "what to do"):
        made.add_column(heading, justify="right" if heading in ("amplitude", "lost") else "left")
    colours = {"good": "green", "fair": "green", "poor": "yellow", "off": "red"}
    for one in contacts:
        grade, *rest = _cells(one)
        made.add_row(
            one.label, f"[{colours.get(grade, 'dim')}]{grade}[/]", *rest, style=None if one.needed else "dim"
        )
    return made


def _cells(one: Contact) -> list[str]:
    reasons = one.quality.reasons
    return [
        "-" if reasons == (MEASURING,) else one.quality.grade,
        "-" if one.amplitude_uv is None else f"{one.amplitude_uv:.0f} µV",
        *("yes" if name in reasons else "no" for name in ("railed", "flat", "line noise")),
        f"{one.quality.lost_fraction:.0%}",
        one.advice,
    ]


def _print(console: Console, contacts: list[Contact]) -> None:
    """Print the contacts as plain lines, without the verdict."""
    for one in contacts:
        grade, amplitude, railed, flat, hum, lost, advice = _cells(one)
        text = f"{one.label}: {grade}, {amplitude}, railed {railed}, flat {flat}, hum {hum}, lost {lost}"
        console.print(f"{text}; {advice}" if advice else text, highlight=False, markup=False, soft_wrap=True)


async def fit(
    source: Source, signal: SignalSettings, clock: Clock, console: Console, stop: asyncio.Event
) -> bool:
    """Show the contacts of an open source until it ends or `stop` is set; return whether they are good.

    Raises:
        UsageError: a configured channel does not exist.
        SourceError: the device has changed its rate or channels.

    """
    fitting = Fitting(source.info, signal)
    console.print(f"{source.info.name}, {source.info.rate_hz:g} Hz", highlight=False, markup=False)

    def look() -> list[Contact]:
        return fitting.contacts(clock.monotonic())

    tasks = [
        asyncio.create_task(_listen(source, fitting), name="fit listen"),
        asyncio.create_task(stop.wait(), name="fit stop"),
    ]
    if not console.is_terminal:
        tasks.append(asyncio.create_task(_tell(look, clock, console), name="fit tell"))
    live = Live(get_renderable=lambda: make_table(look()), console=console, refresh_per_second=2)
    try:
        with live if console.is_terminal else nullcontext():
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
    contacts = look()
    if not console.is_terminal:  # on a terminal the table stays
        _print(console, contacts)
        console.print(verdict(contacts), highlight=False)
    return is_ready(contacts)


async def fit_stream(settings: StreamSettings, clock: Clock, console: Console, seconds: float | None) -> bool:
    """Open the stream's source and run `fit` until Ctrl-C or for `seconds`; return whether contacts are good.

    Raises:
        SourceError: the device cannot be opened.
        UsageError: a configured channel does not exist.

    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signals.SIGINT, signals.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_source(settings.source, settings.signal.channel, clock) as source:
        if seconds is not None:
            loop.call_later(seconds, stop.set)
        return await fit(source, settings.signal, clock, console, stop)


async def _listen(source: Source, fitting: Fitting) -> None:
    async for item in source:
        if not isinstance(item, Marker):
            fitting.push(item)


async def _tell(look: Callable[[], list[Contact]], clock: Clock, console: Console) -> None:
    """Print the contacts every few seconds, if there is no terminal."""
    while True:
        await clock.sleep(PLAIN_EVERY_S)
        _print(console, look())
