"""Waits while another process has our node name, so that the two do not disconnect each other forever.

Whoever has a name answers when asked (`sleepstream/<node>/engine/ask`), by saying anew who it is. Only an
answer counts: a note that the broker has kept may be that of a process that is dead.
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

LOOK_S = 1.0  # for the retained note of who has the name; a broker sends it right after the subscription
ASK_S = 2.0  # between two questions
PROOF_S = 7.0  # nobody has the name who has not answered for so long


class _Watch:
    """What is known of the process that has our name.

    Args:
        ours: what we have said of ourselves under that name.
        now: monotonic s.

    """

    def __init__(self, ours: EnginePayload, now: float) -> None:
        self._ours = ours
        self._began = now
        self.holder: EnginePayload | None = None
        self.is_us = False
        self.proven: float | None = None  # when the other one was last known to live
        self._gone: float | None = None  # when its last will was spoken

    def hear(self, message: Message, node: str, now: float) -> None:
        """Take a message about the name."""
        if not message.topic.matches(engine_topic(node)):
            online = message.payload == ONLINE.encode()
            self._gone = None if online else self._gone or now
            return
        note = _note(message.payload)
        self.is_us = note is not None and note.instance == self._ours.instance
        self.holder = None if self.is_us else note
        if self.holder is not None and not message.retain:
            self.proven = now

    def until(self, retry_max_s: float) -> float:
        """When the name counts as free, if nothing more is heard; monotonic s."""
        if self.proven is None:
            return self._began + (LOOK_S if self.holder is None else PROOF_S)
        if self._gone is not None:
            return self._gone + retry_max_s  # it may be back: for as long as a client rests between attempts
        return self.proven + PROOF_S


async def until_free(
    settings: MqttSettings,
    tls: ssl.SSLContext | None,
    node: str,
    ours: EnginePayload,
    protocol: ProtocolVersion,
    taken: Callable[[EnginePayload], None],
    stopping: asyncio.Event,
) -> None:
    """Return once no other process provably has our name: at once, or when it is gone or silent.

    It looks under a client identifier of its own; where it may not look or ask, it returns after a moment.

    Args:
        settings: of the broker.
        tls: for the connection.
        node: our name.
        ours: what we have said of ourselves under that name.
        protocol: that the broker spoke with us.
        taken: is told once who has the name.
        stopping: once set, it returns soon; a connection that is being made is not cancelled, since nobody
            would then end it.

    Raises:
        MqttError: the connection has ended, or we may not look.

    """
    client = Client(settings, tls, f"{node}-waits-{ours.instance}", None, protocol)
    now = asyncio.get_running_loop().time
    told = False
    try:
        async with client:
            for topic in (engine_topic(node), availability_topic(node)):
                await client.hear(topic)
            watch, ask = _Watch(ours, now()), now()
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
    """The next message; None after `patience_s`, or when we are to stop."""
    try:
        async with asyncio.timeout(patience_s):
            upcoming = await unless_stopped(stopping, anext(client.messages))
    except TimeoutError:
        return None
    return None if upcoming.cancelled() else upcoming.result()


def _note(body: object) -> EnginePayload | None:
    """Read an engine's note about itself; None if it cannot be understood."""
    try:
        return EnginePayload.model_validate_json(body) if isinstance(body, bytes) else None
    except ValidationError:
        return None
