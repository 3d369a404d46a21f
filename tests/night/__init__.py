"""Session files for tests of what comes after the night, written through the journal itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from streamer.journal import Journal, Meta
from streamer.messages import STAGES, Channel, Chunk, Gap, StreamInfo
from streamer.payloads import EpochPayload, EventPayload, Probabilities, PublishedStage, QualityPayload, utc
from tests.journals import HandClock

STARTED = 1_750_000_000.0
LETTERS: dict[str, PublishedStage] = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "R": "R", "?": "unscored"}


def stages(letters: str) -> list[PublishedStage]:
    return [LETTERS[letter] for letter in letters]


def session(
    path: Path,
    labels: Sequence[PublishedStage],
    *,
    rate_hz: float = 100.0,
    channels: Sequence[Channel] = (Channel("EEG Fpz-Cz", "uV"),),
    gaps: Sequence[tuple[int, int]] = (),
    events: Sequence[tuple[str, dict[str, int]]] = (),
    samples: np.ndarray | None = None,
    started: float = STARTED,
    ended: bool = True,
    source: str = "replay",
    channel: object = None,
    unit: str | None = None,
    stream: str = "anna",
    name: str = "test",
    identity: str = "s1",
) -> Path:
    """A session of one epoch per label; `samples` (channels, n) are cut where `gaps` (start, stop) are."""
    n = int(30 * rate_hz * len(labels))
    info = StreamInfo(name, rate_hz, tuple(channels), started)
    if samples is None:
        samples = np.random.default_rng(0).normal(0, 20, (len(channels), n))
    meta = Meta(
        identity,
        "node",
        stream,
        info,
        "abc",
        {"source": {"kind": source}, "signal": {"channel": channel, "unit": unit}},
        {"sleepstream": "0", "model": "small of 2025-01-01"},
    )
    with Journal.create(path, meta, HandClock(), deliver=False) as journal:
        at = 0
        for start, stop in [*gaps, (samples.shape[1], samples.shape[1])]:
            for begin in range(at, start, 6000):
                journal.record(Chunk(begin, samples[:, begin : min(begin + 6000, start)]))
            if stop > start:
                journal.record(Gap(start, stop, "no packets"))
            at = stop
        for number, label in enumerate(labels):
            journal.epoch(epoch(number, label, started))
        said = [*events, *([("session_ended", {})] if ended else [])]
        for number, (name, data) in enumerate(said):
            journal.event(
                EventPayload(session="s1", seq=number, t=utc(started), event=name, text="here", data=data)
            )
    return path


def epoch(number: int, label: PublishedStage, started: float) -> EpochPayload:
    start = utc(started + 30 * number)
    scored = label in STAGES
    shares = {stage: 0.8 if stage == label else 0.05 for stage in STAGES}
    return EpochPayload(
        session="s1",
        seq=number,
        epoch=number,
        t_start=start,
        t_end=start + timedelta(seconds=30),
        stage=label,
        smoothed=label,
        probabilities=Probabilities(**shares) if scored else None,
        confidence=0.8 if scored else None,
        warmup=False,
        quality=QualityPayload(
            grade="good" if scored else "off", reasons=() if scored else ("lost",), lost_fraction=0.0
        ),
    )
