"""What happens in a night, as messages ("news"), and `Sink`, the protocol of everything that receives them.

MQTT, JSON lines, terminal, log, live page, LSL outlets, alarm and triggers are sinks. News reach them through
`streamer/sinks/handover.py`, which keeps a sink's failure away from the night.
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
    """A session has begun, or was continued."""

    info: StreamInfo
    channel: str  # label of the derivation that is staged
    session: Path  # the session file


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Samples of every channel (about a second), or a gap, just before they enter the pipeline."""

    item: Item


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, before it is published."""

    score: Score
    end: float  # Unix time of its end, s


@dataclass(frozen=True, slots=True)
class Online:
    """Samples have begun, or stopped, to arrive."""

    online: bool


@dataclass(frozen=True, slots=True)
class Urgent:
    """An event to send to the broker at once.

    The same event follows as an `EventPayload`, which is recorded.
    """

    event: EventPayload


@dataclass(frozen=True, slots=True)
class Arm:
    """The arm of one stimulus, active or sham: only written to the list beside the session file."""

    trigger: str
    number: int  # of the firing: it counts the trigger's firings in this night, from 0
    arm: str  # active or sham
    t_end: float  # Unix time of the end of the score that caused it, s


@dataclass(frozen=True, slots=True)
class Remark:
    """A log record of the program."""

    level: str  # INFO, WARNING, ERROR ...
    name: str  # of the logger
    text: str
    trace: str = ""  # the traceback, several lines


@dataclass(frozen=True, slots=True)
class MqttStatus:
    """The state of the connection to the broker."""

    connected: bool
    protocol: str  # "5" or "3.1.1"; "" before the first connection
    reconnects: int  # connections after the first
    last_error: str  # one line: what happened and what to do; "" while there is none
    published: Mapping[str, int]  # number of acknowledged messages by kind
    backlog: int  # number of epochs and events that the broker has not acknowledged yet
    left_out: tuple[str, ...] = ()  # topics that the broker refuses


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
    """Base class of a sink of stages and events: passes each kind to its own method."""

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
    """A receiver of news. An exception in `hear` is caught and harms neither the night nor other sinks."""

    @property
    def name(self) -> str:
        """Its name in messages, as in "the log failed"."""
        ...

    @property
    def wants(self) -> tuple[type, ...]:
        """The classes of news to pass to `hear`; others are not."""
        ...

    @property
    def prompt(self) -> bool:
        """True: `hear` never blocks, and is called directly on the event loop.

        False: `hear` may block, for example on a disk or a terminal, and is called in a thread of its own.
        """
        ...

    def hear(self, stream: str, news: News) -> None:
        """Receive one piece of news about a stream; "" stands for the whole process."""
        ...
