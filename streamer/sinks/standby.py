"""Waits while another process has our node name, so that the two do not throw each other out for ever."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aiomqtt import ProtocolVersion
from pydantic import ValidationError

from streamer.payloads import EnginePayload
from streamer.sinks.client import Client
from streamer.sinks.settings import MqttSettings
from streamer.sinks.topics import ONLINE, availability_topic, engine_topic
from streamer.stopping import unless_stopped

LOOK_S = 1.0  # for the retained note of who has the name; a broker sends it right after the subscription


async def until_free(
    settings: MqttSettings,
    tls: ssl.SSLContext | None,
    node: str,
    ours: EnginePayload,
    protocol: ProtocolVersion,
    taken: Callable[[EnginePayload], None],
    stopping: asyncio.Event,
) -> None:
    """Return at once when nobody else has connected as `node` since `ours` did, else once they have gone.

    Gone are they when nobody has said `online` for as long as a client rests between two attempts. It looks
    under a client identifier of its own and only reads; where it may not, it returns after a moment.

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
        MqttError: the connection has ended.

    """
    client = Client(settings, tls, f"{node}-waits-{ours.instance}", None, protocol)
    holder: EnginePayload | None = None
    online = told = False
    try:
        async with client:
            for topic in (engine_topic(node), availability_topic(node)):
                await client.subscribe(topic, qos=1)
            while holder is None or holder.instance != ours.instance:
                if holder is not None and online and not told:
                    told = True
                    taken(holder)
                patience_s = None if told and online else settings.retry_max_s if told else LOOK_S
                try:
                    async with asyncio.timeout(patience_s):
                        upcoming = await unless_stopped(stopping, anext(client.messages))
                except TimeoutError:
                    return
                if upcoming.cancelled():
                    return
                message = upcoming.result()
                if message.topic.matches(engine_topic(node)):
                    holder = _note(message.payload)
                else:
                    online = message.payload == ONLINE.encode()
    finally:
        client.abandon()


def _note(body: object) -> EnginePayload | None:
    """Read what an engine says of itself; None where it is not to be understood."""
    try:
        return EnginePayload.model_validate_json(body) if isinstance(body, bytes) else None
    except ValidationError:
        return None
