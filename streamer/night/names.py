"""Finds session files, and gives each a unique name for its reports and exports."""

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

UNTOLD = "session"  # stem of every replay's session file


@dataclass(frozen=True, slots=True)
class Named:
    """A session file, and the name of its reports and exports."""

    path: Path
    meta: Meta
    name: str

    def free_in(self, folder: Path) -> str:
        """Return the name, or a longer one if another session's report in `folder` has that name."""
        return (
            self.name
            if read_owner(folder / f"{self.name}.json") in (None, self.meta.session)
            else self.longer
        )

    @property
    def longer(self) -> str:
        """The name with the end of the session's identity, which no other session has."""
        return f"{self.name}-{_plain(self.meta.session.rpartition('-')[2]) or 'x'}"


def find_sessions(paths: Sequence[Path]) -> list[Path]:
    """List session files, each once, in the given order; a folder stands for all session files below it.

    Raises:
        UsageError: a folder has no session.

    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(_inside(path)) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path} has no session file (*.sqlite); name a session file, or another folder")
        found += inside
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def name_session(path: Path) -> Named:
    """Name a session after its file, or a replay's after the recording and the night.

    Raises:
        JournalError: the file is not a session, or is damaged.

    """
    with JournalReader(path) as reader:
        meta = reader.meta
    evening = evening_of(meta)
    night = "" if evening is None else f"-{evening}"
    return Named(path, meta, path.stem if path.stem != UNTOLD else f"{_plain(meta.info.name)}{night}")


def make_distinct(sessions: Sequence[Named]) -> list[Named]:
    """Make the names unique: equal ones get the end of the session's identity."""
    counts = Counter(one.name for one in sessions)
    longer = [Named(one.path, one.meta, one.longer) if counts[one.name] > 1 else one for one in sessions]
    seen: Counter[str] = Counter()
    out = []
    for one in longer:  # a copy of a session file has the same identity
        seen[one.name] += 1
        copy = f"{one.name}-{seen[one.name]}" if seen[one.name] > 1 else one.name
        out.append(Named(one.path, one.meta, copy))
    return out


def read_owner(report: Path) -> str | None:
    """Read which session a report's JSON file belongs to.

    None if there is no file, "" if it is not a report.
    """
    try:
        found = json.loads(report.read_text(encoding="utf-8")).get("session")
    except OSError:
        return None
    except (ValueError, AttributeError):
        return ""  # not our report, so it must not be overwritten
    return found if isinstance(found, str) else ""


def _inside(folder: Path) -> Iterator[Path]:
    """Find all session files below a folder, without databases of other programs."""
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
    """Make a name fit for a file name: no separators, no dot in front."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "recording"
