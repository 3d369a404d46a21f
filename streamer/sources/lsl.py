"""A live stream of the lab streaming layer (LSL): found, opened, and found again after it was lost.

liblsl's calls block, so all are made on one worker thread, in slices so short that a cancellation does not
wait long. liblsl's own recovery stays off because it hides losses, and its dejittering because it smooths
times over them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np

from streamer.channels import check_rate
from streamer.clock import Clock, SystemClock, retry_after_s, suspended_s
from streamer.errors import SourceError
from streamer.messages import Channel, Floats, Item, StreamInfo
from streamer.sources.devicetime import HostChecked
from streamer.sources.liblsl import load_pylsl
from streamer.sources.settings import LslSettings
from streamer.sources.source import TOGETHER_S
from streamer.sources.timeline import Timeline
from streamer.sources.worker import Worker

pylsl = load_pylsl()  # this module is imported only when an LSL stream is used

LOOK_S = 1.0  # one search of the network; liblsl needs half a second to hear every outlet
TELL_S = 10.0  # between two remarks on which streams there are instead
PULL_S = 0.05  # longest wait of one call for samples, where they are wanted at once
SLICE_S = 0.25  # the same, where a second is waited for
OPEN_S = 2.0  # longest wait for a stream that was just seen to answer
CLOSE_S = 1.0  # longest wait for the call under way to end
AHEAD_S = 60.0  # a first time that is further from now comes from another computer's clock
BUFFER_S = 360  # liblsl keeps so much; after that it drops samples silently
BACKOFF_S = (0.5, 10.0)
MANY = 1000  # liblsl stops searching once it has found so many streams
PATIENCE_S = 60.0  # longest time without samples before the next reconnect
DEFAULT_TYPE = "EEG"  # if the settings ask for nothing else


class LslSource:
    """One LSL stream as a source.

    `info` is set on entering, which waits up to `resolve_s` for the first sample to know when it was taken;
    if none comes, index 0 is the end of that wait. An outlet that is lost, or sends nothing for `silence_s`,
    is searched for until it is back, by its source_id or else by its name. What was missed becomes a gap. Its
    times are checked against this computer's clock. All channels of the stream are passed on; the derivation
    chooses among them.
    """

    info: StreamInfo

    def __init__(self, settings: LslSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self.remarks: deque[str] = deque()
        self._clock = clock or SystemClock()
        self._inlet: Any = None  # pylsl.StreamInlet; touched by the worker thread only
        self._source_id = ""  # of the stream that was found
        self._patience_s = settings.silence_s  # grows while reconnecting does not help
        self._missing: Callable[[], int] = lambda: 0  # see `Patient`
        self._closing = False  # read by the worker thread
        self._heard = 0.0  # steady s of the last samples, or of the last reconnect

    async def __aenter__(self) -> Self:
        """Find the stream and subscribe to it.

        Raises:
            SourceError: none matches, several do, the predicate is not XPath, or the stream has no regular
                rate or no numbers.
            SignalError: its rate is outside 50-1024 Hz.

        """
        self._worker = Worker("lsl")
        try:
            await self._worker.call(self._check_predicate)
            found = await self._find()
            opened = await self._open_found(found)
            self._early = await self._first_samples()
        except BaseException:
            await self._worker.close(self._drop, CLOSE_S)
            raise
        self.info = replace(opened, started=self._taken(self._early[0]))
        self._source_id = found.source_id()
        self._timeline = Timeline(opened.rate_hz, HostChecked(opened.rate_hz, self.remarks))
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Unsubscribe and end the worker thread."""
        self._closing = True
        await self._worker.close(self._drop, CLOSE_S)

    def wait_for(self, missing: Callable[[], int]) -> None:
        """As `Patient`: each wake-up of the thread costs more than what is done with the samples."""
        self._missing = missing

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Chunks and gaps in order, until the source is closed.

        Raises:
            SourceError: the stream came back as something else.

        """
        times, samples = self._early
        begun = self._heard = self._clock.monotonic()
        waiting = times.shape[0] == 0
        while True:
            now = self._clock.monotonic()
            if times.shape[0]:
                if waiting:  # by this computer's clock: the device's may be another
                    self._timeline.begin(now - begun)
                    waiting = False
                self._heard, self._patience_s = now, self._settings.silence_s
            for item in self._timeline.push(times, samples, now):
                yield item
            times, samples = await self._next()

    async def _next(self) -> tuple[Floats, Floats]:
        """Return the samples since the last call. Reconnects if none arrived for too long.

        A stream without samples may come from a silent device or be a dead connection; only a new connection
        tells which.
        """
        if self._clock.monotonic() - self._heard >= self._patience_s:
            await self._return()
            self._patience_s = min(2 * self._patience_s, max(PATIENCE_S, self._settings.silence_s))
        try:
            return await self._worker.call(partial(self._pull, self._missing()))
        except pylsl.util.LostError:
            await self._return()
            return np.empty(0), np.empty((len(self.info.channels), 0))

    async def _first_samples(self) -> tuple[Floats, Floats]:
        """Return the first samples, or none if the stream stays silent for `resolve_s`."""
        deadline = self._clock.monotonic() + self._settings.resolve_s
        while True:
            try:
                times, samples = await self._worker.call(self._pull)
            except pylsl.util.LostError as error:
                raise SourceError("the LSL stream was lost while it was opened; start it again") from error
            if times.shape[0] or self._clock.monotonic() >= deadline:
                return times, samples

    def _taken(self, times: Floats) -> float:
        """Return the Unix time of the first sample; now, if there is none or its clock is another one."""
        ago = float(pylsl.local_clock() + suspended_s() - times[0]) if times.shape[0] else 0.0
        return self._clock.wall() - (ago if abs(ago) < AHEAD_S else 0.0)

    async def _find(self) -> Any:
        """Look until exactly one stream matches."""
        tell_at = self._clock.monotonic()  # when to say next that nothing was found
        deadline = tell_at + self._settings.resolve_s
        while True:
            found = await self._worker.call(self._look)
            if len(found) == 1:
                self.remarks.clear()  # they said that nothing was found
                return found[0]
            if len(found) > 1:
                raise SourceError(
                    f"{len(found)} LSL streams match {_asked(self._settings)}: {_listing(found)}; "
                    "say which by name, type, source_id or predicate"
                )
            if self._clock.monotonic() < min(tell_at, deadline):
                continue
            seen = await self._worker.call(lambda: pylsl.resolve_streams(LOOK_S))
            there = f"there are: {_listing(seen)}; is it on, and is the firewall open for LSL?"
            if self._clock.monotonic() >= deadline:
                raise SourceError(
                    f"no LSL stream matches {_asked(self._settings)} within {self._settings.resolve_s:g} s; "
                    f"{there}"
                )
            self.remarks.append(f"no LSL stream matches {_asked(self._settings)} so far; {there}")
            tell_at = self._clock.monotonic() + TELL_S

    def _check_predicate(self) -> None:
        """Refuse a predicate that is not XPath: with it liblsl finds nothing and does not say why."""
        predicate = self._settings.predicate
        if predicate is None:
            return
        try:
            pylsl.ContinuousResolver(pred=predicate)
        except RuntimeError as error:
            raise SourceError(
                f"LSL predicate {predicate!r} is not XPath; write, say, \"name='Muse' and channel_count=4\""
            ) from error

    def _look(self) -> list[Any]:
        """Return the streams that answer now and match the settings."""
        if self._settings.predicate is None:
            seen = pylsl.resolve_streams(LOOK_S)
        else:
            seen = pylsl.resolve_bypred(self._settings.predicate, MANY, LOOK_S)
        return [stream for stream in seen if _matches(stream, self._settings)]

    async def _open_found(self, found: Any) -> StreamInfo:
        """Open a stream for the first time; raise if it does not answer."""
        try:
            return await self._open(found)
        except (pylsl.util.TimeoutError, pylsl.util.LostError) as error:
            raise SourceError(
                f"LSL stream {found.name()!r} at {found.hostname()} was seen but does not answer; "
                "open the firewall for LSL's ports (16571-16604, TCP and UDP)"
            ) from error

    async def _open(self, found: Any) -> StreamInfo:
        """Check what was found, subscribe, and describe it."""
        _check(found)
        described = await self._worker.call(lambda: self._subscribe(found))
        rate_hz = float(described.nominal_srate())
        return StreamInfo(described.name(), rate_hz, _channels(described), self._clock.wall())

    def _subscribe(self, found: Any) -> Any:
        """Open the stream on the worker thread; the first time correction blocks until it has an estimate."""
        self._inlet = pylsl.StreamInlet(
            found, max_buflen=BUFFER_S, recover=False, processing_flags=pylsl.proc_clocksync
        )
        try:
            described = self._inlet.info(OPEN_S)
            self._inlet.time_correction(OPEN_S)
            self._inlet.open_stream(OPEN_S)
        except (pylsl.util.TimeoutError, pylsl.util.LostError):
            self._drop()
            raise
        self._buffer = np.empty(
            (max(64, int(described.nominal_srate())), described.channel_count()), _dtype(found)
        )
        return described

    def _pull(self, missing: int = 0) -> tuple[Floats, Floats]:
        """Return the samples that are `missing`, as far as they come within `TOGETHER_S`.

        0: what arrives within `PULL_S`. Gives (n,) seconds and (channels, n) samples.
        """
        buffer, stamps = self._buffer, list[float]()
        most, slices, wait_s = buffer.shape[0], 1, PULL_S
        if missing:
            most, slices, wait_s = min(missing, most), round(TOGETHER_S / SLICE_S), SLICE_S
        while slices and len(stamps) < most and not self._closing:
            room = buffer[len(stamps) : most]
            try:
                stamps += self._inlet.pull_chunk(wait_s, room.shape[0], dest_obj=room)[1]
            except pylsl.util.LostError:
                if not stamps:  # else the next call finds out again
                    raise
                break
            slices -= 1
        # LSL's clock stops while the computer sleeps; without this the night would show no gap.
        times = np.asarray(stamps, dtype=np.float64) + suspended_s()
        return times, buffer[: times.shape[0]].T.astype(np.float64)

    async def _return(self) -> None:
        """Look for a lost stream, with growing pauses, until it is back unchanged.

        Raises:
            SourceError: it is back with another rate or other channels.

        """
        await self._worker.call(self._drop)
        for failures in itertools.count(1):
            found = self._same(await self._worker.call(self._look))
            if found is not None and await self._reopened(found):
                break
            await self._clock.sleep(retry_after_s(failures, *BACKOFF_S))
        self._timeline.reconnected()
        self._heard = self._clock.monotonic()

    def _same(self, found: Sequence[Any]) -> Any:
        """Pick the lost stream among those that match, by source_id, else by name; None if unsure.

        Another one that matches may be a neighbour's: a request by type matches every headband in the house.
        """
        mine = [stream for stream in found if self._source_id and stream.source_id() == self._source_id]
        if mine:  # the dead outlet may still be listed beside the new one
            return max(mine, key=lambda stream: float(stream.created_at()))
        namesakes = [stream for stream in found if stream.name() == self.info.name]
        return namesakes[0] if len(namesakes) == 1 else None

    async def _reopened(self, found: Any) -> bool:
        """Subscribe to the stream that is back; False if it is gone again."""
        was = self.info
        count, rate_hz = found.channel_count(), found.nominal_srate()
        if (rate_hz, count) != (was.rate_hz, len(was.channels)):
            raise SourceError(self._changed(f"{count} channels at {rate_hz:g} Hz"))
        try:
            back = await self._open(found)
        except (pylsl.util.TimeoutError, pylsl.util.LostError):
            return False
        if back.channels != was.channels:
            raise SourceError(self._changed(_named(back)))
        return True

    def _changed(self, found: str) -> str:
        was = self.info
        return (
            f"LSL stream {was.name!r} was lost and came back with {found}; it had {_named(was)} "
            f"at {was.rate_hz:g} Hz; start a new session"
        )

    def _drop(self) -> None:
        """Unsubscribe; liblsl's destructor does the rest."""
        self._inlet = None


