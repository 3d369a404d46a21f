"""A session file as a whole night: its hypnogram, what happened, and its signal as the network saw it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer import frontend
from streamer.channels import choose
from streamer.journal import JournalReader, Meta
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, STAGES, UNSCORED, Gap, Item
from streamer.payloads import EpochPayload, EventPayload, PublishedStage
from streamer.settings import SignalSettings
from streamer.statistics import Statistics, statistics

UNLISTED = "not in the session file"
Progress = Callable[[float], None]  # told the share that is done, 0..1


def unwatched(share: float) -> None:
    """Nobody looks on."""


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """One session as it was recorded; nothing in here was scored again.

    Attributes:
        path: of the session file.
        meta: what the file says about itself.
        channel: the derivation that was staged.
        epochs: every committed epoch; `labels` puts them on the 30 s grid.
        labels: one stage per 30 s since sample 0; "unscored" where no epoch was committed.
        gaps: what was lost, in device samples, by position.
        events: in order.
        n_samples: index one past the last device sample, lost or not.
        lights_off: epoch with which the night began; 0 if nobody said.
        lights_on: one past its last epoch; the end if nobody said.
        ended: the engine closed the session; False after a crash, or while it is still recorded.
        missing: what of the session could not be read, a line each; empty if all of it was.

    """

    path: Path
    meta: Meta
    channel: str
    epochs: tuple[EpochPayload, ...]
    labels: tuple[PublishedStage, ...]
    gaps: tuple[Gap, ...]
    events: tuple[EventPayload, ...]
    n_samples: int
    lights_off: int
    lights_on: int
    ended: bool
    missing: tuple[str, ...] = ()

    @property
    def started(self) -> float:
        """Unix time of sample 0."""
        return self.meta.info.started

    @property
    def duration_s(self) -> float:
        """From sample 0 to the last, losses included."""
        return self.n_samples / self.meta.info.rate_hz

    @property
    def lost_s(self) -> float:
        """Of signal, by the ledger."""
        return sum(gap.stop - gap.start for gap in self.gaps) / self.meta.info.rate_hz

    def marked(self, event: str) -> bool:
        """Whether such an event happened."""
        return any(one.event == event for one in self.events)

    def statistics(self) -> Statistics:
        """Of the time between lights off and lights on."""
        return statistics(self.labels, self.lights_off, self.lights_on)

    def probabilities(self) -> NDArray[np.float64]:
        """(epochs, 5) in the order of STAGES; NaN where nothing was scored."""
        out = np.full((len(self.labels), len(STAGES)), np.nan)
        for epoch in self.epochs:
            if epoch.probabilities is not None:
                out[epoch.epoch] = [getattr(epoch.probabilities, stage) for stage in STAGES]
        return out

    def seconds_of(self, event: EventPayload) -> float:
        """When it happened on the recording's own clock, in seconds since sample 0.

        The events of older session files do not say so themselves. There a trigger says where its window
        ended and a command the epoch that it fell into; all else only has the time of the host, which in a
        replay is not the recording's.
        """
        said = event.data.get("end") if event.at_s is None else event.at_s
        if isinstance(said, int | float):
            return float(said)
        epoch = event.data.get("epoch")
        if isinstance(epoch, int):
            return float(epoch * EPOCH_S)
        begin = event.data.get("t_start")
        when = datetime.fromisoformat(begin) if isinstance(begin, str) else event.t
        return when.timestamp() - self.started


def read_night(path: Path) -> Night:
    """Read all of a session but its samples; it may still be recorded.

    Raises:
        JournalError: the file is missing, foreign or damaged; a row that no journal writes is left out, and
            said in `missing`.

    """
    with JournalReader(path) as reader:
        if reader.died:  # or it is a copy, whose parts may not fit together
            reader.check()
        meta = reader.meta
        epochs = tuple(reader.epochs())
        events = tuple(reader.events())
        gaps = tuple(reader.gaps("start"))
        n_samples = reader.last().index
        missing = _missing(reader)
    labels: list[PublishedStage] = [UNSCORED] * (max((one.epoch for one in epochs), default=-1) + 1)
    for epoch in epochs:
        labels[epoch.epoch] = epoch.stage
    off, on = _lights(events, meta.info.started, len(labels))
    label = choose(meta.info.channels, _signal(meta).channel, [meta.info.rate_hz] * len(meta.info.channels))
    return Night(
        path=path,
        meta=meta,
        channel=label.label,
        epochs=epochs,
        labels=tuple(labels),
        gaps=gaps,
        events=events,
        n_samples=n_samples,
        lights_off=off,
        lights_on=on,
        ended=any(event.event == "session_ended" for event in events),
        missing=missing,
    )


def _missing(reader: JournalReader) -> tuple[str, ...]:
    """What could not be read, samples that are not even in the ledger among it."""
    holes = reader.holes()
    if not holes:
        return reader.missing
    lost = f"{holes / reader.meta.info.rate_hz:.1f} s of signal are neither in the file nor in its ledger"
    return (*reader.missing, lost)


def items(path: Path) -> Generator[Item, None, None]:
    """All samples and gaps of a session, in order and without holes or overlaps, in the source's units."""
    with JournalReader(path) as reader:
        ledger = _Ledger(reader.gaps("start"))
        at = 0
        for chunk in reader.samples():
            yield from ledger.between(at, chunk.start)
            yield chunk
            at = chunk.stop
        yield from ledger.between(at, None)


