"""Faults of a broker that stands: an old memory, a topic that is denied, an epoch that is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiomqtt

from streamer.payloads import EnginePayload, to_json, utc
from streamer.sinks.topics import ONLINE, availability_topic, engine_topic
from tests.chaos.check import Verdict
from tests.chaos.rig import EAR, Rig, until

Fault = Callable[[random.Random], Awaitable[None]]
NODE = "chaos"
MAY_BE_DENIED = ("stage", "summary", "health", "event", "epoch")
BACK_S = 90.0  # for the engine to be heard again, even if it is killed meanwhile
RECONNECTIONS = 4  # one denied topic may cost a few, and no more


class Brokers:
    """Each is over when the engine is heard again.

    Args:
        rig: with the broker.
        verdict: where it goes if the engine falls silent, or reconnects without an end.

    Attributes:
        faults: by name.

    """

    def __init__(self, rig: Rig, verdict: Verdict) -> None:
        self.faults: dict[str, Fault] = {
            "broker stale": self._stale,
            "topic denied": self._deny,
            "epoch refused": self._refuse,
        }
        self._rig = rig
        self._verdict = verdict

    async def _stale(self, draw: random.Random) -> None:
        """It dies hard, and comes back with what it had saved: an engine that has been dead for long."""
        rig = self._rig
        await asyncio.to_thread(rig.broker.kill)
        rig.cable.open = False
        rig.cable.cut()
        await asyncio.sleep(draw.uniform(0, 2))
        await asyncio.to_thread(rig.broker.start)
        await until(rig.ear.listens.is_set, BACK_S)
        dead = EnginePayload(instance="deadbeef", host="chaos", version="0", started=utc(0.0))
        async with aiomqtt.Client("127.0.0.1", rig.broker.port, username=EAR, password=EAR) as client:
            await client.publish(engine_topic(NODE), to_json(dead), 1, retain=True)
            await client.publish(availability_topic(NODE), ONLINE, 1, retain=True)
        rig.cable.open = True
        await self._heard("stage", "a broker came back with an old memory")

    async def _deny(self, draw: random.Random) -> None:
        rig, kind = self._rig, draw.choice(MAY_BE_DENIED)
        await asyncio.to_thread(rig.deny, f"sleepstream/{NODE}/anna/{kind}")
        pid, before = rig.engine.pid, self._connections()
        await self._heard("epoch" if kind != "epoch" else "stage", f"{kind} was denied")
        came = self._connections() - before
        await asyncio.to_thread(rig.deny, None)
        if rig.engine.pid == pid and came > RECONNECTIONS:
            self._broken(f"connected {came} times while {kind} was denied")

    async def _refuse(self, draw: random.Random) -> None:
        self._rig.cable.refusals = draw.randint(1, 3)
        await until(lambda: not self._rig.cable.refusals, BACK_S)
        self._rig.cable.refusals = 0
        await self._heard("epoch", "an epoch was refused")

    async def _heard(self, kind: str, after: str) -> None:
        """See that something new of this kind arrives, from whichever engine runs."""
        heard, begun = self._rig.ear.heard, len(self._rig.ear.heard)

        def again() -> bool:
            self._rig.engine.start()  # it may be killed meanwhile
            return any(one == kind for one, _ in heard[begun:])

        if not await until(again, BACK_S):
            self._broken(f"no {kind} was heard after {after}")

    def _connections(self) -> int:
        return sum(f"as sleepstream-{NODE} (" in line for line in self._rig.broker.log)

    def _broken(self, what: str) -> None:
        self._verdict.stuck += 1
        self._verdict.what.append(what)
