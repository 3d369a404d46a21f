"""Opens one sleeper's sinks, once for all sessions."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import SettingsError, SleepstreamError, explain
from streamer.live.shared import Shared
from streamer.news import Sink
from streamer.reactions.settings import codes
from streamer.settings import StreamSettings
from streamer.sinks.handover import Aside, Guard
from streamer.sinks.jsonl import MOST, JsonlSink
from streamer.sinks.settings import LslSinkSettings, TtlSettings
from streamer.sinks.sleepasandroid import SleepAsAndroid
from streamer.sinks.topics import MqttStream
from streamer.sinks.ttl import TtlSink
from streamer.sources.settings import LIVE

if TYPE_CHECKING:
    from streamer.sinks.lsl import LslOutlets

OUTLETS_S = 20.0  # longest wait for LSL's outlets
PATIENCE_S = 60.0  # longest wait for the disk at the end of a recording
log = logging.getLogger(__name__)


async def open_sinks(
    stream: StreamSettings, shared: Shared, page: Guard | None, topic: MqttStream | None
) -> list[Sink | Guard]:
    """Open the sinks of this stream; markers go before the screen.

    Raises:
        SettingsError: several streams would write into one file.
        SinkError: the file for a recording's epochs cannot be opened; a device's night goes on without it.

    """
    settings = shared.settings
    sinks: list[Sink | Guard] = [shared.watcher]
    if settings.jsonl is not None:
        sinks.append(await _jsonl(str(settings.jsonl.path), stream, shared))
    if settings.lsl is not None:
        sinks = [*await _outlets(settings.lsl, stream, shared), *sinks]
    if stream.ttl is not None:
        sinks.insert(0, _ttl(stream.ttl, shared))
    if page is not None:
        sinks.append(page)
    if topic is not None:
        if settings.sleep_as_android is not None:
            name = settings.sleep_as_android.topic.replace("{stream}", stream.name)
            sinks.append(SleepAsAndroid(name, topic.say))
        sinks.append(topic)
    return sinks


async def _jsonl(path: str, stream: StreamSettings, shared: Shared) -> Aside:
    if len(shared.settings.stream) > 1 and "{stream}" not in path:
        raise SettingsError(f"jsonl.path {path!r} would mix several streams; put {{stream}} into the name")
    sink = JsonlSink(Path(path.replace("{stream}", stream.name)))
    live = isinstance(stream.source, LIVE)
    if not live:
        await asyncio.to_thread(sink.open)
    aside = Aside(sink, shared.clock, MOST, drain_s=None if live else PATIENCE_S).__enter__()
    shared.stack.push_async_callback(asyncio.to_thread, aside.close)
    return aside


def _ttl(settings: TtlSettings, shared: Shared) -> Aside:
    """Open the serial port in a thread; the night goes on without it."""
    aside = Aside(TtlSink(settings), shared.clock).__enter__()
    shared.stack.push_async_callback(asyncio.to_thread, aside.close)
    return aside


async def _outlets(settings: LslSinkSettings, stream: StreamSettings, shared: Shared) -> list[Guard]:
    """Open the LSL outlets, which stay over several sessions; the night goes on without them."""
    node, name = shared.settings.node, stream.name
    try:
        async with asyncio.timeout(OUTLETS_S):
            outlets = await asyncio.to_thread(_make_outlets, settings, node, stream)
    except SleepstreamError as error:
        log.warning("no LSL outlets for %s: %s; the night goes on", name, error)
        return []
    except Exception as error:
        log.exception("no LSL outlets for %s: %s; the night goes on", name, explain(error))
        return []
    shared.stack.push_async_callback(asyncio.to_thread, outlets.__exit__, None, None, None)
    return [Guard(outlets, shared.clock)]


def _make_outlets(settings: LslSinkSettings, node: str, stream: StreamSettings) -> LslOutlets:
    """Load liblsl and make the outlets; blocks."""
    from streamer.sinks.lsl import LslOutlets  # imports pylsl, so only when it is used

    return LslOutlets(settings, node, stream.name, stream.hop_s, codes(stream.trigger))
