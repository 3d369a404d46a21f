"""What chaos does: one method per fault, over when all but the engine is whole again."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pylsl

from streamer.clock import SystemClock
from streamer.journal import PROMISE_S
from tests.chaos.alarms import Alarms
from tests.chaos.brokers import Brokers
from tests.chaos.check import Verdict, birth, check_torn
from tests.chaos.evidence import handed, newest_sample, youngest
from tests.chaos.nights import Nights
from tests.chaos.rig import Rig, until
from tests.chaos.ways_out import WaysOut

Fault = Callable[[random.Random], Awaitable[None]]
STARTING_S = 6.0  # an engine that is younger may still be looking for its device, or reading its session
EAR_S = 20.0  # for the witness at the broker to be back
NO_ROOM, STEP = "disk full", "clock step"


class Faults:
    """All faults, by name; what they cost goes into the verdict.

    Attributes:
        deaths: those that end the engine, or start it with another output; `others` do not touch its process.
        others: two of them are never committed at once.
        alarms: arms one before a fault, and sees it ring.
        calm: nothing but its death keeps samples from the disk at this moment.
        goes_on: nothing but its death ends the engine at this moment.

    """

    def __init__(self, rig: Rig, verdict: Verdict) -> None:
        self.calm = self.goes_on = True
        self.alarms = Alarms(rig, verdict, self._die)
        self.deaths: dict[str, Fault] = {
            "kill -9": self._kill,
            "kill -9 at the start": self._kill_starting,
            "SIGTERM": self._terminate,
            "SIGTERM at the start": self._terminate_starting,
            "SIGHUP": self._hang_up,
            **WaysOut(rig, verdict, lambda: self.calm and self.goes_on).faults,
            **Nights(rig, verdict, self._die).faults,
            **self.alarms.deaths,
        }
        self.others: dict[str, Fault] = {
            "broker kill -9": self._kill_broker,
            "broker frozen": self._freeze_broker,
            "partition": self._partition,
            "half open": self._half_open,
            "slow broker": self._slow,
            "login refused": self._refuse_login,
            "outlet death": self._kill_outlet,
            NO_ROOM: self._fill_disk,
            "torn copy": self._tear,
            STEP: self._step,
            **Brokers(rig, verdict).faults,
            **self.alarms.others,
        }
        if not rig.mounted:
            del self.others[NO_ROOM]
        self._rig = rig
        self._verdict = verdict

    # ---- the engine

    async def _kill(self, draw: random.Random) -> None:
        await asyncio.sleep(draw.uniform(0, 1.5))
        await self._die()
        await asyncio.sleep(draw.uniform(0, 0.5))
        self._rig.engine.start()

    async def _kill_starting(self, draw: random.Random) -> None:
        """Once more, before the engine has come to itself."""
        await self._kill(draw)
        await asyncio.sleep(draw.uniform(0, STARTING_S))
        await self._die()
        self._rig.engine.start()

    async def _terminate(self, draw: random.Random) -> None:
        await asyncio.sleep(draw.uniform(0, 1.5))
        await self._end()

    async def _hang_up(self, draw: random.Random) -> None:
        """Its terminal was closed, and nobody had told it to stay."""
        await asyncio.sleep(draw.uniform(0, 1.5))
        await self._end(signal.SIGHUP)

    async def _terminate_starting(self, draw: random.Random) -> None:
        """End it in peace while it is still finding its way back from a death."""
        await self._kill(draw)
        await asyncio.sleep(draw.uniform(0, STARTING_S))
        await self._end()

    async def _end(self, number: int = signal.SIGTERM) -> None:
        if await self._rig.engine.end(number) is None:
            self._verdict.stuck += 1
            self._verdict.what.append("did not end when told to")
        self._rig.engine.start()

    async def _die(self) -> None:
        """Kill the engine, and see how much of what its journal had been given is not on disk."""
        rig, notes = self._rig, self._verdict.notes
        pid, struck, sent = rig.engine.pid, SystemClock().monotonic(), rig.sent(pylsl.local_clock())
        await rig.engine.end()
        given = handed(rig.folder, pid)
        if not given or not self.calm:
            return
        kept = newest_sample(rig.sessions)
        lost = [one.at for one in given if one.newest > kept]
        loss_s = max(0.0, struck - lost[0]) if lost else 0.0
        behind_s = (sent - given[-1].newest) / 100 / rig.speed
        notes["worst_loss_s"] = round(max(notes.get("worst_loss_s", 0.0), loss_s), 3)
        notes["worst_behind_s"] = round(max(notes.get("worst_behind_s", 0.0), behind_s), 3)
        if loss_s > PROMISE_S:
            self._verdict.beyond_2s += 1
            self._verdict.what.append(
                f"lost {loss_s:.2f} s of samples, up to the device's {given[-1].newest}"
            )

    # ---- the broker and the way to it

    async def _kill_broker(self, draw: random.Random) -> None:
        rig = self._rig
        await asyncio.to_thread(rig.broker.kill)
        await asyncio.sleep(draw.uniform(0.2, 3))
        rig.cable.open = False
        rig.cable.cut()
        await asyncio.to_thread(rig.broker.start)
        await self._heard_again()
        rig.cable.open = True

    async def _freeze_broker(self, draw: random.Random) -> None:
        self._rig.broker.freeze()
        await asyncio.sleep(draw.uniform(0.5, 4))
        self._rig.broker.thaw()

    async def _partition(self, draw: random.Random) -> None:
        self._rig.cable.hold()
        await asyncio.sleep(draw.uniform(0.5, 4))
        if draw.random() < 0.5:
            self._rig.cable.cut()
        self._rig.cable.release()

    async def _half_open(self, draw: random.Random) -> None:
        self._rig.cable.orphan()
        await asyncio.sleep(draw.uniform(0.5, 4))

    async def _slow(self, draw: random.Random) -> None:
        self._rig.cable.pause_s = draw.uniform(0.05, 0.3)
        await asyncio.sleep(draw.uniform(1, 4))
        self._rig.cable.pause_s = 0.0

    async def _refuse_login(self, draw: random.Random) -> None:
        """The password was changed at the broker, and is changed back."""
        await asyncio.to_thread(self._rig.let_in, False)
        self._rig.cable.cut()  # a broker asks only those who come
        await asyncio.sleep(draw.uniform(0.5, 4))
        await asyncio.to_thread(self._rig.let_in, True)
        await self._heard_again()

    async def _heard_again(self) -> None:
        """Wait for the witness at the broker: else it could not tell what arrives."""
        await until(self._rig.ear.listens.is_set, EAR_S)

    # ---- device, disk, clock

    async def _kill_outlet(self, draw: random.Random) -> None:
        await self._rig.outlet.end()
        await asyncio.sleep(draw.uniform(0.2, 2))
        self._rig.outlet.start()

    async def _fill_disk(self, draw: random.Random) -> None:
        filler = self._rig.sessions / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass
        except OSError:
            await asyncio.sleep(draw.uniform(1, 4))
        filler.unlink()

    async def _tear(self, draw: random.Random) -> None:
        """Copy the files as they lie at one moment, cut the last bytes off, and open what is left."""
        paths = youngest(self._rig.sessions)
        if not paths:
            return
        copy = Path(tempfile.mkdtemp(dir=self._rig.folder)) / paths[-1].name
        self._rig.engine.send(signal.SIGSTOP)
        for end in ("", "-wal"):
            source = paths[-1].with_name(paths[-1].name + end)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + end))
        self._rig.engine.send(signal.SIGCONT)
        wal = copy.with_name(copy.name + "-wal")
        begun = birth(wal) if wal.exists() else 0
        if begun:
            with wal.open("r+b") as file:
                file.truncate(draw.randint(begun, wal.stat().st_size))
            await asyncio.to_thread(check_torn, copy, paths[-1], self._verdict)
        shutil.rmtree(copy.parent)

    async def _step(self, draw: random.Random) -> None:
        self._rig.step_clock(draw.choice([-3600.0, 3600.0, 0.0]))
