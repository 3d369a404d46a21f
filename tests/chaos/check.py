"""Holds what the broker passed on and what the session files say against each other and against the truth."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from streamer.clock import SystemClock
from streamer.errors import JournalError
from streamer.journal import Journal, JournalReader
from streamer.journal.file import MIGRATIONS
from streamer.journal.lock import outrun
from streamer.messages import STAGES, Score
from streamer.network.stager import Model
from streamer.night.session import read_items
from streamer.payloads import Probabilities
from streamer.pipeline import Pipeline
from streamer.settings import StreamSettings
from tests.chaos.engine import COUNTER

LEFT_OVER = (
    4  # epochs of two seconds at chaos' speed: on disk, not scored at the death, and never gone on with
)


@dataclass(slots=True)
class Verdict:
    """What was promised and not held, each counted; all but the last lines must be 0."""

    lost: int = 0  # epochs that the record's samples make and that were not committed, or not delivered
    duplicated: int = 0  # epochs committed twice
    reordered: int = 0  # epochs that first arrived after a later one
    rewritten: int = 0  # epochs that arrived with another content, or differ from an unbroken run
    unlisted_gaps: int = 0  # samples missing without an entry in the ledger
    disordered_samples: int = 0  # recorded twice or out of order
    torn: int = 0  # copies, cut at random, that did not open as an earlier state
    beyond_2s: int = 0  # deaths that cost more than the promise
    abandoned: int = 0  # sessions that died, were young enough, and were not continued
    misfired: int = 0  # stimuli within the refractory time, or without a record
    unrung: int = 0  # alarms that were due and did not ring, or not again after a death
    orphans: int = 0  # players that outlived the engine, were doubled, or could not be told to be quiet
    doubled: int = 0  # second engines that were not refused in one line that names the first
    absurd: int = 0  # absurd commands that were obeyed
    stuck: int = 0  # the engine did not recover from a fault, or did not end when told
    notes: dict[str, float] = field(default_factory=dict)  # not promised, but worth knowing
    given_up: set[str] = field(default_factory=set)  # sessions whose age nobody can tell: rightly abandoned
    what: list[str] = field(default_factory=list)  # was broken, for whoever mends it

    def broken(self) -> int:
        """How many promises in all."""
        return sum(
            getattr(self, name) for name in self.__slots__ if name not in ("notes", "what", "given_up")
        )


def check(folder: Path, heard: list[tuple[str, str]], model: Model, verdict: Verdict) -> None:
    """Judge a chaos that is over; every message and every session file of it."""
    arrived = [json.loads(body) for kind, body in heard if kind == "epoch"]
    sessions = [path for path in sorted(folder.glob("*.sqlite")) if _born(path)]
    verdict.notes["sessions"] = len(sessions)
    verdict.notes["repeated"] = len(arrived) - len({(one["session"], one["seq"]) for one in arrived})
    for name in ("epochs", "gaps", "gap_samples", "samples", "resumed"):
        verdict.notes[name] = 0
    for path in sessions:
        with JournalReader(path, thorough=True) as reader:
            _check_order(reader, arrived, verdict)
            _check_samples(reader, verdict)
            _check_scores(path, reader, model, verdict)
            events = [event.event for event in reader.events()]
            left = "session_ended" not in events and not outrun(path)
            verdict.abandoned += left and path.name not in verdict.given_up
            verdict.notes["resumed"] += events.count("session_resumed")


def _born(path: Path) -> bool:
    """Whether a session was begun in this file: a death or a full disk may come before that is on disk."""
    with closing(sqlite3.connect(path)) as db:
        return bool(
            db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").fetchone()[0]
            and db.execute("SELECT count(*) FROM meta").fetchone()[0]
        )


def _check_order(reader: JournalReader, arrived: list[dict[str, object]], verdict: Verdict) -> None:
    """Every committed epoch arrived; first arrivals are in order; nothing differs but `historical`."""
    mine = [one for one in arrived if one["session"] == reader.meta.session]
    first: dict[object, dict[str, object]] = {}
    latest = -1
    for one in mine:
        plain = {**one, "historical": None}
        if one["seq"] in first:
            if first[one["seq"]] != plain:
                verdict.rewritten += 1
                verdict.what.append(f"said again otherwise: {first[one['seq']]} {plain}")
            continue
        first[one["seq"]] = plain
        seq = one["seq"]
        assert isinstance(seq, int)
        verdict.reordered += seq < latest
        latest = max(latest, seq)
    committed = [json.loads(payload.model_dump_json(by_alias=True)) for payload in reader.epochs()]
    with closing(sqlite3.connect(reader.path)) as db:  # the reader leaves the second of two out
        numbers = [json.loads(body)["epoch"] for (body,) in db.execute("SELECT body FROM epochs")]
    verdict.duplicated += len(numbers) - len(set(numbers))
    for one in committed:
        found = first.get(one["seq"])
        verdict.lost += found is None
        if found is not None and found != {**one, "historical": None}:
            verdict.rewritten += 1
            verdict.what.append(f"said otherwise than committed: {found} {one}")
    if not outrun(reader.path):
        unkept = first.keys() - {one["seq"] for one in committed}
        verdict.rewritten += len(unkept)
        verdict.what += [f"said and not in the file: {first[seq]}" for seq in unkept]


def _check_samples(reader: JournalReader, verdict: Verdict) -> None:
    """Samples and gaps cover everything; where no gap is listed the device's own count goes on by one."""
    at, last = 0, -1.0
    gaps = {gap.start: gap for gap in reader.gaps()}
    for chunk in reader.samples():
        broken = False
        while at < chunk.start and at in gaps:
            gap = gaps.pop(at)
            verdict.notes["gaps"] += 1
            verdict.notes["gap_samples"] += gap.stop - gap.start
            at, broken = gap.stop, True
        verdict.unlisted_gaps += at != chunk.start
        counter = chunk.samples[COUNTER]
        steps = np.diff(counter, prepend=last if last >= 0 and not broken else counter[0] - 1)
        verdict.unlisted_gaps += int((steps > 1).sum())
        verdict.disordered_samples += int((steps < 1).sum()) + int(broken and counter[0] <= last)
        at, last = chunk.stop, float(counter[-1])
    verdict.notes["samples"] += at


