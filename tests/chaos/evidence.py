"""What chaos leaves behind, looked at while it goes on: session files, and the notes of the witness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamer.errors import JournalError
from streamer.journal import JournalReader
from tests.chaos.engine import COUNTER, NOTE, WITNESS_FILE


@dataclass(frozen=True, slots=True)
class Handed:
    """One piece of signal that an engine's journal was given."""

    newest: int  # the device's number of its last sample
    at: float  # steady seconds


def youngest(sessions: Path) -> list[Path]:
    """Session files, the youngest last; their names tell the engine's time, which is set."""

    def touched(path: Path) -> tuple[int, str]:
        log = path.with_name(path.name + "-wal")
        states = [one.stat() for one in (path, log) if one.exists()]
        written = (state.st_mtime_ns for state in states if state.st_size)  # reading leaves an empty log
        return max(written, default=0), path.name

    return sorted(sessions.glob("*.sqlite"), key=touched)


def newest_sample(sessions: Path) -> int:
    """The device's number of the last sample on disk."""
    best = -1
    for path in youngest(sessions)[-2:]:
        try:
            with JournalReader(path) as reader:
                for chunk in reader.samples(max(0, reader.last().index - 1)):
                    best = max(best, int(chunk.samples[COUNTER, -1]))
        except JournalError:
            continue  # it is being made
    return best


def handed(folder: Path, pid: int) -> list[Handed]:
    """All that the process with this number was given; of a process that lives, so far."""
    try:
        notes = (folder / WITNESS_FILE.format(pid=pid)).read_bytes()
    except FileNotFoundError:
        return []
    whole = len(notes) - len(notes) % NOTE.size
    return [Handed(int(newest), at) for newest, at in NOTE.iter_unpack(notes[:whole])]


def undelivered(sessions: Path, *, events: bool = False) -> int:
    """Epochs (and events) that no broker has acknowledged, in all files."""
    waiting = 0
    for path in sessions.glob("*.sqlite"):
        try:
            with JournalReader(path) as reader:
                waiting += sum(events or parcel.kind == "epoch" for parcel in reader.parcels())
        except JournalError:
            waiting += 1
    return waiting
