"""What the readers of recordings share: the first bytes of a file, and distinct labels."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from streamer.errors import RecordingError
from streamer.messages import Channel

UNKNOWN_START = 473_385_600.0  # 1 January 1985, what EDF puts for a date that was taken out


def make_distinct(channels: Iterable[tuple[str, str]]) -> tuple[Channel, ...]:
    """Make channels from (label, unit) pairs; equal labels are numbered: "C4#1" and "C4#2".

    An empty label, or one that looks like a position ("#3"), becomes "channel ...": a user could not name it.
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


def decode_text(raw: bytes) -> str:
    """Decode UTF-8, which may be cut within its last character, or else Latin-1."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(raw)  # leaves a character that was cut
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_head(path: Path, count: int = 256) -> bytes:
    """Return the first bytes of a file.

    Raises:
        RecordingError: the file is missing, a folder, empty or may not be read.

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
