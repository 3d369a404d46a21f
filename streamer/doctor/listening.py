"""Checks whether the configured devices answer, have the configured channel, and have a correct clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from streamer.channels import check_rate
from streamer.clock import Clock
from streamer.doctor.checks import Finding
from streamer.errors import SignalError, SleepstreamError, UsageError
from streamer.fallback import make_derivation
from streamer.messages import Chunk, Item, Marker, StreamInfo
from streamer.settings import Settings, SignalSettings, StreamSettings
from streamer.sources.board import BrainflowBoard
from streamer.sources.devicetime import WATCH_S
from streamer.sources.opener import open_source
from streamer.sources.settings import BrainflowSettings, LslSettings, RdaSettings
from streamer.sources.source import Source
from streamer.web.traces import Traces, list_traces

LISTEN_S = 2 * WATCH_S
WRONG_CHANNEL = "correct channel under [stream.signal]"
AGAIN = "switch it on, and run doctor again"


def check_devices(settings: Settings, clock: Clock) -> list[Finding]:
    """Look for all devices of the settings at once; blocks for `resolve_s` and some seconds more.

    A board is not opened, because another program may be using it: its channels are known from its kind.
    """

    async def listen() -> list[Finding]:
        streams = [one for one in settings.stream if isinstance(one.source, LslSettings | RdaSettings)]
        return await asyncio.gather(
            *(
                listen_to(
                    one.name,
                    open_source(one.source, None, clock),
                    one.signal,
                    clock,
                    list_traces(one, settings),
                )
                for one in streams
            )
        )

    boards = [one for one in settings.stream if isinstance(one.source, BrainflowSettings)]
    found = [check_board(one, list_traces(one, settings)) for one in boards]
    try:
        return [*found, *asyncio.run(listen())]
    except SleepstreamError as error:  # LSL does not work at all
        return [*found, Finding("device", "failed", str(error))]


def check_board(stream: StreamSettings, traces: Sequence[str] = ()) -> Finding:
    """Check that a kind of board has the channel to stage, and the `traces` that the page will show."""
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
    """Listen to a device: check that it has the channel, and that its clock is correct.

    Args:
        name: of the stream in the settings.
        source: the device, not open yet.
        signal: the channel to stage.
        clock: to measure how long to listen.
        traces: further channels that the page will show.

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
        advice = "with a correct clock, losses would be found more exactly"
        return Finding(check, "warning", f"{found}: {source.remarks[0]}", advice)
    return _lacking(check, source.info, traces) or Finding(
        check, "ok", f"{found}: {count} samples came, and its clock agrees with this computer's"
    )


def _lacking(check: str, info: StreamInfo, traces: Sequence[str]) -> Finding | None:
    """A finding if the device lacks channels that the page will show, else None."""
    lacking = Traces(info, traces, None).complaints
    return Finding(check, "warning", f"{info.name}: {'; '.join(lacking)}") if lacking else None


def _staged(info: StreamInfo, signal: SignalSettings) -> str:
    """The label of the derivation that would be staged.

    Raises:
        UsageError: the channel does not exist, or is not a voltage.
        SignalError: the rate is outside 50 to 1024 Hz.

    """
    check_rate(info.rate_hz, info.name)
    return make_derivation(info, signal).label


async def _samples(items: AsyncIterator[Item | Marker], clock: Clock) -> int:
    """Count the samples that arrive while we listen."""
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
