"""Faults of what the engine writes to: none may cost a sample, an epoch or the engine itself."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.check import Verdict
from tests.chaos.evidence import handed, newest_sample
from tests.chaos.output import Kind
from tests.chaos.rig import Rig, until

Fault = Callable[[random.Random], Awaitable[None]]
BEGIN_S = 60.0  # for an engine that was started to take samples
GO_ON_S = 20.0  # for it to take more, whatever has become of its log


class WaysOut:
    """Each begins with an engine that writes to what is about to fail, and leaves it so.

    Args:
        rig: with the engine and its output.
        verdict: where it goes if the engine stops recording, or ends.
        calm: whether nothing else keeps samples from the disk at this moment.

    Attributes:
        faults: by name.

    """

    def __init__(self, rig: Rig, verdict: Verdict, calm: Callable[[], bool]) -> None:
        self.faults: dict[str, Fault] = {
            "log reader dies": self._log_reader_dies,
            "terminal stopped": self._terminal_stopped,
            "terminal closed": self._terminal_closed,
        }
        if rig.output.mounted:
            self.faults["log disk full"] = self._log_disk_full
        self._rig = rig
        self._verdict = verdict
        self._calm = calm

    async def _log_reader_dies(self, draw: random.Random) -> None:
        await self._begin("log")
        await asyncio.sleep(draw.uniform(0, 1))
        self._rig.output.end()
        await self._goes_on("its log's reader had died")

    async def _terminal_stopped(self, draw: random.Random) -> None:
        await self._begin("terminal")
        await asyncio.sleep(draw.uniform(0, 1))
        self._rig.output.stop()
        await self._goes_on("its terminal was stopped")
        if draw.random() < 0.5:  # else the engine's end comes while it is stopped
            self._rig.output.go_on()
            await self._goes_on("its terminal went on")

    async def _terminal_closed(self, draw: random.Random) -> None:
        """As after `disown`: no SIGHUP, but what is written fails."""
        await self._begin("terminal")
        await asyncio.sleep(draw.uniform(0, 1))
        self._rig.output.end()
        await self._goes_on("its terminal was closed")

    async def _log_disk_full(self, draw: random.Random) -> None:
        await self._begin("file")
        await asyncio.sleep(draw.uniform(0, 1))
        self._rig.output.fill()
        await self._goes_on("its log's disk was full")
        self._rig.output.make_room()

    async def _begin(self, kind: Kind) -> None:
        """End the engine in peace, start it with this output, and wait for it to take samples."""
        rig = self._rig
        if await rig.engine.end(signal.SIGTERM) is None and rig.engine.pid >= 0:
            self._broken("did not end when told to")
        rig.output.wanted = kind
        rig.engine.start()
        rig.output.wanted = "log"  # whoever starts it next
        await until(lambda: bool(handed(rig.folder, rig.engine.pid)), BEGIN_S)

    async def _goes_on(self, after: str) -> None:
        """See that the same engine goes on to record."""
        rig = self._rig
        pid, before = rig.engine.pid, newest_sample(rig.sessions)
        if not self._calm():
            return
        went_on = await until(lambda: newest_sample(rig.sessions) > before or not rig.engine.runs, GO_ON_S)
        if not rig.engine.runs or rig.engine.pid != pid:
            self._broken(f"has ended after {after}")
        elif not went_on:
            self._broken(f"recorded nothing after {after}")

    def _broken(self, what: str) -> None:
        self._verdict.stuck += 1
        self._verdict.what.append(what)
