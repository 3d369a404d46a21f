"""A session file as a whole night: its hypnogram, what happened, and its signal as the network saw it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from streamer import frontend
from streamer.channels import Pick, choose_all
from streamer.journal import JournalReader, Meta
from streamer.messages import EPOCH_S, EPOCH_SAMPLES, STAGES, UNSCORED, Gap, Item
from streamer.night.statistics import Statistics, statistics
from streamer.payloads import EpochPayload, EventPayload, PublishedStage, utc
from streamer.settings import SignalSettings
from streamer.sources.files import UNKNOWN_START

UNLISTED = "not in the session file"
Progress = Callable[[float], None]  # told the share that is done, 0..1
NOON_S = 12 * 3600.0  # what begins before noon belongs to the evening before


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
        pruned: its samples were let go since; all else is there.

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
    pruned: bool = False

    @property
    def started(self) -> float:
        """Unix time of sample 0."""
        return self.meta.info.started

    @property
    def signal(self) -> SignalSettings:
        """How the stream became one derivation; a session without settings took the defaults."""
        return _signal(self.meta)

    @property
    def picks(self) -> tuple[Pick, ...]:
        """The derivation that was staged, and those to fall back on."""
        return _picks(self.meta)

    @property
    def sleeper(self) -> str:
        """Who slept: the stream's name; of a replay that was given none, the recording's."""
        source = self.meta.settings.get("source")
        replayed = isinstance(source, dict) and source.get("kind") == "replay"
        return self.meta.info.name if replayed and self.meta.stream == "replay" else self.meta.stream

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

    def described(self) -> dict[str, JsonValue]:
        """When it was, between which lights, and by which network; as JSON values, times in UTC."""
        off = self.lights_off if self.marked("lights_off") else None
        on = self.lights_on if self.marked("lights_on") else None
        return {
            "started": self._time_of(0),
            "lights_off": self._time_of(off),
            "lights_on": self._time_of(on),
            "lights_off_epoch": off,
            "lights_on_epoch": on,
            "model": {"name": self.meta.versions.get("model"), "weights_sha256": self.meta.model_sha256},
        }

    def _time_of(self, epoch: int | None) -> str | None:
        if epoch is None or self.started == UNKNOWN_START:  # nobody knows
            return None
        return utc(self.started + EPOCH_S * epoch).isoformat()

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
        missing, pruned = _missing(reader), reader.pruned is not None
    labels: list[PublishedStage] = [UNSCORED] * (max((one.epoch for one in epochs), default=-1) + 1)
    for epoch in epochs:
        labels[epoch.epoch] = epoch.stage
    off, on = _lights(events, meta.info.started, len(labels))
    return Night(
        path=path,
        meta=meta,
        channel=_picks(meta)[0].label,
        epochs=epochs,
        labels=tuple(labels),
        gaps=gaps,
        events=events,
        n_samples=n_samples,
        lights_off=off,
        lights_on=on,
        ended=any(event.event == "session_ended" for event in events),
        missing=missing,
        pruned=pruned,
    )


def _missing(reader: JournalReader) -> tuple[str, ...]:
    """What could not be read, samples that are not even in the ledger among it."""
    if reader.pruned is not None:
        gone = "its samples were let go, as [storage] or `sleepstream prune` said; all else is here"
        return (*reader.missing, gone)
    holes = reader.holes()
    if not holes:
        return reader.missing
    lost = f"{holes / reader.meta.info.rate_hz:.1f} s of signal are neither in the file nor in its ledger"
    return (*reader.missing, lost)


def zone_of(meta: Meta) -> tzinfo:
    """A recording's clock has no zone and is taken as UTC; a night recorded here is shown in this zone."""
    source = meta.settings.get("source")
    replayed = isinstance(source, dict) and source.get("kind") == "replay"
    return UTC if replayed else datetime.now().astimezone().tzinfo or UTC


def evening_of(meta: Meta) -> date | None:
    """The day of a night's evening, also if it began after midnight; None for a recording without a date."""
    if meta.info.started == UNKNOWN_START:
        return None
    return datetime.fromtimestamp(meta.info.started - NOON_S, zone_of(meta)).date()


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


def read_conditioned(night: Night, progress: Progress = unwatched) -> NDArray[np.float32]:
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


def _picks(meta: Meta) -> tuple[Pick, ...]:
    rates_hz = [meta.info.rate_hz] * len(meta.info.channels)
    return choose_all(meta.info.channels, _signal(meta).channel, rates_hz)


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
