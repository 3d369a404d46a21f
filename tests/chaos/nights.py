"""Faults that a night's record has to tell the truth about: clocks, files and firings around a death."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from streamer.errors import JournalError
from streamer.journal import JournalReader
from streamer.journal.lock import LOCK
from streamer.journal.place import LOG
from tests.chaos.check import Verdict
from tests.chaos.evidence import newest_sample, youngest
from tests.chaos.rig import REFRACTORY_S, Rig, until

Fault = Callable[[random.Random], Awaitable[None]]
BEGIN_S = 60.0  # for an engine that was started to have begun a session, or to go on with one
GO_ON_S = 30.0  # for a file to be back at its place
FIRING_S = 60.0  # for the next firing
HOURS = 1.0, 3.0  # a band that is off


class Nights:
    """Each leaves an engine that runs, or is being started.

    Args:
        rig: with the engine and its sessions.
        verdict: where it goes if the record does not tell the truth.
        die: kills the engine, and judges what that costs.

    Attributes:
        faults: by name.

    """

    def __init__(self, rig: Rig, verdict: Verdict, die: Callable[[], Awaitable[None]]) -> None:
        self.faults: dict[str, Fault] = {
            "clock behind after boot": self._clock_behind,
            "session folder gone": self._folder_gone,
            "kill at a firing": self._kill_at_firing,
            "long gap": self._long_gap,
        }
        self._rig = rig
        self._verdict = verdict
        self._die = die

    async def _clock_behind(self, draw: random.Random) -> None:
        """The power fails, and the computer has no clock that goes on: the last sample lies in its future."""
        await self._die()
        *earlier, old = youngest(self._rig.sessions) or [Path()]
        for path in earlier:  # all of them are from before that start, and were written before the last
            _ahead(path, 0.0)
        if not old.is_file() or not _ahead(old, draw.uniform(5, 3600)):
            self._rig.engine.start()
            return
        self._verdict.given_up.add(old.name)
        self._rig.engine.start()
        if not await until(lambda: bool(_why(self._rig.sessions, old)), BEGIN_S):
            self._broken(f"{old.name}: nobody said that unknown time was lost")

    async def _folder_gone(self, draw: random.Random) -> None:
        """The session's files are deleted, or moved to another folder, while they are written."""
        rig = self._rig
        files = youngest(rig.sessions)
        if not files or not rig.engine.runs:
            return
        path, away = files[-1], Path(tempfile.mkdtemp(dir=rig.folder))
        before = newest_sample(rig.sessions)
        for end in ("", LOG, "-shm", LOCK):
            one = path.with_name(path.name + end)
            if one.exists():
                shutil.move(one, away / one.name)
        if draw.random() < 0.5:
            shutil.rmtree(away)
        if not await until(lambda: path.exists() and newest_sample(rig.sessions) > before, GO_ON_S):
            self._broken(f"{path.name} was taken away, and is not back")

    async def _kill_at_firing(self, draw: random.Random) -> None:
        fired = self._rig.fired
        count = _lines(fired)
        await until(lambda: _lines(fired) > count, FIRING_S, 0.02)
        await asyncio.sleep(draw.choice([0.0, 0.0, draw.uniform(0, 0.1)]))
        await self._die()
        self._rig.engine.start()

    async def _long_gap(self, draw: random.Random) -> None:
        """The band is off for hours, which pass in no time."""
        await self._rig.outlet.end()
        self._rig.skip(3600 * draw.uniform(*HOURS))
        await asyncio.sleep(draw.uniform(0.2, 2))
        self._rig.outlet.start()

    def _broken(self, what: str) -> None:
        self._verdict.stuck += 1
        self._verdict.what.append(what)


def check_firings(rig: Rig, verdict: Verdict) -> None:
    """No two firings within the refractory time, however often it was killed; none that was not kept."""
    kept = 0
    for path in rig.sessions.glob("*.firings"):
        ends = [one["end"] for one in _records(path)]
        kept += len(ends)
        verdict.misfired += sum(round(b - a, 2) < REFRACTORY_S for a, b in pairwise(ends))  # kept to 10 ms
    acted = _lines(rig.fired)
    verdict.notes["fired"] = acted
    verdict.misfired += max(0, acted - kept)


def _records(path: Path) -> list[dict[str, float]]:
    lines = path.read_bytes().replace(b"\0", b"").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _ahead(path: Path, seconds: float) -> bool:
    """Make a session one of another start of the computer, whose clock was so far ahead of this one."""
    try:
        with closing(sqlite3.connect(path)) as db, db:
            changed = db.execute("UPDATE meta SET value = '\"another\"' WHERE key = 'boot'").rowcount
            for table in ("samples", "gaps"):
                db.execute(f"UPDATE {table} SET wall = wall + ?", (seconds,))
            return bool(changed and db.execute("SELECT count(*) FROM samples").fetchone()[0])
    except sqlite3.Error:  # it was just being made
        return False


def _why(sessions: Path, old: Path) -> str:
    """What a session later than `old` says of why that one was not gone on with."""
    for path in youngest(sessions)[-2:]:
        try:
            with JournalReader(path) as reader:
                said = [] if path == old else list(reader.events("session_started"))
        except JournalError:
            continue
        for event in said:
            if old.stem in str(event.data.get("why")):
                return str(event.data["why"])
    return ""


def _lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0
