"""Finds the stored nights, and those whose raw samples a rule of [storage] deletes."""

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
    """An ended session that still has its raw samples."""

    path: Path
    stream: str
    evening: date | None  # None: unknown
    started: float  # Unix time, s
    sample_bytes: int
    loose: bool  # whether some samples are not compressed yet


def find_stored(folder: Path, node: str, streams: Collection[str]) -> list[Stored]:
    """Find every session that may be packed or pruned, newest first.

    These are ended sessions of this node's streams that no process is recording or delivering. Files that
    cannot be read are left out.
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
    """Find the nights whose raw samples a rule deletes, oldest first, each with the rule.

    Args:
        nights: newest first.
        rule: the [storage] table; without a limit nothing is deleted.

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
