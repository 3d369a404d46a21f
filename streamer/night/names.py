"""Finds session files, and gives each a distinct name for its reports and exports."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import UsageError
from streamer.journal import JournalReader, Meta
from streamer.journal.file import APPLICATION_ID
from streamer.night.session import evening_of

UNTOLD = "session"  # the stem that every replay gives its session file


@dataclass(frozen=True, slots=True)
class Named:
    """A session file, and what its reports and exports are called."""

    path: Path
    meta: Meta
    name: str

    def free_in(self, folder: Path) -> str:
        """Its name, or a longer one where the report of another session has that name already."""
        return self.name if owner(folder / f"{self.name}.json") in (None, self.meta.session) else self.longer

    @property
    def longer(self) -> str:
        """A name that no other session has."""
        return f"{self.name}-{_plain(self.meta.session.rpartition('-')[2]) or 'x'}"


def sessions_of(paths: Sequence[Path]) -> list[Path]:
    """Session files, in the order given, each once; a folder stands for all in it and in folders below.

    Raises:
        UsageError: a folder without a session.

    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(_inside(path)) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path} holds no session (*.sqlite); give a session file")
        found += inside
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def name_session(path: Path) -> Named:
    """Name a session after its file; a replay's after recording and night.

    Raises:
        JournalError: it is no session, or damaged.

    """
    with JournalReader(path) as reader:
        meta = reader.meta
    evening = evening_of(meta)
    night = "" if evening is None else f"-{evening}"
    return Named(path, meta, path.stem if path.stem != UNTOLD else f"{_plain(meta.info.name)}{night}")


def make_distinct(sessions: Sequence[Named]) -> list[Named]:
    """The same with distinct names: equal ones get the end of the session's identity."""
    counts = Counter(one.name for one in sessions)
    longer = [Named(one.path, one.meta, one.longer) if counts[one.name] > 1 else one for one in sessions]
    seen: Counter[str] = Counter()
    out = []
    for one in longer:  # a copy of a session file has the same identity
        seen[one.name] += 1
        copy = f"{one.name}-{seen[one.name]}" if seen[one.name] > 1 else one.name
        out.append(Named(one.path, one.meta, copy))
    return out


def owner(report: Path) -> str | None:
    """The session of a report's JSON file; None if there is none."""
    try:
        found = json.loads(report.read_text(encoding="utf-8")).get("session")
    except OSError:
        return None
    except (ValueError, AttributeError):
        return ""  # no report of ours, and not to be overwritten
    return found if isinstance(found, str) else ""


def _inside(folder: Path) -> Iterator[Path]:
    """All session files below a folder; other databases are left out."""
    for path in folder.rglob("*.sqlite"):
        try:
            with path.open("rb") as file:
                head = file.read(72)
        except OSError:
            continue
        foreign = head.startswith(b"SQLite format 3\0") and head[68:72] != APPLICATION_ID.to_bytes(4, "big")
        if not foreign and path.is_file():
            yield path


def _plain(name: str) -> str:
    """A name as part of a file's: no separators, nothing hidden."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "recording"
