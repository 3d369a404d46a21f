"""Small real counterparts: a subscriber, a clock that is set by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import aiomqtt

PATIENCE_S = 60.0  # on a machine that does much else


@dataclass(frozen=True)
class Heard:
    """One message as the subscriber got it."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    expiry_s: int | None

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Subscriber:
    """Everything below `sleepstream/`, in order of arrival."""

    def __init__(self, port: int, topic: str = "sleepstream/#") -> None:
        self.heard: list[Heard] = []
        self._numbers: dict[str, set[int]] = {}  # by kind
        self._port = port
        self._topic = topic
        self._more = asyncio.Condition()

    async def __aenter__(self) -> Self:
        for protocol in (aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311):
            self._client = aiomqtt.Client("127.0.0.1", self._port, protocol=protocol)
            try:
                await self._client.__aenter__()
                break
            except aiomqtt.MqttError:
                if protocol is aiomqtt.ProtocolVersion.V311:
                    raise
        # QoS 0: mosquitto then hands a message on before it acknowledges it to the publisher.
        await self._client.subscribe(self._topic, qos=0)
        self._task = asyncio.create_task(self._listen(), name="subscriber")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        with contextlib.suppress(aiomqtt.MqttError):  # the test may have killed the broker
            await self._client.__aexit__(None, None, None)

    async def until(self, enough: Callable[[list[Heard]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: enough(self.heard))

    async def until_count(self, kind: str, count: int) -> list[Any]:
        """Wait until `count` different ones of a kind are here; all of that kind, in order of arrival."""
        await self.until(lambda _: len(self._numbers.get(kind, ())) >= count)
        return self.of(kind)

    async def until_says(self, topic: str, text: bytes) -> None:
        await self.until(lambda heard: any(item.topic == topic and item.payload == text for item in heard))

    async def until_disconnected(self) -> None:
        """All that the broker sent before it died is here then."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({self._task})

    def of(self, kind: str) -> list[Any]:
        return [item.json for item in self.heard if item.topic.endswith("/" + kind)]

    async def _listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            expiry = getattr(message.properties, "MessageExpiryInterval", None)
            topic = str(message.topic)
            async with self._more:
                heard = Heard(topic, message.payload, message.retain, message.qos, expiry)
                self.heard.append(heard)
                if heard.payload.startswith(b"{"):
                    self._numbers.setdefault(topic.rpartition("/")[2], set()).add(heard.json.get("seq", -1))
                self._more.notify_all()


class HandClock:
    """Wall time stands still until the test moves it; the rest is real, but for what the test adds."""

    def __init__(self, wall: float = 0.0) -> None:
        self.now = wall
        self.later_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later_s

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