def _named(info: StreamInfo) -> str:
    """Describe channels briefly."""
    shown = ", ".join(
        f"{channel.label} ({channel.unit})" if channel.unit else channel.label
        for channel in info.channels[:8]
    )
    return f"{len(info.channels)} channels ({shown}{', ...' if len(info.channels) > 8 else ''})"


def _matches(stream: Any, settings: LslSettings) -> bool:
    asked = {"name": settings.name, "type": settings.type, "source_id": settings.source_id}
    if not any(asked.values()) and settings.predicate is None:
        asked["type"] = DEFAULT_TYPE
    return all(getattr(stream, key)() == value for key, value in asked.items() if value is not None)


def _asked(settings: LslSettings) -> str:
    asked = settings.model_dump(include={"name", "type", "source_id", "predicate"})
    named = ", ".join(f"{key} {value!r}" for key, value in asked.items() if value is not None)
    return named or f"type {DEFAULT_TYPE!r}"


def _listing(streams: Sequence[Any]) -> str:
    """Streams in one line."""
    return (
        ", ".join(
            f"{stream.name()!r} (type {stream.type()!r}, {stream.channel_count()} channels at "
            f"{stream.nominal_srate():g} Hz, source_id {stream.source_id()!r}, on {stream.hostname()})"
            for stream in sorted(streams, key=lambda stream: str(stream.name()))
        )
        or "none"
    )


