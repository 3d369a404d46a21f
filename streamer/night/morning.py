"""The figures and the report of an ended night, and which reports are missing."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from streamer.clock import Clock
from streamer.errors import SleepstreamError
from streamer.host import private
from streamer.journal import JournalReader
from streamer.journal.candidates import age_s, sessions
from streamer.messages import EPOCH_S, STAGES
from streamer.night.names import name_session, read_owner
from streamer.night.session import NOON_S, read_night
from streamer.night.settings import NightSettings
from streamer.payloads import EventPayload, NightPayload, to_json, utc

OWED_S = 7 * 86400.0  # reports of older sessions are not made up for
SHOWN = 14  # number of nights that the page links to
PATIENCE_S = 1800.0  # longest time that a report may take
UNKNOWN = "the engine was not running"
Launch = Callable[[Sequence[Path]], Awaitable[str]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the page to a report."""

    title: str  # the night's date, or "trend"
    path: Path


class Morning:
    """One sleeper's nights on disk and their reports.

    Methods that are not coroutines block on the disk: call them in a thread.

    Args:
        settings: the [night] table.
        zone: the sleeper's time zone; None: this machine's.
        folder: of the session files.
        node: name of this engine.
        stream: name of the sleeper.
        clock: time.
        turn: lets only one report be written at a time, over all sleepers.
        launch: runs the process that writes a report; takes session files, returns the process's JSON.

    """

    def __init__(
        self,
        settings: NightSettings,
        zone: tzinfo | None,
        folder: Path,
        node: str,
        stream: str,
        clock: Clock,
        turn: asyncio.Semaphore,
        launch: Launch | None = None,
    ) -> None:
        self.settings = settings
        self._zone = zone
        self._folder = folder
        self._node = node
        self._stream = stream
        self._clock = clock
        self._turn = turn
        self._launch = launch or write_aside
        self._kept = folder / f"{stream}@{node}.night.json"

    def last(self) -> NightPayload | None:
        """Read the last night's figures; None if there are none, or they cannot be read."""
        try:
            return NightPayload.model_validate_json(self._kept.read_bytes())
        except (OSError, ValidationError):
            return None

    def keep(self, payload: NightPayload) -> None:
        """Store a night's figures, unless those of a later night are stored already."""
        before = self.last()
        if before is not None and before.ended > payload.ended:
            return
        fresh = self._kept.with_name(f"{self._kept.name}.new")
        try:
            private.write(fresh, to_json(payload))
            fresh.replace(self._kept)
        except OSError as error:
            log.warning("cannot write %s: %s", self._kept, error.strerror)

    def ended_by_itself(self) -> bool:
        """Whether the last session ended by a rule of [night]: then the next signal begins another night."""
        for path in islice(self._sessions(), 1):
            try:
                with JournalReader(path) as reader:
                    ended = reader.newest("session_ended")
            except SleepstreamError:
                return False
            return ended is not None and bool(ended.data.get("night"))
        return False

    def figures(self, session: Path) -> NightPayload | None:
        """Compute the figures of a session's night; None if it is too short for a night.

        Raises:
            SleepstreamError: the session cannot be read.

        """
        night = read_night(session)
        scored_s = EPOCH_S * sum(label in STAGES for label in night.labels)
        if scored_s < 60 * self.settings.report_after_min:
            return None
        ended = next((one for one in reversed(night.events) if one.event == "session_ended"), None)
        return NightPayload(
            session=night.meta.session,
            seq=0,
            t=utc(self._clock.wall()),
            date=datetime.fromtimestamp(night.started - NOON_S, self._zone).date(),
            started=utc(night.started + EPOCH_S * night.lights_off),
            ended=utc(night.started + EPOCH_S * night.lights_on),
            reason=_reason(ended),
            scored_min=scored_s / 60,
            statistics=night.statistics().to_json(),
        )

    async def report(self, session: Path, figures: NightPayload) -> NightPayload:
        """Have the report written; return the figures with the names of its files.

        Raises:
            SleepstreamError, OSError, ValueError: the report was not written.

        """
        earlier = await asyncio.to_thread(self._reported, session)
        await asyncio.to_thread(private.write, _unsaid(session), "")
        async with self._turn:
            said = json.loads(await self._launch([session, *earlier]))
        told = {"report": said["html"], "picture": said["png"], "trend": said["trend"]}
        return NightPayload.model_validate(
            {**figures.model_dump(by_alias=True), **told, "seq": 1, "t": utc(self._clock.wall())}
        )

    def said(self, session: Path) -> None:
        """The report of a session was announced; until then a restart announces it again."""
        _unsaid(session).unlink(missing_ok=True)

    def owed(self, active: Path | None, resume_s: float) -> list[Path]:
        """Return the sessions of the last days that have ended and have no announced report, oldest first.

        Args:
            active: the session that is being recorded.
            resume_s: a crashed session that is younger may still be continued, so it is left out.

        """
        found = []
        for path in self._sessions():
            if path == active:
                continue
            try:
                with JournalReader(path) as reader:
                    age = age_s(reader, self._clock)
                    over = "session_ended" in reader.tally() or (age is not None and age > resume_s)
                    info = reader.meta.info
                    last = info.started + reader.last().index / info.rate_hz
            except SleepstreamError as error:
                log.warning("cannot write a report: %s", error)
                continue
            if self._clock.wall() - last > OWED_S:
                break
            if over and (_unsaid(path).exists() or not _is_reported(path, last)):
                found.append(path)
        return found[::-1]

    def links(self) -> list[Link]:
        """Return links to the trend and to the reports, newest first."""
        found = [
            Link(f"{datetime.fromtimestamp(_started(path) - NOON_S, self._zone):%Y-%m-%d}", html)
            for path in islice(self._sessions(), SHOWN)
            if (html := _html(path)) is not None
        ]
        trend = self._folder / f"trend-{self._stream}.html"
        return [*([Link("trend", trend)] if trend.is_file() else []), *found]

    def _reported(self, but: Path) -> list[Path]:
        """The last sessions that have a report, without `but`: the other nights of the trend."""
        most = max(0, self.settings.trend_nights - 1)
        others = (path for path in self._sessions() if path != but and _html(path) is not None)
        return list(islice(others, most))

    def _sessions(self) -> list[Path]:
        return list(
            islice(sessions(self._folder, self._node, self._stream), 2 * self.settings.trend_nights + SHOWN)
        )


