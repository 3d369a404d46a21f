"""What the live page knows of each sleeper's night."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from streamer.messages import Label, StreamInfo, Window
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.commands import CommandInbox
from streamer.web.traces import Traces

BINS = 38  # of 0.78 Hz, up to 30 Hz: two of the network's spectrogram
EVENTS = 100  # kept for a client that comes later

Json = dict[str, object]


@dataclass(slots=True, eq=False)
class StreamState:
    """One sleeper's night so far."""

    name: str
    session: str
    info: StreamInfo
    channel: str
    hop_s: int
    labels: Sequence[Label]  # the publisher's own list, which only grows
    inbox: CommandInbox
    traces: Traces  # other channels
    density: list[bytes] = field(default_factory=list)  # 5 bytes an epoch, 255 = 1
    spectrum: list[bytes] = field(default_factory=list)  # BINS bytes an epoch
    grades: list[str] = field(default_factory=list)
    stage: StagePayload | None = None
    window: Window | None = None
    heard: float = 0.0  # monotonic s of the last stage with a signal
    events: deque[EventPayload] = field(default_factory=lambda: deque(maxlen=EVENTS))
    n_events: int = 0
    gaps: int = 0
    lost_s: float = 0.0
    away: bool = False  # the signal was lost, and its return is news
    ended: bool = False
    between: bool = False  # a night has ended by itself, and another will come
    alarm: Json | None = None  # its state and its deadline (Unix s); None: there is none
