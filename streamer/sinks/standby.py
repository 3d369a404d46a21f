"""Waits while another process uses our node name, so that the two do not disconnect each other forever.

The engine with a name answers a question on `sleepstream/<node>/engine/ask` by publishing its note again.
Only such an answer counts: a retained note may come from a process that has ended.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aiomqtt import Message, ProtocolVersion
from pydantic import ValidationError

from streamer.clock import unless_stopped
from streamer.payloads import EnginePayload
from streamer.sinks.client import Client
from streamer.sinks.settings import MqttSettings
from streamer.sinks.topics import ONLINE, ask_topic, availability_topic, engine_topic

LOOK_S = 1.0  # wait for the retained note; a broker sends it right after the subscription
ASK_S = 2.0  # between two questions
PROOF_S = 7.0  # an engine that has not answered for so long no longer has the name


class _Watch:
    """Tracks the process that uses our name.

    Args:
        ours: our own note under that name.
        now: monotonic s.
        ousted: another process is there for certain, although its note may not be.

    """

    def __init__(self, ours: EnginePayload, now: float, ousted: bool) -> None:
        self._ours = ours
        self._began = now
        self._ousted = ousted
        self.holder: EnginePayload | None = None
        self.is_us = False
        self.proven: float | None = None  # when the other process last answered
        self._gone: float | None = None  # when its last will was published

    def hear(self, message: Message, node: str, now: float) -> None:
        """Take a message about the name."""
        if not message.topic.matches(engine_topic(node)):
            online = message.payload == ONLINE.encode()
            self._gone = None if online else self._gone or now
            return
        note = _note(message.payload)
        ours = note is not None and note.instance == self._ours.instance
        self.is_us = ours and not self._ousted
        self.holder = None if ours else note
        if self.holder is not None and not message.retain:
            self.proven = now

    def until(self, retry_max_s: float) -> float:
        """Return when the name counts as free if no more messages come, monotonic s."""
        if self.proven is None:
            return self._began + (LOOK_S if self.holder is None else PROOF_S)
        if self._gone is not None:
            return self._gone + retry_max_s  # it may reconnect within a client's longest pause
        return self.proven + PROOF_S


async def until_free(
    settings: MqttSettings,
    tls: ssl.SSLContext | None,
    node: str,
    ours: EnginePayload,
    protocol: ProtocolVersion,
    taken: Callable[[EnginePayload], None],
    stopping: asyncio.Event,
    ousted: bool,
) -> None:
    """Wait until no other process is proven to use our name: it is gone, or does not answer.

    This uses a client identifier of its own. If it may not subscribe or ask, it returns after a moment.

    Args:
        settings: of the broker.
        tls: for the connection.
        node: our name.
        ours: our own note under that name.
        protocol: the version of MQTT that the broker speaks.
        taken: called once with the note of the other process.
        stopping: once set, this returns soon. A connection being made is not cancelled, because it would then
            stay open.
        ousted: another process has just taken the name: our own note does not prove that it is free.

    Raises:
        MqttError: the connection has ended, or the subscription was refused.

    """
    client = Client(settings, tls, f"{node}-waits-{ours.instance}", None, protocol)
    now = asyncio.get_running_loop().time
    told = False
    try:
        async with client:
            for topic in (engine_topic(node), availability_topic(node)):
                await client.hear(topic)
            watch, ask = _Watch(ours, now(), ousted), now()
            while not watch.is_us and now() < watch.until(settings.retry_max_s):
                if now() >= ask:
                    ask = now() + ASK_S
                    await client.say(ask_topic(node), ours.instance)
                message = await _next(client, min(ask, watch.until(settings.retry_max_s)) - now(), stopping)
                if message is not None:
                    watch.hear(message, node, now())
                if stopping.is_set():
                    return
                if watch.proven is not None and watch.holder is not None and not told:
                    told = True
                    taken(watch.holder)
    finally:
        client.abandon()


async def _next(client: Client, patience_s: float, stopping: asyncio.Event) -> Message | None:
    """Return the next message; None after `patience_s`, or once `stopping` is set."""
    try:
        async with asyncio.timeout(patience_s):
            upcoming = await unless_stopped(stopping, anext(client.messages))
    except TimeoutError:
        return None
    return None if upcoming.cancelled() else upcoming.result()


def _note(body: object) -> EnginePayload | None:
    """Read an engine's note; None if it is malformed."""
    try:
        return EnginePayload.model_validate_json(body) if isinstance(body, bytes) else None
    except ValidationError:
        return None
