"""The data that the live page keeps of each sleeper's night."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamer.messages import Label, StreamInfo, Window
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.commands import CommandInbox
from streamer.web.traces import Traces

BINS = 38  # of 0.78 Hz, up to 30 Hz; each is the mean of two bins of the network's spectrogram
EVENTS = 100  # kept for clients that connect later

Json = dict[str, object]


@dataclass(slots=True, eq=False)
class StreamState:
    """One sleeper's night so far."""

    name: str
    session: str
    info: StreamInfo
    channel: str
    hop_s: int
    labels: Sequence[Label]  # stages of the committed epochs: the publisher's own list, which only grows
    inbox: CommandInbox
    traces: Traces  # further channels
    density: list[bytes] = field(default_factory=list)  # 5 bytes an epoch, 255 = 1
    spectrum: list[bytes] = field(default_factory=list)  # BINS bytes an epoch
    grades: list[str] = field(default_factory=list)
    stage: StagePayload | None = None
    window: Window | None = None
    heard: float = 0.0  # when the last stage with a signal came, monotonic s
    events: deque[EventPayload] = field(default_factory=lambda: deque(maxlen=EVENTS))
    n_events: int = 0
    gaps: int = 0
    lost_s: float = 0.0
    away: bool = False  # the signal was lost, so its return will be shown
    ended: bool = False
    between: bool = False  # the night has ended by itself, and another will follow
    alarm: Json | None = None  # state and deadline (Unix s) of the alarm; None: the stream has no alarm
