"""A live stream of the lab streaming layer: found, opened, found again after a loss, its gaps in its times.

liblsl blocks, so every call to it runs on one worker thread of its own, in slices short enough that a
cancellation is never kept waiting. Its own recovery and dejittering stay off: the one hides losses, the other
smooths times over them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import pylsl

from streamer.channels import check_rate
from streamer.clock import Clock, SystemClock, suspended_s
from streamer.errors import SourceError
from streamer.messages import Channel, Floats, Item, StreamInfo
from streamer.sources.settings import LslSettings
from streamer.timeline import Timeline

LOOK_S = 1.0  # one look at the network; liblsl needs half a second to hear everyone
PULL_S = 0.05  # longest that samples wait for company
OPEN_S = 2.0  # for a stream that was just seen to answer
CLOSE_S = 1.0  # for the call that is under way to end
AHEAD_S = 60.0  # a first time further than this from now is on no clock of ours
BUFFER_S = 360  # what liblsl keeps for us, when it would start to drop silently
BACKOFF_S = (0.5, 10.0)
DEFAULT_TYPE = "EEG"  # when nothing else is asked for

T = TypeVar("T")


class LslSource:
    """One LSL stream as a source.

    `info` is set on entering, which waits a while for the first sample, index 0, to know when it was taken. A
    lost outlet is looked for until it is back, whether or not it has a source_id, and what was
    missed becomes a gap. Every channel of the stream is
    passed on; the conditioner chooses.
    """

    info: StreamInfo

    def __init__(self, settings: LslSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._inlet: Any = None  # pylsl.StreamInlet; touched by the worker thread only
        self._worker: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Find the stream and subscribe to it.

        Raises:
            SourceError: none matches, several do, or it has no regular rate or no numbers.
            SignalError: its rate is outside 50-1024 Hz.

        """
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="lsl")
        try:
            opened = await self._open(await self._find())
            self._early = await self._first_samples()
        except BaseException:
            await self._close()
            raise
        self.info = replace(opened, started=self._taken(self._early[0]))
        self._timeline = Timeline(opened.rate_hz)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribe and end the worker thread."""
        await self._close()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Chunks and gaps in order, until the source is closed.

        Raises:
            SourceError: the stream came back as something else, or its times make no sense.

        """
        times, samples = self._early
        for item in self._timeline.push(times, samples, self._clock.monotonic()):
            yield item
        while True:
            try:
                times, samples = await self._call(self._pull)
            except pylsl.util.LostError:
                await self._return()
                continue
            now = self._clock.monotonic()
            for item in self._timeline.push(times, samples, now):
                yield item

    async def _first_samples(self) -> tuple[Floats, Floats]:
        """The first samples, or none if the stream stays silent for as long as it may take to be found."""
        deadline = self._clock.monotonic() + self._settings.resolve_s
        while True:
            try:
                times, samples = await self._call(self._pull)
            except pylsl.util.LostError as error:
                raise SourceError("the LSL stream was lost while it was opened; start it again") from error
            if times.shape[0] or self._clock.monotonic() >= deadline:
                return times, samples

    def _taken(self, times: Floats) -> float:
        """Unix time of the first sample; now, if there is none or its clock is a foreign one."""
        ago = float(pylsl.local_clock() + suspended_s() - times[0]) if times.shape[0] else 0.0
        return self._clock.wall() - (ago if abs(ago) < AHEAD_S else 0.0)

    async def _find(self) -> Any:
        """Look until exactly one stream matches."""
        deadline = self._clock.monotonic() + self._settings.resolve_s
        while True:
            seen = await self._call(lambda: pylsl.resolve_streams(LOOK_S))
            found = [stream for stream in seen if _matches(stream, self._settings)]
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                raise SourceError(
                    f"{len(found)} LSL streams match {_asked(self._settings)}: {_listing(found)}; "
                    "say which by name, type or source_id"
                )
            if self._clock.monotonic() >= deadline:
                raise SourceError(
                    f"no LSL stream matches {_asked(self._settings)} within {self._settings.resolve_s:g} s; "
                    f"there are: {_listing(seen)}; is it on, and is the firewall open for LSL?"
                )

    async def _open(self, found: Any) -> StreamInfo:
        """Check what was found, subscribe, and describe it."""
        _check(found)
        described = await self._call(lambda: self._subscribe(found))
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
        except pylsl.util.TimeoutError as error:
            self._drop()
            raise SourceError(
                f"LSL stream {found.name()!r} at {found.hostname()} was seen but does not answer; "
                "open the firewall for LSL's ports (16571-16604, TCP and UDP)"
            ) from error
        self._buffer = np.empty(
            (max(64, int(described.nominal_srate())), described.channel_count()), _dtype(found)
        )
        return described

    def _pull(self) -> tuple[Floats, Floats]:
        """What came within `PULL_S`: (n,) seconds and (channels, n) samples."""
        _, stamps = self._inlet.pull_chunk(PULL_S, self._buffer.shape[0], dest_obj=self._buffer)
        # LSL's clock stops while the computer sleeps; then the night would seem to go on without a gap.
        times = np.asarray(stamps, dtype=np.float64) + suspended_s()
        return times, self._buffer[: times.shape[0]].T.astype(np.float64)

    async def _return(self) -> None:
        """Look for a lost stream, ever more rarely, until it is back as what it was.

        Raises:
            SourceError: it is back with another rate or other channels.

        """
        await self._call(self._drop)
        wait = BACKOFF_S[0]
        while True:
            seen = await self._call(lambda: pylsl.resolve_streams(LOOK_S))
            found = [stream for stream in seen if _matches(stream, self._settings)]
            same = [stream for stream in found if stream.name() == self.info.name] or found
            if len(same) == 1:
                try:
                    back = await self._open(same[0])
                except pylsl.util.LostError:
                    back = None  # gone again
                if back is not None:
                    self._compare(back)
                    return
            await self._clock.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, BACKOFF_S[1])

    def _compare(self, back: StreamInfo) -> None:
        was = self.info
        if (back.rate_hz, back.channels) != (was.rate_hz, was.channels):
            raise SourceError(
                f"LSL stream {was.name!r} was lost and came back with {len(back.channels)} channels at "
                f"{back.rate_hz:g} Hz, it had {len(was.channels)} at {was.rate_hz:g} Hz; start a new session"
            )

    async def _call(self, work: Callable[[], T]) -> T:
        if self._worker is None:
            raise RuntimeError("the source is not open")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _drop(self) -> None:
        """Unsubscribe; liblsl's own destructor does the rest."""
        self._inlet = None

    async def _close(self) -> None:
        """Let the call that is under way finish (it is short), unsubscribe, and end the thread."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        ended = asyncio.get_running_loop().run_in_executor(worker, self._drop)
        try:
            await asyncio.wait({ended}, timeout=CLOSE_S)
        finally:
            worker.shutdown(wait=False)


def _matches(stream: Any, settings: LslSettings) -> bool:
    asked = {"name": settings.name, "type": settings.type, "source_id": settings.source_id}
    if not any(asked.values()):
        asked["type"] = DEFAULT_TYPE
    return all(getattr(stream, key)() == value for key, value in asked.items() if value is not None)


def _asked(settings: LslSettings) -> str:
    asked = {"name": settings.name, "type": settings.type, "source_id": settings.source_id}
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
    """Labels and units from desc/channels/channel, or numbers where the stream gives none."""
    out = []
    entry = described.desc().child("channels").child("channel")
    for number in range(described.channel_count()):
        label = "" if entry.empty() else entry.child_value("label").strip()
        unit = "" if entry.empty() else entry.child_value("unit").strip()
        out.append(Channel(label or str(number), unit))
        entry = entry.next_sibling("channel")
    return tuple(out)


def _dtype(stream: Any) -> np.dtype[Any]:
    """The type in which samples cross from liblsl."""
    names = {
        pylsl.cf_float32: "f4",
        pylsl.cf_double64: "f8",
        pylsl.cf_int8: "i1",
        pylsl.cf_int16: "i2",
        pylsl.cf_int32: "i4",
        pylsl.cf_int64: "i8",
    }
    return np.dtype(names[stream.channel_format()])
