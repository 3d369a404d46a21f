"""Faults by a seed against the real engine, broker and device, and proof of what survived.

`python -m tools.chaos --seed N --minutes M` (or --faults N) prints what was lost, duplicated, reordered,
rewritten or left out of the ledger, and ends with 1 if any promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import pylsl

from streamer.errors import JournalError
from streamer.journal import PROMISE_S, JournalReader
from streamer.stager import Model
from tools.chaos_check import COUNTER, Verdict, check, check_torn
from tools.chaos_rig import Rig, until

SPEED = 60.0  # of the night
SLACK_S = 1.0  # for liblsl, the loop and this program, on top of the promise
RECOVERY_S = 60.0  # for the engine to take samples again
SETTLE_S = 45.0  # at the end, for the broker to have everything
Fault = Callable[[], Awaitable[None]]


class Chaos:
    """One run: draws faults, commits them, and looks at what each left behind."""

    def __init__(self, rig: Rig, seed: int, verdict: Verdict) -> None:
        self.rig = rig
        self.verdict = verdict
        self.done: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._calm = True  # nothing but the engine's death keeps samples from the disk
        self._engine_faults: dict[str, Fault] = {"kill -9": self._kill, "SIGTERM": self._terminate}
        self._other_faults: dict[str, Fault] = {
            "broker kill -9": self._kill_broker,
            "broker frozen": self._freeze_broker,
            "partition": self._partition,
            "slow broker": self._slow,
            "outlet death": self._kill_outlet,
            "disk full": self._fill_disk,
            "torn copy": self._tear,
            "clock step": self._step,
        }

    async def run(self, faults: int, until_s: float) -> None:
        """Commit so many faults, or as many as fit into the time (monotonic seconds)."""
        await self._recovered(-1)
        while self.done.total() < faults and time.monotonic() < until_s:
            before = self._newest_sample()
            await self._strike()
            await self._recovered(before)
            await asyncio.sleep(self._draw.uniform(0.2, 1.5))
        await self._finish()

    async def _strike(self) -> None:
        """One fault; a third of the time the engine dies during another."""
        draw = self._draw
        both = draw.random() < 0.3
        names = [draw.choice(list(self._other_faults))] if both or draw.random() < 0.6 else []
        if both or not names:
            names.append(draw.choices(list(self._engine_faults), [4, 1])[0])
        faults = [(self._other_faults | self._engine_faults)[name] for name in names]
        self.done.update(names)
        self._calm = not {"outlet death", "disk full"} & set(names)
        await asyncio.gather(*(fault() for fault in faults))

    async def _recovered(self, before: int) -> None:
        """The engine takes samples again, and has caught up with the device."""
        self.rig.engine.start()
        self.verdict.stuck += not await until(
            lambda: self._newest_sample() > before + 100 and self._behind_s() < PROMISE_S, RECOVERY_S
        )

    def _behind_s(self) -> float:
        """How far the disk is behind the device, in seconds of the wall clock."""
        sent = self.rig.sent(pylsl.local_clock())
        return (sent - self._newest_sample()) / 100 / self.rig.speed

    def _newest_sample(self) -> int:
        """The device's number of the last sample on disk."""
        best = -1
        for path in self._youngest()[-2:]:
            try:
                with JournalReader(path) as reader:
                    for chunk in reader.samples(max(0, reader.last().index - 1)):
                        best = max(best, int(chunk.samples[COUNTER, -1]))
            except JournalError:
                continue  # it is being made
        return best

    def _youngest(self) -> list[Path]:
        """Session files, the youngest last; their names tell the engine's time, which is set."""

        def touched(path: Path) -> int:
            log = path.with_name(path.name + "-wal")
            return max(one.stat().st_mtime_ns for one in (path, log) if one.exists())

        return sorted(self.rig.sessions.glob("*.sqlite"), key=touched)

    async def _finish(self) -> None:
        """Let everything calm down, and end the engine in peace."""
        await until(lambda: self._backlog() == 0, SETTLE_S, 1.0)
        self.verdict.stuck += await self.rig.engine.end(signal.SIGTERM) != 0
        if self._backlog():  # what came with the end goes with the next start
            self.rig.engine.start()
            await until(lambda: self._backlog() == 0, SETTLE_S, 1.0)
            self.verdict.stuck += await self.rig.engine.end(signal.SIGTERM) != 0
        self.verdict.notes["undelivered"] = self._backlog(events=True)

    def _backlog(self, events: bool = False) -> int:
        """Epochs that no broker has acknowledged, in all files."""
        waiting = 0
        for path in self.rig.sessions.glob("*.sqlite"):
            try:
                with JournalReader(path) as reader:
                    waiting += sum(events or parcel.kind == "epoch" for parcel in reader.parcels())
            except JournalError:
                waiting += 1
        return waiting

    # ---- faults

    async def _kill(self) -> None:
        await asyncio.sleep(self._draw.uniform(0, 1.5))
        sent = self.rig.sent(pylsl.local_clock())
        await self.rig.engine.end()
        if self._calm:
            behind_s = (sent - self._newest_sample()) / 100 / self.rig.speed
            self.verdict.notes["worst_loss_s"] = max(self.verdict.notes.get("worst_loss_s", 0.0), behind_s)
            self.verdict.beyond_2s += behind_s > PROMISE_S + SLACK_S
        await asyncio.sleep(self._draw.uniform(0, 0.5))
        self.rig.engine.start()

    async def _terminate(self) -> None:
        await asyncio.sleep(self._draw.uniform(0, 1.5))
        self.verdict.stuck += await self.rig.engine.end(signal.SIGTERM) is None
        self.rig.engine.start()

    async def _kill_broker(self) -> None:
        await self.rig.broker.end()
        await asyncio.sleep(self._draw.uniform(0.2, 3))
        self.rig.cable.open = False
        self.rig.cable.cut()
        self.rig.broker.start()
        await until(self.rig.ear.listens.is_set, 20)  # else it could not witness what arrives
        self.rig.cable.open = True

    async def _freeze_broker(self) -> None:
        self.rig.broker.send(signal.SIGSTOP)
        await asyncio.sleep(self._draw.uniform(0.5, 4))
        self.rig.broker.send(signal.SIGCONT)

    async def _partition(self) -> None:
        self.rig.cable.hold()
        await asyncio.sleep(self._draw.uniform(0.5, 4))
        if self._draw.random() < 0.5:
            self.rig.cable.cut()
        self.rig.cable.release()

    async def _slow(self) -> None:
        self.rig.cable.pause_s = self._draw.uniform(0.05, 0.3)
        await asyncio.sleep(self._draw.uniform(1, 4))
        self.rig.cable.pause_s = 0.0

    async def _kill_outlet(self) -> None:
        await self.rig.outlet.end()
        await asyncio.sleep(self._draw.uniform(0.2, 2))
        self.rig.outlet.start()

    async def _fill_disk(self) -> None:
        if not self.rig.mounted:
            return
        filler = self.rig.sessions / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass
        except OSError:
            await asyncio.sleep(self._draw.uniform(1, 4))
        filler.unlink()

    async def _tear(self) -> None:
        """Copy the files as they lie at one moment, cut the last bytes off, and open what is left."""
        paths = self._youngest()
        if not paths:
            return
        copy = Path(tempfile.mkdtemp(dir=self.rig.folder)) / paths[-1].name
        self.rig.engine.send(signal.SIGSTOP)
        for end in ("", "-wal"):
            source = paths[-1].with_name(paths[-1].name + end)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + end))
        self.rig.engine.send(signal.SIGCONT)
        wal = copy.with_name(copy.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            with wal.open("r+b") as file:
                file.truncate(self._draw.randrange(wal.stat().st_size))
            await asyncio.to_thread(check_torn, copy, paths[-1], self.verdict)
        shutil.rmtree(copy.parent)

    async def _step(self) -> None:
        self.rig.step_clock(self._draw.choice([-3600.0, 3600.0, 0.0]))


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def unleash(folder: Path, seed: int, faults: int, minutes: float) -> tuple[Verdict, Counter[str]]:
    """Run, and judge."""
    verdict = Verdict()
    rig = Rig(folder, free_port(), SPEED)
    try:
        async with rig.running():
            chaos = Chaos(rig, seed, verdict)
            await chaos.run(faults, time.monotonic() + 60 * minutes)
        shutil.copytree(rig.sessions, folder / "night")
        await asyncio.to_thread(check, folder / "night", rig.ear.heard, Model.load(), verdict)
        verdict.notes["small_disk"] = rig.mounted
        verdict.notes["hours"] = round(verdict.notes["samples"] / 100 / 3600, 2)
    finally:
        (folder / "heard.jsonl").write_text("\n".join(body for _, body in rig.ear.heard))
        rig.close()
    return verdict, chaos.done


def main(arguments: list[str]) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30.0, help="no new fault after that (default 30)")
    parser.add_argument("--faults", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--keep", type=Path, help="folder for the engine's log; default: a temporary one")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        verdict, done = asyncio.run(unleash(folder, asked.seed, asked.faults, asked.minutes))
    print(json.dumps({"faults": done.total(), "by_kind": done, **asdict(verdict)}, indent=1))
    return 1 if verdict.broken() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
