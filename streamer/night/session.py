"""Reads a session file as a whole night: hypnogram, events, gaps, and the signal as the network saw it."""

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
from streamer.night.statistics import Statistics, compute_statistics
from streamer.payloads import EpochPayload, EventPayload, PublishedStage, utc
from streamer.settings import SignalSettings
from streamer.sources.files import UNKNOWN_START

UNLISTED = "not in the session file"  # reason of a gap without an entry
Progress = Callable[[float], None]  # called with the share done, 0 to 1
NOON_S = 12 * 3600.0  # a night that begins before noon belongs to the evening before


def ignore_progress(share: float) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """One session as it was recorded; nothing is scored again.

    Attributes:
        path: the session file.
        meta: the file's metadata.
        channel: the derivation that was staged.
        epochs: every committed epoch.
        labels: one stage per 30 s from sample 0 on; "unscored" where no epoch was committed.
        gaps: in device samples, sorted by position.
        events: in the order in which they happened.
        n_samples: number of device samples, lost ones included.
        lights_off: first epoch of the night; 0 if lights off was not marked.
        lights_on: one past the last epoch of the night; the end if lights on was not marked.
        ended: whether the engine closed the session; False after a crash, or during the recording.
        missing: one line for each part of the session that could not be read.
        pruned: whether the raw samples were deleted later.

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
        """The derivation that was staged, and the fallbacks."""
        return _picks(self.meta)

    @property
    def sleeper(self) -> str:
        """Name of the sleeper: the stream's name, or the recording's for a replay without a name."""
        source = self.meta.settings.get("source")
        replayed = isinstance(source, dict) and source.get("kind") == "replay"
        return self.meta.info.name if replayed and self.meta.stream == "replay" else self.meta.stream

    @property
    def duration_s(self) -> float:
        """Duration from the first sample to the last, gaps included, s."""
        return self.n_samples / self.meta.info.rate_hz

    @property
    def lost_s(self) -> float:
        """Seconds of signal that were lost."""
        return sum(gap.stop - gap.start for gap in self.gaps) / self.meta.info.rate_hz

    def marked(self, event: str) -> bool:
        """Whether an event of this name happened."""
        return any(one.event == event for one in self.events)

    def described(self) -> dict[str, JsonValue]:
        """Start, lights and model as JSON values; times in UTC."""
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
        if epoch is None or self.started == UNKNOWN_START:
            return None
        return utc(self.started + EPOCH_S * epoch).isoformat()

    def statistics(self) -> Statistics:
        """The statistics of the time between lights off and lights on."""
        return compute_statistics(self.labels, self.lights_off, self.lights_on)

    def probabilities(self) -> NDArray[np.float64]:
        """The probabilities, (epochs, 5), in the order of STAGES; NaN where unscored."""
        out = np.full((len(self.labels), len(STAGES)), np.nan)
        for epoch in self.epochs:
            if epoch.probabilities is not None:
                out[epoch.epoch] = [getattr(epoch.probabilities, stage) for stage in STAGES]
        return out

    def seconds_of(self, event: EventPayload) -> float:
        """Return when an event happened, in seconds after sample 0.

        Events of older session files do not contain that. There a trigger has the end of its window, and a
        command its epoch; others only have the host's time, which in a replay is not the recording's.
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
    """Read all of a session but its samples; it may be in the middle of recording.

    Raises:
        JournalError: the file is missing, damaged, or not a session. A single bad row is left out and listed
            in `missing`.

    """
    with JournalReader(path) as reader:
        if reader.died:  # a crash, or a copy whose parts may not fit together
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
    """One line for each part that could not be read, among them samples that are not even listed as a gap."""
    if reader.pruned is not None:
        gone = "its raw samples were deleted, by [storage] or `sleepstream prune`; all else is here"
        return (*reader.missing, gone)
    holes = reader.holes()
    if not holes:
        return reader.missing
    lost = (
        f"{holes / reader.meta.info.rate_hz:.1f} s of signal are neither in the file nor in its list of gaps"
    )
    return (*reader.missing, lost)


def zone_of(meta: Meta) -> tzinfo:
    """Time zone in which to show a night: UTC for a replayed recording, else this machine's."""
    source = meta.settings.get("source")
    replayed = isinstance(source, dict) and source.get("kind") == "replay"
    return UTC if replayed else datetime.now().astimezone().tzinfo or UTC


def evening_of(meta: Meta) -> date | None:
    """Date of a night's evening, even if it began after midnight; None for a recording without a date."""
    if meta.info.started == UNKNOWN_START:
        return None
    return datetime.fromtimestamp(meta.info.started - NOON_S, zone_of(meta)).date()


def read_items(path: Path) -> Generator[Item, None, None]:
    """Yield all samples and gaps of a session, in order, without holes or overlaps, in the source's units."""
    with JournalReader(path) as reader:
        ledger = _Ledger(reader.gaps("start"))
        at = 0
        for chunk in reader.samples():
            yield from ledger.between(at, chunk.start)
            yield chunk
            at = chunk.stop
        yield from ledger.between(at, None)


class _Ledger:
    """Reads a session's gaps in order; where samples exist as well, these count."""

    def __init__(self, gaps: Iterator[Gap]) -> None:
        self._gaps = gaps
        self._next = next(gaps, None)

    def between(self, at: int, stop: int | None) -> Iterator[Gap]:
        """Yield the gaps that fill `at` to `stop` (None: to the end of the last gap)."""
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


def read_conditioned(night: Night, progress: Progress = ignore_progress) -> NDArray[np.float32]:
    """Return the signal that the network saw: (labels * 3000,) µV at 100 Hz, 0.3-35 Hz; NaN where lost."""

    def watched() -> Iterator[Item]:
        for item in read_items(night.path):
            yield item
            progress(item.stop / max(night.n_samples, 1))

    found = frontend.condition(watched(), night.meta.info, _signal(night.meta))
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
    """First epoch of the night, and one past its last, from the last mark of each."""
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
        elif on == n_epochs:  # as in the engine, the first lights on ends the night
            on = max(epoch, off)
    return off, on
