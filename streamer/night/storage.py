"""Finds the stored nights, and those whose raw samples a rule lets go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from streamer.errors import JournalError
from streamer.journal import JournalReader
from streamer.journal.lock import held
from streamer.journal.settings import StorageSettings
from streamer.night.session import evening_of


@dataclass(frozen=True, slots=True)
class Stored:
    """An ended session whose samples are still there."""

    path: Path
    stream: str
    evening: date | None  # None: nobody knows the day
    started: float  # Unix time, s
    sample_bytes: int
    loose: bool  # some of its samples are not packed


def find_stored(folder: Path, node: str, streams: Collection[str]) -> list[Stored]:
    """Every session that may be packed or pruned, the newest first.

    Only those of this node's streams, that were ended, and that nobody records or delivers now; what cannot
    be read is left out.
    """
    found = []
    for path in folder.glob("*.sqlite"):
        try:
            with JournalReader(path) as reader:
                meta = reader.meta
                if meta.node != node or meta.stream not in streams or held(path) or not reader.ended:
                    continue
                size, loose = reader.sample_bytes, reader.unpacked_samples
        except (JournalError, OSError):
            continue
        if size:
            evening = evening_of(meta)
            found.append(Stored(path, meta.stream, evening, meta.info.started, size, loose))
    return sorted(found, key=lambda one: (one.started, one.path), reverse=True)


def find_superfluous(nights: Sequence[Stored], rule: StorageSettings) -> list[tuple[Stored, str]]:
    """The nights whose samples a rule lets go, the oldest first, and which rule that is.

    Args:
        nights: the newest first.
        rule: what is kept; without a bound nothing goes.

    """
    out = []
    evenings: dict[str, set[date]] = {}
    total = 0
    for one in nights:
        known = evenings.setdefault(one.stream, set())
        if one.evening is not None:
            known.add(one.evening)
        total += one.sample_bytes
        if one.evening is not None and rule.nights is not None and len(known) > rule.nights:
            out.append((one, f"nights = {rule.nights}"))
        elif rule.gb is not None and total > rule.gb * 1e9:
            out.append((one, f"gb = {rule.gb:g}"))
    return out[::-1]