class _Ledger:
    """Reads gaps, in the order of their places, along with the samples; samples outweigh them."""

    def __init__(self, gaps: Iterator[Gap]) -> None:
        self._gaps = gaps
        self._next = next(gaps, None)

    def between(self, at: int, stop: int | None) -> Iterator[Gap]:
        """Say what is known of the stretch from `at` to `stop`; None: to the last gap's end."""
        while (gap := self._next) is not None and (stop is None or gap.start < stop):
            if gap.start > at:
                yield Gap(at, gap.start, UNLISTED)
                at = gap.start
            end = gap.stop if stop is None else min(gap.stop, stop)
            if end > at:
                yield Gap(at, end, gap.reason, gap.arrived)
                at = end
            if stop is not None and gap.stop > stop:
                return
            self._next = next(self._gaps, None)
        if stop is not None and stop > at:
            yield Gap(at, stop, UNLISTED)


def conditioned(night: Night, progress: Progress = unwatched) -> NDArray[np.float32]:
    """The derivation as the network saw it: (labels * 3000,) µV at 100 Hz, 0.3-35 Hz; NaN where lost."""

    def watched() -> Iterator[Item]:
        for item in items(night.path):
            yield item
            progress(item.stop / max(night.n_samples, 1))

    found = frontend.conditioned(watched(), night.meta.info, _signal(night.meta))
    out = np.full(len(night.labels) * EPOCH_SAMPLES, np.nan, dtype=np.float32)
    length = min(len(out), len(found))
    out[:length] = found[:length]
    return out


def _signal(meta: Meta) -> SignalSettings:
    """How the stream became one derivation; a session without settings took the defaults."""
    return SignalSettings.model_validate(meta.settings.get("signal", {}))


def _lights(events: Sequence[EventPayload], started: float, n_epochs: int) -> tuple[int, int]:
    """First epoch in bed and one past the last, from the last time that each was said."""
    off, on = 0, n_epochs
    for event in events:
        if event.event not in ("lights_off", "lights_on"):
            continue
        epoch = event.data.get("epoch")
        if not isinstance(epoch, int):
            epoch = round((event.t.timestamp() - started) / EPOCH_S)
        epoch = min(max(epoch, 0), n_epochs)
        if event.event == "lights_off":
            off, on = epoch, n_epochs
        elif on == n_epochs:  # as in the engine: what comes after lights on does not belong to the night
            on = max(epoch, off)
    return off, on
