"""Sends stages into the lab streaming layer, so that recorders keep them in step with the rest.

Per stream a marker outlet (`<prefix>-<stream>-markers`: stage changes as EDF+ writes them, triggers, events),
the same as numbers (`<prefix>-<stream>-codes`: code, trigger number, condition, due time), and a numeric one
(`<prefix>-<stream>-hypnodensity`: the probability of each stage, NaN where unscored).
Pushing never waits: liblsl sends on threads of its own and drops the oldest when a recorder is too slow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import nan
from types import TracebackType
from typing import Any, Self

from streamer import __version__
from streamer.messages import STAGES
from streamer.news import StagesAndEvents
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.codes import STAGE_CODES, Coded, encode_event, table
from streamer.sinks.settings import LslSinkSettings
from streamer.sources.liblsl import load_pylsl

FLUSH_S = 0.2  # liblsl sends on threads of its own, which end with the outlet
CHANNELS = {"code": "", "number": "", "condition": "", "due": "s"}  # of the outlet of codes, with their units
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


class LslOutlets(StagesAndEvents):
    """The outlets of one stream; a sink, and a context manager that withdraws them.

    Args:
        settings: the `[lsl]` table.
        node: name of this engine; part of the source_id.
        stream: name of the sleeper.
        hop_s: seconds between stages.
        triggers: the codes of the stream's triggers, by name.

    """

    name = "LSL"
    prompt = True  # liblsl sends on threads of its own

    def __init__(
        self,
        settings: LslSinkSettings,
        node: str,
        stream: str,
        hop_s: int,
        triggers: Mapping[str, int] | None = None,
    ) -> None:
        pylsl = load_pylsl()
        self._now = pylsl.local_clock
        self._clock = SampleClock()
        self._stage: str | None = None
        self._markers: Any = None  # pylsl is untyped
        self._codes: Any = None
        self._density: Any = None
        about = {"node": node, "stream": stream}
        if settings.markers:
            self._markers = _outlet(pylsl, settings.prefix, about, "markers", "Markers", 1, "string")
        if settings.codes:
            self._codes = _code_outlet(pylsl, settings.prefix, about, table(triggers or {}))
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
        outlets = [one for one in (self._markers, self._codes, self._density) if one is not None]
        if any(outlet.have_consumers() for outlet in outlets):
            time.sleep(FLUSH_S)
        del outlets
        self._markers = self._codes = self._density = None

    def _staged(self, payload: StagePayload) -> None:
        """Send the probabilities, and a marker if the stage has changed; its time is the end of the 30 s."""
        at = self._now()
        if payload.stage != "no_signal":
            at = self._clock.push(payload.t_end.timestamp(), at - (payload.latency_ms or 0.0) / 1000)
        if self._density is not None:
            values = payload.probabilities
            self._density.push_sample([nan if values is None else getattr(values, s) for s in STAGES], at)
        if payload.stage != self._stage:
            self._stage = payload.stage
            text = f"Sleep stage {payload.stage if payload.stage in STAGES else '?'}"
            self._mark(text, Coded(STAGE_CODES[payload.stage]), at)

    def _happened(self, payload: EventPayload) -> None:
        """Send an event as a marker."""
        name = payload.event.replace("_", " ").capitalize()
        self._mark(f"{name}: {payload.text}" if payload.text else name, encode_event(payload), self._now())

    def _mark(self, text: str, numbers: Coded, at: float) -> None:
        if self._markers is not None:
            self._markers.push_sample([text], at)
        if self._codes is not None:
            due = numbers.due + self._now() - time.time()  # on LSL's clock
            self._codes.push_sample([numbers.code, numbers.number, numbers.condition, due], at)


def _code_outlet(pylsl: Any, prefix: str, about: dict[str, str], codes: Mapping[str, int]) -> Any:
    """The outlet of the markers as numbers, which says what they mean."""
    name, source_id = _names(prefix, about, "codes")
    info = pylsl.StreamInfo(name, "MarkerCodes", len(CHANNELS), pylsl.IRREGULAR_RATE, "double64", source_id)
    _describe(info, about, CHANNELS, "MarkerCode")
    meanings = info.desc().append_child("codes")
    for meaning, code in codes.items():
        entry = meanings.append_child("code")
        entry.append_child_value("value", str(code))
        entry.append_child_value("meaning", meaning)
    return pylsl.StreamOutlet(info)


def _names(prefix: str, about: dict[str, str], suffix: str) -> tuple[str, str]:
    """Name and source_id, which lets recorders find an outlet again after a restart."""
    name = f"{prefix}-{about['stream']}-{suffix}"
    return name, f"sleepstream-{about['node']}-{about['stream']}-{suffix}"


def _describe(info: Any, about: dict[str, str], channels: Mapping[str, str], kind: str) -> Any:
    """Describe the outlet: its maker, and its channels by label and unit."""
    made = info.desc().append_child("acquisition")
    for key, value in {"manufacturer": "sleepstream", "version": __version__, **about}.items():
        made.append_child_value(key, value)
    if not channels:
        return made
    entries = info.desc().append_child("channels")
    for label, unit in channels.items():
        entry = entries.append_child("channel")
        entry.append_child_value("label", label)
        entry.append_child_value("unit", unit)
        entry.append_child_value("type", kind)
    return made


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
    """Make an outlet that describes its content."""
    name, source_id = _names(prefix, about, suffix)
    info = pylsl.StreamInfo(name, kind, channels, pylsl.IRREGULAR_RATE, form, source_id)
    labels: tuple[str, ...] = () if hop_s is None else STAGES
    made = _describe(info, about, dict.fromkeys(labels, "probability"), "SleepStage")
    if hop_s is not None:
        made.append_child_value("window_s", "30")
        made.append_child_value("hop_s", str(hop_s))
    return pylsl.StreamOutlet(info)
