"""Finds the session of an earlier process to continue, and its age."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from streamer.clock import Clock, boot_id
from streamer.errors import DamagedError, JournalError
from streamer.journal import JournalReader, Meta
from streamer.journal.lock import outrun
from streamer.journal.place import LOG
from streamer.settings import StreamSettings

LOOK_BACK = 100  # sessions of a stream, some three months
UNKNOWN = 1  # rank of a crashed session of unknown age
SLACK_S = 1.0  # two clocks may differ so much, because one is slewed
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The session to continue, or why there is none."""

    path: Path | None  # the session to continue; None: start a new one
    why: str  # in one line
    unknown: bool = False  # how long a crashed session was interrupted is not known
    before: Path | None = None  # a crashed session, recent or of unknown age, that is not continued


def find(folder: Path, fresh: Meta, clock: Clock, within_s: float) -> Found:
    """Look for a session to continue.

    Args:
        folder: of the session files.
        fresh: the metadata of a new session; those of the old one have to agree.
        clock: time.
        within_s: the old session's last sample may be so old, s.

    """
    found = _find(folder, fresh, clock, within_s)
    if found.path is not None:
        return found
    try:
        last, problem = _unread(folder, fresh.stream)
    except OSError:  # the folder cannot be read: reported when a file is made there
        return found
    if not problem:
        return found
    before = last if _written_ago_s(last, clock) <= within_s else found.before
    return Found(None, f"the last session is not continued: {problem}", True, before)


def _find(folder: Path, fresh: Meta, clock: Clock, within_s: float) -> Found:
    unknown, before = False, None
    try:
        newest = _newest(folder, fresh, clock, within_s)
        if newest is None:
            return Found(None, "there is no earlier session")
        with JournalReader(newest) as reader:
            why, age = _refusal(reader, fresh) or _too_old(reader, clock, within_s), age_s(reader, clock)
            if not _ended(reader):
                unknown = age is None
                before = newest if age is None or age <= within_s else None
        if not why:
            with JournalReader(newest, thorough=True) as reader:
                reader.position()
    except JournalError as error:
        return Found(None, str(error), before=before)
    if why:
        return Found(None, f"{newest.stem} is not continued: {why}", unknown, before)
    return Found(newest, "")


def sessions(folder: Path, node: str, stream: str) -> Iterator[Path]:
    """Yield the session files of one stream, the newest first, without unreadable ones."""
    for path in sorted(folder.glob(f"*-{glob.escape(stream)}-*.sqlite"), reverse=True):
        try:
            with JournalReader(path) as reader:
                meta = reader.meta
        except JournalError:
            continue  # reported when this file itself is opened
        if (meta.node, meta.stream) == (node, stream):
            yield path


def _unread(folder: Path, stream: str) -> tuple[Path, str]:
    """Return the last session file by name, and why it cannot be read, or "".

    An earlier one was reported when the session after it began.
    """
    name = re.compile(rf"\d{{8}}T\d{{6}}Z-{re.escape(stream)}-[0-9a-f]{{6}}\.sqlite")
    last = max((path for path in folder.glob("*.sqlite") if name.fullmatch(path.name)), default=folder)
    if last is folder:
        return folder, ""
    try:
        with JournalReader(last) as reader:
            reader.last()
    except JournalError as error:
        return last, str(error)
    return last, ""


def _written_ago_s(path: Path, clock: Clock) -> float:
    """Return a file's age by its modification time, s; not positive if unknown or the clock was set back."""
    try:
        return clock.wall() - path.stat().st_mtime
    except OSError:
        return 0.0


def _written(path: Path) -> float:
    """Return when a session was last written to, by the modification times, Unix s.

    An empty log was not written to: SQLite makes one when a session of a dead process is only read.
    """
    log = path.with_name(path.name + LOG)
    files = [path, log] if log.exists() and log.stat().st_size else [path]
    return max(one.stat().st_mtime for one in files)


def _newest(folder: Path, fresh: Meta, clock: Clock, within_s: float) -> Path | None:
    """Return the session with the youngest last sample. Names are less reliable, because clocks are set.

    A crashed session of unknown age comes after those that are young enough, and before those that are too
    old; of several, the one that was written last. If it has the last name, it also comes before a session
    that was ended.
    """
    found: dict[Path, _Rank] = {}
    for path in islice(sessions(folder, fresh.node, fresh.stream), LOOK_BACK):
        try:
            with JournalReader(path) as reader:
                if reader.last().index:
                    found[path] = _rank(reader, age_s(reader, clock), within_s)
        except DamagedError as error:  # it must not hide a sound one
            log.warning("%s", error)
    best = min(found, key=found.__getitem__, default=None)
    last = next(iter(found), None)
    if best is None or last is None or found[last].order != UNKNOWN or not found[best].ended:
        return best
    return last


class _Rank(NamedTuple):
    """A sort key: the smallest is the session to continue."""

    order: int
    age_s: float  # if unknown: smaller if it was written later
    ended: bool


def _rank(reader: JournalReader, age: float | None, within_s: float) -> _Rank:
    ended = _ended(reader)
    if age is None:
        return _Rank(UNKNOWN + 2 if ended else UNKNOWN, -_written(reader.path), ended)
    return _Rank(UNKNOWN - 1 if age <= within_s else UNKNOWN + 1, age, ended)


def age_s(reader: JournalReader, clock: Clock) -> float | None:
    """Return the age of the last sample, s; None if no clock shows it.

    If the computer has not been restarted since, the steady clock shows it; otherwise only the wall clock
    can. The sample is then older than the start of the computer. A wall clock by which it is younger runs
    behind, as that of a computer whose clock stops without power, and is not used.
    """
    last, boot = reader.last(), boot_id()
    now = clock.monotonic()
    if boot and reader.meta.boot == boot:
        return now - last.monotonic if last.monotonic <= now else None
    age = clock.wall() - last.wall
    if not (boot and reader.meta.boot) and abs(now - last.monotonic - age) < SLACK_S:
        return age  # the system does not report its starts, and both clocks went on alike
    return age if age >= now - SLACK_S else None


def _too_old(reader: JournalReader, clock: Clock, within_s: float) -> str:
    """Return why the session is too old to be continued, or of unknown age; or ""."""
    age = age_s(reader, clock)
    if age is None:
        return (
            "the computer was restarted and its clock is behind, so it is not known how much of the night is "
            "missing; set the clock before sleepstream starts"
        )
    if age > within_s:
        return f"its last sample is {age / 60:.0f} min old, more than {within_s / 60:g} min"
    return ""


def _ended(reader: JournalReader) -> bool:
    return "session_ended" in reader.tally()


def _refusal(reader: JournalReader, fresh: Meta) -> str:
    """Return why the session cannot be continued, whatever its age; or ""."""
    old = reader.meta
    if _ended(reader):
        return "it was ended"
    if outrun(reader.path):
        return "the disk refused when its process died, so published epochs may be missing in it"
    if (old.info.rate_hz, old.info.channels) != (fresh.info.rate_hz, fresh.info.channels):
        return "the device has another rate or other channels"
    if old.model_sha256 != fresh.model_sha256:
        return "the model is another one"
    try:
        settings = StreamSettings.model_validate(old.settings)
    except ValidationError:
        return "its settings are of another version"
    changed = _changed(settings, StreamSettings.model_validate(fresh.settings))
    return f"{changed} was changed in the settings" if changed else ""


def _changed(old: StreamSettings, new: StreamSettings) -> str:
    """Return the first setting that differs, or ""."""
    return next((name for name in type(old).model_fields if getattr(old, name) != getattr(new, name)), "")
