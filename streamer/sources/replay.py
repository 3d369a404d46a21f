"""Plays a recording as if it were live."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Self

from streamer.channels import Pick, Wanted, check_rate, choose, doubt_name
from streamer.clock import Clock, SystemClock
from streamer.errors import UsageError
from streamer.messages import Chunk, Gap, Item, StreamInfo
from streamer.sources.recordings import open_recording
from streamer.sources.settings import ReplaySettings, Speed
from streamer.sources.source import Recording

REMARKS = 4  # of a recording, at most, in one error
MAX_SPEED_CHUNK_S = 30.0  # at full speed; smaller chunks would cost time and give the same result


class ReplaySource:
    """Plays a recording: all channels that have the rate of the chosen one. `info` is set on entering."""

    info: StreamInfo

    def __init__(self, settings: ReplaySettings, channel: Wanted, clock: Clock | None = None) -> None:
        self._settings = settings
        self._channel = channel
        self.remarks: deque[str] = deque()
        self._told = 0  # remarks of the recording that were passed on
        self._clock = clock or SystemClock()

    async def __aenter__(self) -> Self:
        """Open the file, off the event loop.

        Raises:
            RecordingError: the file is missing, damaged or of no known kind.
            UsageError: the channel is unknown or ambiguous.
            SignalError: its rate is outside 50-1024 Hz.

        """
        recording = await asyncio.to_thread(open_recording, self._settings.path, self._settings.rate_hz)
        picked, self.info = pick(recording, self._channel)
        self._items = recording.items(picked)
        self._recording = recording
        self._remark()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing is held open between reads."""

    def __aiter__(self) -> AsyncIterator[Item]:
        """Chunks and gaps in order, once."""
        chunk_s = MAX_SPEED_CHUNK_S if self._settings.speed == "max" else self._settings.chunk_s
        size = max(1, round(chunk_s * self.info.rate_hz))
        return play(self._pieces(size), self.info.rate_hz, self._settings.speed, self._clock)

    def _pieces(self, size: int) -> Iterator[Item]:
        for block in self._items:
            self._remark()
            yield from rechunk(block, size)
        self._remark()

    def _remark(self) -> None:
        """Pass on the recording's remarks since the last call."""
        said = self._recording.remarks
        self.remarks.extend(said[self._told :])
        self._told = len(said)


def pick(recording: Recording, channel: Wanted) -> tuple[list[int], StreamInfo]:
    """Pick the channels to stream (all that are sampled with the chosen one), and describe the stream.

    Raises:
        UsageError: the channel is unknown or ambiguous, or a difference of channels not sampled together.
        SignalError: its rate is outside 50-1024 Hz.

    """
    chosen = _chosen(recording, channel)
    together = list(recording.together(chosen.plus))
    if chosen.minus is not None and chosen.minus not in together:
        raise _apart(recording, chosen)
    info = _info(recording, chosen, together)
    doubt = doubt_name(recording.channels, recording.rates_hz, chosen)
    if doubt is not None:
        recording.remarks.append(doubt)
    if len(together) < len(recording.channels):  # a channel keeps its position in the file
        placed = (replace(recording.channels[index], position=index) for index in together)
        info = replace(info, channels=tuple(placed))
    return together, info


def single(recording: Recording, channels: Sequence[str]) -> tuple[list[int], StreamInfo, str]:
    """Pick the one or two channels of one derivation; also return the stream, and the derivation in it.

    `channels` are in order of preference: the first that is a label of the recording is taken. If none is,
    `choose` searches for the first of them; if the list is empty, `choose` picks a channel.

    Raises:
        UsageError: the channel is unknown or ambiguous, or a difference of channels not sampled together.
        SignalError: its rate is outside 50-1024 Hz.

    """
    there = {channel.label.casefold() for channel in recording.channels}
    known = (one for one in channels if one.casefold() in there)
    chosen = _chosen(recording, next(known, channels[0] if channels else None))
    sides = [chosen.plus] if chosen.minus is None else [chosen.plus, chosen.minus]
    info = _info(recording, chosen, picked := sorted(set(sides)))
    if not set(picked) <= set(recording.together(chosen.plus)):
        raise _apart(recording, chosen)
    return picked, info, "-".join(f"#{picked.index(side)}" for side in sides)


def _chosen(recording: Recording, channel: Wanted) -> Pick:
    """Choose the requested channel. The error for a missing one also says what was left out of the file."""
    try:
        return choose(recording.channels, channel, recording.rates_hz)
    except UsageError as error:
        if not recording.remarks:
            raise
        raise UsageError(f"{error} ({'; '.join(recording.remarks[:REMARKS])})") from error


def _apart(recording: Recording, chosen: Pick) -> UsageError:
    return UsageError(
        f"{recording.name}: {chosen.label!r} cannot be computed: its channels are not sampled together"
    )


def _info(recording: Recording, chosen: Pick, picked: Sequence[int]) -> StreamInfo:
    rate_hz = recording.rates_hz[chosen.plus]
    check_rate(rate_hz, f"channel {chosen.label!r} of {recording.name}")
    channels = tuple(recording.channels[index] for index in picked)
    return StreamInfo(recording.name, rate_hz, channels, recording.started, recording.duration_s)


async def play(
    items: Iterator[Item], rate_hz: float, speed: Speed, clock: Clock, first: int = 0
) -> AsyncIterator[Item]:
    """Yield each item at the time when its last sample would have been recorded.

    The schedule is absolute, so a slow reader does not make the night longer. Items are made in a thread.

    Args:
        items: in order.
        rate_hz: of their samples.
        speed: times real time, or "max".
        clock: time.
        first: index at which to begin; items that end before it are left out.

    """
    begun = clock.monotonic()
    while (item := await asyncio.to_thread(next, items, None)) is not None:
        if item.stop <= first:
            continue
        if speed != "max":
            wait_s = begun + (item.stop - first) / rate_hz / speed - clock.monotonic()
            if wait_s > 0:
                await clock.sleep(wait_s)
        yield replace(item, arrived=clock.monotonic())


def rechunk(item: Item, size: int) -> Iterator[Item]:
    """Cut a chunk at the multiples of `size` samples; a gap stays whole."""
    if isinstance(item, Gap):
        yield item
        return
    at = item.start
    while at < item.stop:
        stop = min(item.stop, (at // size + 1) * size)
        yield Chunk(at, item.samples[:, at - item.start : stop - item.start], item.arrived)
        at = stop
