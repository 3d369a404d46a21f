"""The news of a night, and the protocol of a sink, which hears them.

Everything that hears of a night is a `Sink`: MQTT, JSON lines, terminal, log, live page, LSL outlets, alarm,
triggers, a test. `streamer/sinks/handover.py` stands between it and the night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from streamer.messages import Item, Score, StreamInfo
from streamer.payloads import (
    AlarmPayload,
    EpochPayload,
    EventPayload,
    HealthPayload,
    NightPayload,
    SignalPayload,
    StagePayload,
    SummaryPayload,
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session begins or continues."""

    info: StreamInfo
    channel: str  # the derivation that is staged
    session: Path  # the session file


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Samples of every channel, or a loss, just before the pipeline gets them: a second or so at a time."""

    item: Item


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, before anything is published of it."""

    score: Score
    end: float  # Unix time of its end, s


@dataclass(frozen=True, slots=True)
class Online:
    """Whether samples arrive."""

    online: bool


@dataclass(frozen=True, slots=True)
class Urgent:
    """An event that a broker should have at once; it is also told, and recorded, as an event."""

    event: EventPayload


@dataclass(frozen=True, slots=True)
class Arm:
    """The arm of a firing, for the list beside the session file alone."""

    trigger: str
    number: int  # of its firings in the night, from 0
    arm: str  # active or sham
    t_end: float  # Unix time of the end of the score that caused it, s


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark of the program itself: one of Python's log records."""

    level: str  # INFO, WARNING, ERROR ...
    name: str  # of the logger
    text: str
    trace: str = ""  # the traceback, several lines


@dataclass(frozen=True, slots=True)
class MqttStatus:
    """How the connection to the broker is doing at this moment."""

    connected: bool
    protocol: str  # "5", "3.1.1", or "" before the first connection
    reconnects: int  # connections after the first
    last_error: str  # one line: what happened and what to do; "" while all is well
    published: Mapping[str, int]  # acknowledged messages by kind
    backlog: int  # epochs and events that the broker does not have yet
    left_out: tuple[str, ...] = ()  # topics that the broker does not take


News = (
    Opened
    | Sampled
    | Scored
    | Online
    | Urgent
    | Arm
    | Remark
    | MqttStatus
    | StagePayload
    | EpochPayload
    | EventPayload
    | SummaryPayload
    | NightPayload
    | AlarmPayload
    | HealthPayload
    | SignalPayload
)


class StagesAndEvents:
    """What a sink of stages and events shares: each goes to a method of its own."""

    wants: tuple[type, ...] = (StagePayload, EventPayload)

    def hear(self, stream: str, news: News) -> None:
        """Take a stage or an event."""
        if isinstance(news, StagePayload):
            self._staged(news)
        elif isinstance(news, EventPayload):
            self._happened(news)

    def _staged(self, payload: StagePayload) -> None:
        raise NotImplementedError

    def _happened(self, payload: EventPayload) -> None:
        raise NotImplementedError


class Sink(Protocol):
    """Whoever hears of a night. It may fail: whatever `hear` raises harms nobody else."""

    @property
    def name(self) -> str:
        """What a person calls it, as in "the log failed"."""
        ...

    @property
    def wants(self) -> tuple[type, ...]:
        """The kinds of news that it is told; no other reaches it."""
        ...

    @property
    def prompt(self) -> bool:
        """True: `hear` never waits for anything, and is called at once on the event loop.

        False: it may wait, for a disk or a terminal, and gets a thread of its own.
        """
        ...

    def hear(self, stream: str, news: News) -> None:
        """Take what happened to a stream; "" stands for the whole process."""
        ...
