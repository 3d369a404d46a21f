"""Stages back into the lab streaming layer, so that LabRecorder keeps them in step with everything else.

Per stream a marker outlet (`<prefix>-<stream>-markers`: stage changes as EDF+ writes them, triggers, events)
and a numeric one (`<prefix>-<stream>-hypnodensity`: the probability of each stage, NaN where unscored).
Pushing never waits: liblsl sends on threads of its own and drops the oldest when a recorder is too slow.
"""

from __future__ import annotations

import time
from math import nan
from types import TracebackType
from typing import Any, Self

from streamer import __version__
from streamer.messages import STAGES
from streamer.news import News
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.settings import LslSinkSettings
from streamer.sources.liblsl import load_pylsl

FLUSH_S = 0.2  # liblsl sends on threads of its own, which end with the outlet
LEAK = 2e-4  # how fast the two clocks may drift apart, s per s


class SampleClock:
    """Unix times of a stream's grid -> LSL times.

    The grid counts samples and so drifts against LSL's clock; arrivals do not, but are late. The most
    punctual arrival, slowly forgotten, ties the one to the other.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._last = 0.0

    def push(self, end: float, arrived: float) -> float:
        """LSL time of the grid's `end` (Unix s), whose sample arrived at `arrived` (LSL s)."""
        found = arrived - end
        if self._ahead is None:
            self._ahead, self._last = found, end
        self._ahead = min(found, self._ahead + LEAK * max(0.0, end - self._last))
        self._last = end
        return end + self._ahead


class LslOutlets:
    """The outlets of one stream; a sink, and a context manager that withdraws them.

    Args:
        settings: the `[lsl]` table.
        node: name of this engine; part of the source_id.
        stream: name of the sleeper.
        hop_s: seconds between stages.

    """

    name = "LSL"
    wants: tuple[type, ...] = (StagePayload, EventPayload)
    prompt = True  # liblsl sends on threads of its own

    def __init__(self, settings: LslSinkSettings, node: str, stream: str, hop_s: int) -> None:
        pylsl = load_pylsl()
        self._now = pylsl.local_clock
        self._clock = SampleClock()
        self._stage: str | None = None
        self._markers: Any = None  # pylsl is untyped
        self._density: Any = None
        about = {"node": node, "stream": stream}
        if settings.markers:
            self._markers = _outlet(pylsl, settings.prefix, about, "markers", "Markers", 1, "string")
        if settings.hypnodensity:
            self._density = _outlet(
                pylsl, settings.prefix, about, "hypnodensity", "Hypnodensity", len(STAGES), "float32", hop_s
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Withdraw the outlets, as liblsl does with the last reference; blocks a moment for the tail."""
        outlets = [outlet for outlet in (self._markers, self._density) if outlet is not None]
        if any(outlet.have_consumers() for outlet in outlets):
            time.sleep(FLUSH_S)
        del outlets
        self._markers = self._density = None

    def hear(self, stream: str, news: News) -> None:
        """Send a stage or an event."""
        match news:
            case StagePayload():
                self._staged(news)
            case EventPayload():
                self._happened(news)
            case _:
                pass

    def _staged(self, payload: StagePayload) -> None:
        """Send the probabilities, and a marker if the stage has changed; its time is the end of the 30 s."""
        time = self._now()
        if payload.stage != "no_signal":
            time = self._clock.push(payload.t_end.timestamp(), time - (payload.latency_ms or 0.0) / 1000)
        if self._density is not None:
            values = payload.probabilities
            self._density.push_sample([nan if values is None else getattr(values, s) for s in STAGES], time)
        if payload.stage != self._stage:
            self._stage = payload.stage
            self._mark(f"Sleep stage {payload.stage if payload.stage in STAGES else '?'}", time)

    def _happened(self, payload: EventPayload) -> None:
        """Send an event as a marker."""
        name = payload.event.replace("_", " ").capitalize()
        self._mark(f"{name}: {payload.text}" if payload.text else name, self._now())

    def _mark(self, text: str, time: float) -> None:
        if self._markers is not None:
            self._markers.push_sample([text], time)


def _outlet(
    pylsl: Any,
    prefix: str,
    about: dict[str, str],
    suffix: str,
    kind: str,
    channels: int,
    form: str,
    hop_s: int | None = None,
) -> Any:
    """An outlet that says what it carries; its source_id lets recorders find it again after a restart."""
    name = f"{prefix}-{about['stream']}-{suffix}"
    source_id = f"sleepstream-{about['node']}-{about['stream']}-{suffix}"
    info = pylsl.StreamInfo(name, kind, channels, pylsl.IRREGULAR_RATE, form, source_id)
    made = info.desc().append_child("acquisition")
    for key, value in {"manufacturer": "sleepstream", "version": __version__, **about}.items():
        made.append_child_value(key, value)
    if hop_s is not None:
        made.append_child_value("window_s", "30")
        made.append_child_value("hop_s", str(hop_s))
        entries = info.desc().append_child("channels")
        for stage in STAGES:
            entry = entries.append_child("channel")
            entry.append_child_value("label", stage)
            entry.append_child_value("unit", "probability")
            entry.append_child_value("type", "SleepStage")
    return pylsl.StreamOutlet(info)
