"""The data that pass between the stages: chunks and gaps, windows and scores.

A position is an integer sample index: it lies `index / rate_hz` seconds after the stream's first sample. No
floating-point times are summed up, so nothing drifts over a night.
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

RATE_HZ = 100  # sampling rate after the conditioner
EPOCH_S = 30  # AASM scoring epoch
EPOCH_SAMPLES = RATE_HZ * EPOCH_S

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a device or recording."""

    label: str
    unit: str  # as the device or file declares it: "uV", "mV", "V", "nV" ...; "" if it declares none
    # Index in the recording, if the stream holds only some of its channels; so "#3" always means the same
    # one.
    position: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Make the texts printable: one line, no control characters."""
        object.__setattr__(self, "label", printable(self.label))
        object.__setattr__(self, "unit", printable(self.unit))


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """An open stream: its name, sampling rate, channels and start."""

    name: str
    rate_hz: float
    channels: tuple[Channel, ...]
    started: float  # Unix time of sample index 0, seconds
    duration_s: float | None = None  # of a recording; None for a live stream

    def __post_init__(self) -> None:
        """Make the texts printable: one line, no control characters."""
        object.__setattr__(self, "name", printable(self.name))


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive samples. How a stream is cut into chunks has no meaning."""

    start: int  # index of the first sample
    samples: Floats  # (channels, n), float64; n may be 0
    arrived: float = 0.0  # monotonic seconds when the last sample reached this host

    @property
    def stop(self) -> int:
        """Index one past the last sample."""
        return self.start + int(self.samples.shape[1])


@dataclass(frozen=True, slots=True)
class Gap:
    """Lost samples: index `start` up to, not including, `stop`."""

    start: int
    stop: int
    reason: str
    arrived: float = 0.0


Item = Chunk | Gap


@dataclass(frozen=True, slots=True)
class Marker:
    """An event that arrived with the samples, such as an amplifier's trigger input."""

    at: int  # index of the sample it belongs to
    kind: str  # such as "Stimulus"
    text: str  # such as "S  1"
    channel: str = ""  # "": of all channels

    def __post_init__(self) -> None:
        """Make the texts printable: one line, no control characters."""
        for name in ("kind", "text", "channel"):
            object.__setattr__(self, name, printable(getattr(self, name)).strip())

    @property
    def told(self) -> str:
        """One line for a person."""
        return ": ".join(part for part in (self.kind, self.text) if part) or "unnamed"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A warning, given once, that the signal does not look like EEG in µV."""

    text: str


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of channel: from device sample `at` on, `after` is staged instead of `before`."""

    at: int
    before: str
    after: str
    reason: str


Grade = Literal["good", "fair", "poor", "off"]


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of the last 30 s, with the reasons if it is not good."""

    grade: Grade
    reasons: tuple[str, ...] = ()
    lost_fraction: float = 0.0  # share of the window's samples that are lost, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The last 30 s of conditioned EEG, ready for the network. Lost samples are NaN, never zeros."""

    end: int  # 100 Hz index one past the last sample; a whole number of seconds
    epoch: int | None  # number of the epoch that ends here; None off the 30 s grid
    samples: NDArray[np.float32]  # (3000,) µV
    spectrogram: NDArray[np.float32]  # (29, 128) dB; a frame that touches a lost sample is NaN throughout
    arrived: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """The result of scoring one window."""

    end: int  # 100 Hz index one past the window's last sample
    epoch: int | None  # number of the committed epoch; None for a provisional score off the 30 s grid
    stage: Label  # the most probable stage, or "unscored"
    smoothed: Label  # after the causal smoother
    probabilities: tuple[float, ...] | None  # in the order of STAGES; None when unscored
    warmup: bool  # the network has seen fewer epochs than it needs as context
    quality: Quality = field(default_factory=lambda: Quality("good"))
    window: Window | None = field(default=None, compare=False, repr=False)  # the window that was scored
    arrived: float = 0.0
    # r.m.s. in 25-45 Hz of each of the 30 s, oldest first, in µV; see quality.py
    fast_uv: tuple[float | None, ...] = ()


def most_probable(probabilities: tuple[float, ...] | None) -> Label:
    """Return the most probable stage; "unscored" without probabilities."""
    if probabilities is None:
        return UNSCORED
    return STAGES[max(range(len(STAGES)), key=probabilities.__getitem__)]