def _check(stream: Any) -> None:
    """Refuse what cannot be a signal before anything is opened."""
    if stream.channel_format() == pylsl.cf_string:
        raise SourceError(f"LSL stream {stream.name()!r} carries text, not samples; name the EEG stream")
    if stream.nominal_srate() <= 0:
        raise SourceError(
            f"LSL stream {stream.name()!r} states no regular rate; set its nominal rate where it is sent"
        )
    check_rate(float(stream.nominal_srate()), f"LSL stream {stream.name()!r}")


def _channels(described: Any) -> tuple[Channel, ...]:
    """Return labels and units from desc/channels/channel; a channel without a label gets its number."""
    out = []
    entry = described.desc().child("channels").child("channel")
    for number in range(described.channel_count()):
        label = "" if entry.empty() else entry.child_value("label").strip()
        unit = "" if entry.empty() else entry.child_value("unit").strip()
        out.append(Channel(label or str(number), unit))
        entry = entry.next_sibling("channel")
    return tuple(out)


def _dtype(stream: Any) -> np.dtype[Any]:
    """Return the type of the stream's samples."""
    names = {
        pylsl.cf_float32: "f4",
        pylsl.cf_double64: "f8",
        pylsl.cf_int8: "i1",
        pylsl.cf_int16: "i2",
        pylsl.cf_int32: "i4",
        pylsl.cf_int64: "i8",
    }
    return np.dtype(names[stream.channel_format()])
