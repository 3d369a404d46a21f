"""What flows between the stages: chunks and gaps in, windows and scores on.

Every position is an integer sample index on the clock of its stream: `index / rate_hz` seconds after the
first sample. Nothing carries a floating-point time that is added up, so nothing drifts over a night.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamer.host.printable import printable

Stage = Literal["W", "N1", "N2", "N3", "R"]
Label = Literal["W", "N1", "N2", "N3", "R", "unscored"]
STAGES: tuple[Stage, ...] = ("W", "N1", "N2", "N3", "R")
UNSCORED: Literal["unscored"] = "unscored"

RATE_HZ = 100  # of everything behind the conditioner
EPOCH_S = 30  # AASM scoring epoch
EPOCH_SAMPLES = RATE_HZ * EPOCH_S

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as its device names it."""

    label: str
    unit: str  # as declared by the device or file: "uV", "mV", "V", "nV" ... or "" when it says nothing
    # In the recording, where the stream leaves out others of it: "#3" goes on meaning the same channel.
    position: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Whatever the device calls it, it is one line and harmless to a terminal."""
        object.__setattr__(self, "label", printable(self.label))
        object.__setattr__(self, "unit", printable(self.unit))


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source knows about its stream once it is open."""

    name: str
    rate_hz: float
    channels: tuple[Channel, ...]
    started: float  # Unix time of sample index 0, seconds
    duration_s: float | None = None  # of a recording; None for what has no known end

    def __post_init__(self) -> None:
        """As for a channel."""
        object.__setattr__(self, "name", printable(self.name))


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive samples, in order; how many there are means nothing."""

    start: int  # index of the first sample
    samples: Floats  # (channels, n), float64; n may be 0
    arrived: float = 0.0  # monotonic seconds when the last of them reached this host

    @property
    def stop(self) -> int:
        """Index one past the last sample."""
        return self.start + int(self.samples.shape[1])


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that were lost: index `start` up to, not including, `stop`."""

    start: int
    stop: int
    reason: str
    arrived: float = 0.0


Item = Chunk | Gap


@dataclass(frozen=True, slots=True)
class Marker:
    """What another program or an amplifier's trigger input has put into the stream."""

    at: int  # index of the sample it belongs to
    kind: str  # such as "Stimulus"
    text: str  # such as "S  1"
    channel: str = ""  # "": of all

    def __post_init__(self) -> None:
        """As for a channel."""
        for name in ("kind", "text", "channel"):
            object.__setattr__(self, name, printable(getattr(self, name)).strip())

    @property
    def told(self) -> str:
        """One line for a person."""
        return ": ".join(part for part in (self.kind, self.text) if part) or "unnamed"


@dataclass(frozen=True, slots=True)
class Doubt:
    """The signal does not look like EEG in µV; said once."""

    text: str


@dataclass(frozen=True, slots=True)
class Switch:
    """From device sample `at` on, another channel is staged."""

    at: int
    before: str
    after: str
    reason: str


Grade = Literal["good", "fair", "poor", "off"]


@dataclass(frozen=True, slots=True)
class Quality:
    """How far the last 30 s can be trusted, and why not further."""

    grade: Grade
    reasons: tuple[str, ...] = ()
    lost_fraction: float = 0.0  # share of the window's samples that never arrived, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The last 30 s of conditioned EEG, ready for the network. Lost samples are NaN, never zeros."""

    end: int  # 100 Hz index one past the last sample; a whole number of seconds
    epoch: int | None  # the number of the epoch that ends here, or None off the 30 s grid
    samples: NDArray[np.float32]  # (3000,) µV
    spectrogram: NDArray[np.float32]  # (29, 128) dB; a frame that touches a lost sample is NaN throughout
    arrived: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """What the network makes of one window."""

    end: int  # 100 Hz index one past the window's last sample
    epoch: int | None  # committed epoch number, or None for a provisional score off the grid
    stage: Label  # the most probable stage, or "unscored"
    smoothed: Label  # after the causal smoother
    probabilities: tuple[float, ...] | None  # in the order of STAGES; None when unscored
    warmup: bool  # the network has seen fewer epochs than it needs for full confidence
    quality: Quality = field(default_factory=lambda: Quality("good"))
    window: Window | None = field(default=None, compare=False, repr=False)  # what was scored
    arrived: float = 0.0
    # r.m.s. in 25-45 Hz of each of the 30 s, oldest first; see quality
    fast_uv: tuple[float | None, ...] = ()


def most_probable(probabilities: tuple[float, ...] | None) -> Label:
    """Name the stage; without probabilities it is unscored."""
    if probabilities is None:
        return UNSCORED
    return STAGES[max(range(len(STAGES)), key=probabilities.__getitem__)]