def _check_scores(path: Path, reader: JournalReader, model: Model, verdict: Verdict) -> None:
    """An unbroken run over the record makes the same epochs, to the bit."""
    settings = StreamSettings.model_validate(reader.meta.settings)
    pipeline = Pipeline(reader.meta.info, settings.signal, settings.hop_s, model)
    outputs = [output for item in read_items(path) for output in pipeline.push(item)]
    whole = [one for one in outputs if isinstance(one, Score) and one.epoch is not None]
    committed = list(reader.epochs())
    verdict.notes["epochs"] += len(committed)
    missing = 0 if outrun(path) else len(whole) - len(committed)
    if path.name in verdict.given_up:  # a gap of hours is walked in pieces, which a death may come between
        staged = [score for score in whole[len(committed) :] if score.stage in STAGES]
        missing = min(missing, max(0, len(staged) - LEFT_OVER))
    verdict.lost += max(0, missing)
    for score, payload in zip(whole, committed, strict=False):
        same = (score.epoch, score.stage, score.smoothed) == (payload.epoch, payload.stage, payload.smoothed)
        if not same or _rounded(score) != payload.probabilities:
            verdict.rewritten += 1
            verdict.what.append(f"an unbroken run differs: {path.name} epoch {payload.epoch}")


def _rounded(score: Score) -> Probabilities | None:
    if score.probabilities is None:
        return None
    w, n1, n2, n3, r = (round(p, 5) for p in score.probabilities)
    return Probabilities(W=w, N1=n1, N2=n2, N3=n3, R=r)


def birth(wal: Path) -> int:
    """Where in a write-ahead log the transactions end that may be those that make a session file.

    What is cut off before leaves no session. 0 if there are not so many.
    """
    log = wal.read_bytes()
    page = int.from_bytes(log[8:12], "big")
    ends = (at + 24 + page for at in range(32, len(log), 24 + page) if any(log[at + 4 : at + 8]))
    return next(islice(ends, len(MIGRATIONS), None), 0)  # of each version, and one that fills it


def check_torn(copy: Path, later: Path, verdict: Verdict) -> None:
    """A copy with its end cut off must open, and hold an earlier state of what the file holds now."""
    try:
        with JournalReader(copy, thorough=True) as reader:
            epochs, end = list(reader.epochs()), reader.last().index
            samples = [(chunk.start, chunk.stop) for chunk in reader.samples()]
        with JournalReader(later) as reader:
            now = list(reader.epochs())
        Journal.resume(copy, SystemClock()).close()
    except JournalError as error:
        verdict.torn += 1
        verdict.what.append(f"torn: {error}")
        return
    if epochs != now[: len(epochs)] or any(stop > end for _, stop in samples):
        verdict.torn += 1
        verdict.what.append(f"torn: {copy.name} with {len(epochs)} epochs is no earlier state")
