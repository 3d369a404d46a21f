"""Listens to the configured devices for a few seconds, to hear whether their clocks go as this computer's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from streamer.clock import Clock
from streamer.devicetime import WATCH_S
from streamer.doctor.checks import Finding
from streamer.errors import SleepstreamError
from streamer.live.intake import Source
from streamer.messages import Chunk, Item, Marker
from streamer.settings import Settings
from streamer.sources import open_source
from streamer.sources.settings import LslSettings, RdaSettings

LOOK_S = 3.0  # for a device that may be switched off
LISTEN_S = 2 * WATCH_S


def device_times(settings: Settings, clock: Clock) -> list[Finding]:
    """Listen to every LSL stream and RDA server of the settings, all at once; blocks for some seconds."""

    async def listen() -> list[Finding]:
        asked = [
            (one.name, one.source.model_copy(update={"resolve_s": LOOK_S}))
            for one in settings.stream
            if isinstance(one.source, LslSettings | RdaSettings)
        ]
        return await asyncio.gather(
            *(heard(name, open_source(source, None, clock), clock) for name, source in asked)
        )

    return asyncio.run(listen())


async def heard(name: str, source: Source, clock: Clock) -> Finding:
    """What a device's times are worth, by what it sends now.

    Args:
        name: of its stream in the settings.
        source: not yet open.
        clock: tells how long to listen.

    """
    check = f"device of {name}"
    try:
        async with source:
            count = await _samples(aiter(source), clock)
    except SleepstreamError as error:
        return Finding(check, "warning", str(error), "switch it on, and ask again")
    if not count:
        return Finding(check, "warning", "it sends nothing", "switch it on, and ask again")
    if source.remarks:
        return Finding(
            check, "warning", source.remarks[0], "losses are found better by a clock that is right"
        )
    return Finding(check, "ok", f"{count} samples came, and its clock goes as this computer's does")


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
