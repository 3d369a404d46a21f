"""`sleepstream status`: shows the newest session of every stream on this machine."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from streamer.errors import JournalError
from streamer.journal import JournalReader
from streamer.journal.lock import held
from streamer.payloads import EventName
from streamer.settings import SESSION_DIR, load

State = Literal["recording", "silent", "ended", "died", "damaged"]
SILENT_S = 30.0  # a session without a sample in its file for so long is shown as silent
TROUBLE: tuple[EventName, ...] = ("error", "warning", "no_signal", "gap")
LAST_EVENTS = 500  # only so many are searched; with a bad device a night can have hundreds of thousands
TEXT_CHARS = 160


@dataclass(frozen=True, slots=True)
class Status:
    """One stream's newest session."""

    session: str
    state: State
    node: str = ""
    stream: str = ""
    age_s: float | None = None  # age of the last sample in the file
    hours: float = 0.0  # length of the recording
    lost_s: float = 0.0  # seconds of lost signal
    epochs: int = 0
    stage: str = ""  # of the last committed epoch
    thinned: int = 0  # provisional stages left out because the machine was too busy
    undelivered: int = 0  # messages that no broker has acknowledged
    trouble: str = ""  # the last problem
    mb: float = 0.0  # size of the file

    def line(self) -> str:
        """Describe the session in two or three lines of text."""
        if self.state == "damaged":
            return f"{self.session}: {self.trouble}"
        ago = "" if self.age_s is None else f", last sample {self.age_s:.0f} s ago"
        waiting = f", {self.undelivered} messages wait for the broker" if self.undelivered else ""
        thinned = f", {self.thinned} provisional stages left out" if self.thinned else ""
        trouble = f"\n  last problem: {self.trouble}" if self.trouble else ""
        return (
            f"{self.node}/{self.stream}: {self.state}{ago}; {self.hours:.1f} h, {self.epochs} epochs"
            f"{f', now {self.stage}' if self.stage else ''}, {self.lost_s:.1f} s lost{thinned}{waiting}\n"
            f"  session {self.session}, {self.mb:.1f} MB{trouble}"
        )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream status`."""
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG.toml", help="settings with session_dir"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def run(asked: argparse.Namespace) -> int:
    """Print the sessions; return 0 if each is being recorded or was closed properly, else 1.

    Raises:
        JournalError: the folder of the session files does not exist.

    """
    folder = load(asked.config).session_dir if asked.config else SESSION_DIR.expanduser()
    if not folder.is_dir():
        raise JournalError(
            f"there is no folder {folder}: nothing was recorded there yet, or it was moved or deleted; "
            "name the settings file, whose session_dir is used"
        )
    found = find_statuses(folder)
    for one in found:
        print(json.dumps(asdict(one)) if asked.json else one.line())
    if not found and not asked.json:
        print(f"no session in {folder}")
    return int(any(one.state not in ("recording", "ended") for one in found))


def find_statuses(folder: Path, now: float | None = None) -> list[Status]:
    """Find the newest session of every stream in a folder, and damaged files newer than all of these.

    Args:
        folder: of the session files.
        now: Unix time, seconds.

    """
    found: dict[tuple[str, str], Status] = {}
    for status in _newest_first(folder, time.time() if now is None else now):
        key = (status.node, status.stream) if status.state != "damaged" else (status.session, "")
        if status.state == "damaged" and found:
            continue
        found.setdefault(key, status)
    return list(found.values())


def _newest_first(folder: Path, now: float) -> Iterator[Status]:
    for path in sorted(folder.glob("*.sqlite"), reverse=True):
        try:
            with JournalReader(path) as reader:
                yield _status(path, reader, now)
        except JournalError as error:
            yield Status(path.stem, "damaged", trouble=str(error))


def _status(path: Path, reader: JournalReader, now: float) -> Status:
    meta, last, ended = reader.meta, reader.last(), reader.ended
    events, epochs = list(reader.events("session_ended", last=LAST_EVENTS)), list(reader.epochs())
    troubles = [event for name in TROUBLE if (event := reader.newest(name)) is not None]
    trouble = ""
    if troubles:
        newest = max(troubles, key=lambda event: event.seq)
        trouble = f"{newest.t:%H:%M:%S} UTC {newest.text}"
    return Status(
        session=meta.session,
        state=_state(path, ended, now - last.wall if last.index else 0.0),
        node=meta.node,
        stream=meta.stream,
        age_s=round(now - last.wall, 1) if last.index else None,
        hours=round(last.index / meta.info.rate_hz / 3600, 3),
        lost_s=round(sum(gap.stop - gap.start for gap in reader.gaps()) / meta.info.rate_hz, 3),
        epochs=len(epochs),
        stage=epochs[-1].stage if epochs else "",
        thinned=max((int(event.data.get("thinned") or 0) for event in events), default=0),
        undelivered=sum(1 for _ in reader.parcels()),
        trouble="; ".join((*reader.missing, trouble) if trouble else reader.missing)[:TEXT_CHARS],
        mb=round(path.stat().st_size / 1e6, 2),
    )


def _state(path: Path, ended: bool, age_s: float) -> State:
    if ended:
        return "ended"  # also while its last messages are delivered, or its samples packed
    if held(path):
        return "recording" if age_s < SILENT_S else "silent"
    return "died"