async def write_aside(paths: Sequence[Path]) -> str:
    """Run the process that writes the report; return its line of JSON.

    Raises:
        SleepstreamError: the process failed, or took too long.
        OSError: the process cannot be started.

    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "streamer.report.write", *map(str, paths)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C reaches the engine only
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    except TimeoutError:
        raise SleepstreamError(f"it took more than {PATIENCE_S / 60:.0f} min") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        raise SleepstreamError(lines[-1] if lines else f"exit code {process.returncode}")
    return out.decode()


def _reason(ended: EventPayload | None) -> str:
    if ended is None:
        return UNKNOWN
    return str(ended.data.get("reason") or ended.text)


def _html(session: Path) -> Path | None:
    """The path of a session's report; None if it has none."""
    try:
        one = name_session(session)
    except SleepstreamError:
        return None
    stem = one.free_in(session.parent)
    html = session.with_name(f"{stem}.html")
    ours = read_owner(session.with_name(f"{stem}.json")) == one.meta.session
    return html if ours and html.is_file() else None


def _unsaid(session: Path) -> Path:
    """A file that is there from the beginning of a report until it has been announced."""
    return session.with_suffix(".unsaid")


def _is_reported(session: Path, last: float) -> bool:
    """Whether a report was written after the last sample."""
    html = _html(session)
    return html is not None and html.stat().st_mtime >= last


def _started(session: Path) -> float:
    with JournalReader(session) as reader:
        return reader.meta.info.started
