"""What every recording looks like once it is open, whatever its format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from streamer.errors import RecordingError, UsageError
from streamer.messages import Channel, Item

MOST_NULS = 16  # one byte in so many may be NUL in a text that was damaged
UNKNOWN_START = 473_385_600.0  # 1 January 1985, what EDF puts for a date that was taken out


class Recording(Protocol):
    """A file of signals; opening it checked its header, reading it is lazy where the format allows."""

    name: str
    channels: tuple[Channel, ...]
    rates_hz: tuple[float, ...]  # of each channel
    started: float  # Unix time of sample 0; a time without a zone is taken as UTC
    duration_s: float | None  # gaps included; None: known only when it has been read
    remarks: list[str]  # what was left out, or is not believed, a line each; grows while it is read

    def together(self, index: int) -> tuple[int, ...]:
        """The channels that are sampled together with channel `index`, in file order."""
        ...

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Chunks of the picked channels (which are sampled together) and gaps, from index 0 to the end.

        Raises:
            RecordingError: what is read is damaged.

        """
        ...


def open_recording(path: Path, rate_hz: float | None = None) -> Recording:
    """Open an EDF, BDF, XDF or CSV file; its content decides, not its name.

    `rate_hz` is for a CSV without times.

    Raises:
        RecordingError: it is missing, damaged, or none of these.
        UsageError: `rate_hz` is needed, or given where it has no place.

    """
    # Imported where they are needed: each format brings its reader, and most runs need one of them or none.
    from streamer.sources.edf_header import is_edf

    head = read_head(path)
    kind = path.suffix.lower()
    if is_edf(head) or kind in (".edf", ".bdf", ".rec"):
        from streamer.sources.edf import EdfRecording

        _no_rate(path, rate_hz)
        return EdfRecording(path)
    if head.startswith(b"XDF:") or kind in (".xdf", ".xdfz") or path.name.lower().endswith(".xdf.gz"):
        from streamer.sources.xdf import XdfRecording

        _no_rate(path, rate_hz)
        return XdfRecording(path)
    if head.count(0) > len(head) // MOST_NULS or kind not in (".csv", ".tsv", ".txt", ".dat", ""):
        raise RecordingError(
            f"{path} is not a recording sleepstream reads; give an EDF, BDF, XDF or CSV file"
        )
    from streamer.sources.table import TableRecording

    return TableRecording(path, rate_hz)


def distinct(channels: Iterable[tuple[str, str]]) -> tuple[Channel, ...]:
    """Channels from labels and units, of which no two labels are equal: of equal ones, "C4#1" and "C4#2".

    A label that is empty, or looks like a position ("#3"), could not be named: it becomes "channel ...".
    """
    made = [Channel(label.strip(), unit) for label, unit in channels]
    labels = [f"channel {one.label}" if re.fullmatch(r"#[0-9]*|", one.label) else one.label for one in made]
    while len(set(labels)) < len(labels):
        counts = Counter(labels)
        seen: Counter[str] = Counter()
        for place, label in enumerate(labels):
            seen[label] += 1
            if counts[label] > 1:
                labels[place] = f"{label}#{seen[label]}"
    return tuple(Channel(label.strip(), one.unit) for label, one in zip(labels, made, strict=True))


def read_head(path: Path, count: int = 256) -> bytes:
    """The first bytes of a file.

    Raises:
        RecordingError: it is missing, a folder, empty or may not be read.

    """
    if path.is_dir():
        raise RecordingError(f"{path} is a folder; give one recording")
    try:
        with path.open("rb") as file:
            head = file.read(count)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}; check the path") from error
    if not head:
        raise RecordingError(f"{path} is empty; copy it again from the recorder")
    return head


def _no_rate(path: Path, rate_hz: float | None) -> None:
    if rate_hz is not None:
        raise UsageError(f"{path} states its own rate; take rate_hz = {rate_hz:g} out of the settings")
