"""Checks whether the configured devices are there, with their channel and a right clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from streamer.channels import check_rate
from streamer.clock import Clock
from streamer.doctor.checks import Finding
from streamer.errors import SignalError, SleepstreamError, UsageError
from streamer.fallback import derivation
from streamer.messages import Chunk, Item, Marker, StreamInfo
from streamer.settings import Settings, SignalSettings, StreamSettings
from streamer.sources.board import BrainflowBoard
from streamer.sources.devicetime import WATCH_S
from streamer.sources.opener import open_source
from streamer.sources.settings import BrainflowSettings, LslSettings, RdaSettings
from streamer.sources.source import Source
from streamer.web.traces import Traces, shown

LISTEN_S = 2 * WATCH_S
WRONG_CHANNEL = "correct channel under [stream.signal]"
AGAIN = "switch it on, and ask again"


def devices(settings: Settings, clock: Clock) -> list[Finding]:
    """Look for every device of the settings, all at once; blocks for as long as `resolve_s` and some seconds.

    A board is not opened, which would take it from whoever uses it: its kind tells which channels it has.
    """

    async def listen() -> list[Finding]:
        streams = [one for one in settings.stream if isinstance(one.source, LslSettings | RdaSettings)]
        return await asyncio.gather(
            *(
                listen_to(
                    one.name, open_source(one.source, None, clock), one.signal, clock, shown(one, settings)
                )
                for one in streams
            )
        )

    boards = [one for one in settings.stream if isinstance(one.source, BrainflowSettings)]
    found = [board(one, shown(one, settings)) for one in boards]
    try:
        return [*found, *asyncio.run(listen())]
    except SleepstreamError as error:  # LSL cannot be used at all
        return [*found, Finding("device", "failed", str(error))]


def board(stream: StreamSettings, traces: Sequence[str] = ()) -> Finding:
    """Whether a kind of board has the channel that is to be staged, and those that the page is to show."""
    check = f"device of {stream.name}"
    assert isinstance(stream.source, BrainflowSettings)
    try:
        told = BrainflowBoard(stream.source).describe()
        info = StreamInfo(told.name, told.rate_hz, told.channels, 0.0)
        label = _staged(info, stream.signal)
    except (UsageError, SignalError) as error:
        return Finding(check, "failed", str(error), WRONG_CHANNEL)
    except SleepstreamError as error:
        return Finding(check, "failed", str(error), "correct [stream.source]")
    return _lacking(check, info, traces) or Finding(
        check, "ok", f"{told.name} has {label}, {told.rate_hz:g} Hz; it was not opened"
    )


async def listen_to(
    name: str, source: Source, signal: SignalSettings, clock: Clock, traces: Sequence[str] = ()
) -> Finding:
    """Listen to a device: whether it is there with its channel, and whether its times are right.

    Args:
        name: of its stream in the settings.
        source: not yet open.
        signal: names the channel.
        clock: tells how long to listen.
        traces: channels that the page is to show.

    """
    check = f"device of {name}"
    try:
        async with source:
            try:
                label = _staged(source.info, signal)
            except (UsageError, SignalError) as error:
                return Finding(check, "failed", f"{source.info.name}: {error}", WRONG_CHANNEL)
            count = await _samples(aiter(source), clock)
    except SignalError as error:
        return Finding(check, "failed", str(error), "set another rate in the device's program")
    except SleepstreamError as error:
        return Finding(check, "warning", str(error), AGAIN)
    found = f"{source.info.name}, channel {label}, {source.info.rate_hz:g} Hz"
    if not count:
        return Finding(check, "warning", f"{found}: it sends nothing", AGAIN)
    if source.remarks:
        advice = "losses are found better by a clock that is right"
        return Finding(check, "warning", f"{found}: {source.remarks[0]}", advice)
    return _lacking(check, source.info, traces) or Finding(
        check, "ok", f"{found}: {count} samples came, and its clock goes as this computer's does"
    )


def _lacking(check: str, info: StreamInfo, traces: Sequence[str]) -> Finding | None:
    """What to say of channels that the page is to show, and the device does not have."""
    lacking = Traces(info, traces, None).complaints
    return Finding(check, "warning", f"{info.name}: {'; '.join(lacking)}") if lacking else None


def _staged(info: StreamInfo, signal: SignalSettings) -> str:
    """What would be staged of a device.

    Raises:
        UsageError: it has no such channel, or one that is no voltage.
        SignalError: its rate is outside 50 to 1024 Hz.

    """
    check_rate(info.rate_hz, info.name)
    return derivation(info, signal).label


async def _samples(items: AsyncIterator[Item | Marker], clock: Clock) -> int:
    """How many came while we listened."""
    count = 0
    until = clock.monotonic() + LISTEN_S
    ended = asyncio.ensure_future(clock.sleep(LISTEN_S))
    try:
        while clock.monotonic() < until:
            upcoming = asyncio.ensure_future(anext(items, None))
            await asyncio.wait({upcoming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                upcoming.cancel()
                await asyncio.wait({upcoming})
                break
            item = upcoming.result()
            if item is None:
                break
            count += item.samples.shape[1] if isinstance(item, Chunk) else 0
    finally:
        ended.cancel()
    return count
