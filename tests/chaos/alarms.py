"""Alarms that fall due during faults, and faults around them: none may be missed, doubled or left ringing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiomqtt

from tests.chaos.check import Verdict
from tests.chaos.engine import SteppedClock
from tests.chaos.evidence import handed
from tests.chaos.rig import EAR, Rig, until

Fault = Callable[[random.Random], Awaitable[None]]
TOPIC = "sleepstream/chaos/anna/command"
ANSWER_S = 2.0  # before a command is said again
TRIES = 15
STOPS = "absurd command"  # the last of them, "stop", ends an engine that hears it as it is said
BEGIN_S = 60.0  # for an engine that was started to take samples, or to ring
DUE_S = 1.0, 4.0  # from arming to the deadline
QUIET_S = 10.0  # for a player to end
RUN = "import sys; from streamer.cli import main; sys.exit(main())"
ABSURD: tuple[tuple[str, str], ...] = (
    ("arm_alarm", "9999-12-31T23:59:59-14:00"),
    ("arm_alarm", "0001-01-01T00:00+14:00"),
    ("arm_alarm", "25:00"),
    ("arm_alarm", "2026-13-45T99:99"),
    ("arm_alarm", "\x1b[2J\n"),
    ("arm_trigger", "nobody\nERROR forged"),
    ("disarm_trigger", "\x00"),
    ("format_disk", ""),
    ("mark", "x" * 500),
)


class Alarms:
    """Arms the engine's alarm, and sees it ring; a file bears a line for each player that was started.

    Args:
        rig: with engine, broker and the file.
        verdict: where it goes if an alarm does not ring, or a player is left.
        die: kills the engine, and judges what that costs.

    Attributes:
        deaths: faults that end the engine, or need it to be the only one.
        others: that do not.

    """

    def __init__(self, rig: Rig, verdict: Verdict, die: Callable[[], Awaitable[None]]) -> None:
        self.deaths: dict[str, Fault] = {
            "kill while ringing": self._kill_ringing,
            "second engine": self._start_second,
        }
        self.others: dict[str, Fault] = {STOPS: self._ask_absurd}
        self._rig = rig
        self._verdict = verdict
        self._die = die
        self._clock = SteppedClock()
        self._clock.folder = rig.folder
        self._before: int | None = None  # lines, when it was armed
        self._number = 0
        self._file = rig.sessions / "anna@chaos.alarm.json"

    # ---- an alarm that is due in the middle of whatever happens

    async def arm(self, seconds: float) -> None:
        """Have it ring in so many seconds, if the engine can be told so now."""
        at = datetime.fromtimestamp(self._clock.wall() + seconds, UTC).isoformat()
        rung = self._rung()
        answer = await self._tell("arm_alarm", at)
        if answer is None or not answer["done"]:
            return  # a deadline that has passed until it was heard
        await until(lambda: self._remembered() >= datetime.fromisoformat(at).timestamp() - 1, BEGIN_S)
        self._before = rung
        self._count("alarms_due")

    async def judge(self) -> None:
        """See that it has rung, and that it can be told to be quiet."""
        if self._before is None:
            return
        before, self._before = self._before, None
        if await until(lambda: self._rung() > before, BEGIN_S):
            self._count("alarms_rung")
        else:
            self._broken("unrung", "an alarm that was due did not ring")
        if len(self._players()) > 1:
            self._broken("orphans", f"{len(self._players())} players at once")
        await self._tell("dismiss_alarm")
        if not await until(lambda: not self._players(), QUIET_S):
            self._broken("orphans", "a player cannot be told to be quiet")

    # ---- faults

    async def _kill_ringing(self, draw: random.Random) -> None:
        """Its player dies with the engine, and the next engine rings on, once."""
        if self._before is None:
            await self.arm(draw.uniform(*DUE_S))
        await until(lambda: bool(self._players()), BEGIN_S / 4)
        await asyncio.sleep(draw.uniform(0, 1))
        await self._die()
        if not await until(lambda: not self._players(), QUIET_S):
            self._broken("orphans", "a player has outlived the engine")
        rung = self._rung()
        self._rig.engine.start()
        if self._before is not None and not await until(lambda: self._rung() > rung, BEGIN_S):
            self._broken("unrung", "killed while it rang, it did not ring on")

    async def _start_second(self, draw: random.Random) -> None:
        """Somebody starts the same settings by hand."""
        rig = self._rig
        await until(lambda: bool(handed(rig.folder, rig.engine.pid)), BEGIN_S)
        await asyncio.sleep(draw.uniform(0, 1))
        first = rig.engine.pid
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RUN, "run", str(rig.config), "--log", "json"),
            env={**os.environ, **rig.where},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        said = b""
        try:
            async with asyncio.timeout(BEGIN_S):
                _, said = await second.communicate()
        except TimeoutError:
            second.kill()
            await second.wait()
        if rig.engine.runs and (second.returncode != 1 or f"process {first} ".encode() not in said):
            self._broken("doubled", f"a second engine: {second.returncode} {said.decode()[-300:]}")

    async def _ask_absurd(self, draw: random.Random) -> None:
        for command, text in draw.sample(ABSURD, 5):
            answer = await self._tell(command, text, tries=1)
            if answer is not None and answer["done"]:
                self._broken("absurd", f"{command} {text!r} was obeyed")
        async with self._client() as client:  # a command that is left there would end every start
            await client.publish(TOPIC, b'{"command":"stop"}', 1, retain=True)
            await asyncio.sleep(draw.uniform(0, 2))
            await client.publish(TOPIC, b"", 1, retain=True)

    # ---- how

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client("127.0.0.1", self._rig.broker.port, username=EAR, password=EAR, timeout=2)

    async def _tell(self, command: str, text: str = "", tries: int = TRIES) -> dict[str, Any] | None:
        """Say a command until it is answered; None: nobody has."""
        self._number += 1
        known = f"chaos-{self._number}"
        body = json.dumps({"command": command, "text": text, "id": known})
        for _ in range(tries):
            with contextlib.suppress(aiomqtt.MqttError):
                async with self._client() as client:
                    await client.publish(TOPIC, body, 1)
            if await until(lambda: self._answer(known) is not None, ANSWER_S):
                break
        return self._answer(known)

    def _answer(self, known: str) -> dict[str, Any] | None:
        for kind, body in reversed(self._rig.ear.heard[-2000:]):
            if kind == "answer" and (answer := json.loads(body))["id"] == known:
                return dict(answer)
        return None

    def _rung(self) -> int:
        return len(self._rig.rang.read_bytes().splitlines()) if self._rig.rang.exists() else 0

    def _remembered(self) -> float:
        """The deadline in the alarm's file."""
        try:
            return float(json.loads(self._file.read_bytes())["deadline"])
        except (OSError, ValueError, KeyError):
            return 0.0

    def _players(self) -> list[int]:
        """Processes that bear the alarm's mark."""
        mark, found = f"SLEEPSTREAM_ALARM={self._file.resolve()}:".encode(), []
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in place.read_bytes() and int(place.parent.name) != os.getpid():
                    found.append(int(place.parent.name))
        return found

    def _count(self, name: str) -> None:
        self._verdict.notes[name] = self._verdict.notes.get(name, 0) + 1

    def _broken(self, name: str, what: str) -> None:
        setattr(self._verdict, name, getattr(self._verdict, name) + 1)
        self._verdict.what.append(what)
