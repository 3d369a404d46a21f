"""Faults by a seed against the real engine, broker and device, and proof of what survived."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pylsl

from streamer.network.stager import Model
from tests.chaos.alarms import DUE_S, STOPS
from tests.chaos.check import Verdict, check
from tests.chaos.evidence import handed, newest_sample, undelivered
from tests.chaos.faults import NO_ROOM, STEP, Faults
from tests.chaos.nights import check_firings
from tests.chaos.rig import Rig, until

SPEED = 60.0  # of the night
RECOVERY_S = 120.0  # for the engine to take samples again
SETTLE_S = 45.0  # at the end, for the broker to have everything


class Chaos:
    """One run: draws faults, commits them, and sees the engine recover from each.

    Which faults come, in which order and how long each lasts depends on the seed alone. Every kind comes once
    before any comes again.
    """

    def __init__(self, rig: Rig, seed: int, verdict: Verdict) -> None:
        self.done: Counter[str] = Counter()
        self._rig = rig
        self._verdict = verdict
        self._faults = Faults(rig, verdict)
        self._draw = random.Random(seed)
        self._hats: dict[bool, list[str]] = {True: [], False: []}

    async def run(self, faults: int, until_s: float) -> None:
        """Commit so many faults, or as many as fit into the time (monotonic seconds)."""
        await self._recovered()
        while self.done.total() < faults and time.monotonic() < until_s:
            await self._strike()
            await self._recovered()
            await self._faults.alarms.judge()
            await asyncio.sleep(self._draw.uniform(0.2, 1.5))
        await self._finish()

    def draw(self) -> list[tuple[str, random.Random]]:
        """One fault; a third of the time the engine dies during another. Each with dice of its own."""
        both = self._draw.random() < 0.3
        names = [self._next(deadly=False)] if both or self._draw.random() < 0.6 else []
        if both or not names:
            names.append(self._next(deadly=True))
        return [(name, random.Random(self._draw.random())) for name in names]

    async def _strike(self) -> None:
        drawn = self.draw()
        known = self._faults.others | self._faults.deaths
        if STEP not in dict(drawn) or len(drawn) == 1:  # killed under another clock, it is due by that one
            await self._faults.alarms.arm(self._draw.uniform(*DUE_S))
        self._faults.calm = NO_ROOM not in dict(drawn)
        self._faults.goes_on = STOPS not in dict(drawn)
        await asyncio.gather(*(known[name](dice) for name, dice in drawn))
        self.done.update(name for name, _ in drawn)

    def _next(self, *, deadly: bool) -> str:
        """A name out of the hat; when that is empty, all go in again."""
        hat = self._hats[deadly]
        if not hat:
            hat += list(self._faults.deaths if deadly else self._faults.others)
            hat += ["kill -9"] * 2 * deadly  # the one that this is about
            self._draw.shuffle(hat)
        return hat.pop()

    async def _recovered(self) -> None:
        """The engine that runs now has put on disk what the device took after this moment."""
        rig = self._rig
        goal = rig.sent(pylsl.local_clock())

        def again() -> bool:
            rig.engine.start()  # as a service manager does with one that has given up
            return bool(handed(rig.folder, rig.engine.pid)) and newest_sample(rig.sessions) >= goal

        if not await until(again, RECOVERY_S, 0.2):
            self._verdict.stuck += 1
            self._verdict.what.append(f"no sample after the device's {goal} was recorded")

    async def _finish(self) -> None:
        """Let everything calm down, and end the engine in peace."""
        await self._rig.outlet.end()  # nothing new, so that there can be nothing left
        await self._rest()
        if undelivered(self._rig.sessions):  # what came with the end goes with the next start
            self._rig.outlet.start()
            self._rig.engine.start()
            await self._rest()
        self._verdict.notes["undelivered"] = undelivered(self._rig.sessions, events=True)

    async def _rest(self) -> None:
        await until(lambda: undelivered(self._rig.sessions) == 0, SETTLE_S, 1.0)
        code = await self._rig.engine.end(signal.SIGTERM)
        if code != 0:
            self._verdict.stuck += 1
            self._verdict.what.append(f"the last end gave exit code {code}")


async def unleash(folder: Path, seed: int, faults: int, minutes: float) -> tuple[Verdict, Counter[str]]:
    """Run, and judge."""
    verdict = Verdict()
    rig = Rig(folder, SPEED)
    try:
        async with rig.running():
            chaos = Chaos(rig, seed, verdict)
            await chaos.run(faults, time.monotonic() + 60 * minutes)
        shutil.copytree(rig.sessions, folder / "night")
        check_firings(rig, verdict)
        await asyncio.to_thread(check, folder / "night", rig.ear.heard, Model.load(), verdict)
        verdict.notes["small_disk"] = rig.mounted
        verdict.notes["hours"] = round(verdict.notes["samples"] / 100 / 3600, 2)
    finally:
        (folder / "heard.jsonl").write_text("\n".join(body for _, body in rig.ear.heard))
        rig.close()
    return verdict, chaos.done
