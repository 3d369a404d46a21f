"""Sends stages into the lab streaming layer, so that recorders store them in sync with other streams.

Each sleeper has three outlets. `<prefix>-<stream>-markers`: stage changes as EDF+ writes them, triggers and
events. `<prefix>-<stream>-codes`: the same as numbers (code, trigger number, condition, due time).
`<prefix>-<stream>-hypnodensity`: the probability of each stage, NaN if unscored.
Pushing never waits: liblsl sends on its own threads, and drops the oldest samples if a recorder is too slow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import nan
from typing import Any, Self

from streamer import __version__
from streamer.messages import STAGES
from streamer.news import StagesAndEvents
from streamer.payloads import EventPayload, StagePayload
from streamer.sinks.codes import STAGE_CODES, Coded, encode_event, table
from streamer.sinks.settings import LslSinkSettings
from streamer.sources.liblsl import load_pylsl

FLUSH_S = 0.2  # time for liblsl's threads to send the last samples before they end
CHANNELS = {"code": "", "number": "", "condition": "", "due": "s"}  # of the outlet of codes, with their units
LEAK = 2e-4  # the two clocks may drift apart so fast, s per s


class SampleClock:
    """Converts Unix times of a stream's sample grid to LSL times.

    The grid counts samples and so drifts against LSL's clock. Arrivals do not drift, but are late by varying
    amounts. So the two clocks are compared at the least late arrival, which is slowly forgotten.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None
        self._last = 0.0

    def push(self, end: float, arrived: float) -> float:
        """Return the LSL time of the grid's `end` (Unix s), whose sample arrived at `arrived` (LSL s)."""
        found = arrived - end
        if self._ahead is None:
            self._ahead, self._last = found, end
        self._ahead = min(found, self._ahead + LEAK * max(0.0, end - self._last))
        self._last = end
        return end + self._ahead


class LslOutlets(StagesAndEvents):
    """The outlets of one stream: a sink, and a context manager that closes them.

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

        def named(suffix: str) -> tuple[str, str]:
            return f"{settings.prefix}-{stream}-{suffix}", f"sleepstream-{node}-{stream}-{suffix}"

        if settings.markers:
            self._markers = _outlet(pylsl, named("markers"), ("Markers", ""), "string", {}, about)
        if settings.codes:
            kinds, codes = ("MarkerCodes", "MarkerCode"), table(triggers or {})
            self._codes = _outlet(pylsl, named("codes"), kinds, "double64", CHANNELS, about, codes)
        if settings.hypnodensity:
            kinds, channels = ("Hypnodensity", "SleepStage"), {str(stage): "probability" for stage in STAGES}
            about |= {"window_s": "30", "hop_s": str(hop_s)}
            self._density = _outlet(pylsl, named("hypnodensity"), kinds, "float32", channels, about)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the outlets; blocks for `FLUSH_S` first, so that the last samples are sent."""
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


def _outlet(
    pylsl: Any,
    names: tuple[str, str],
    kinds: tuple[str, str],
    form: str,
    channels: Mapping[str, str],
    about: Mapping[str, str],
    codes: Mapping[str, int] | None = None,
) -> Any:
    """Make an outlet that describes its content.

    Args:
        pylsl: the module.
        names: of the outlet, and its source_id, by which recorders find it again after a restart.
        kinds: the type of the stream, and of its channels.
        form: LSL's format of a value.
        channels: labels with their units; empty: one channel without a description.
        about: further fields of the acquisition.
        codes: the numbers of the markers by their meanings, to be listed.

    """
    name, source_id = names
    info = pylsl.StreamInfo(name, kinds[0], max(1, len(channels)), pylsl.IRREGULAR_RATE, form, source_id)
    _append(info.desc(), "acquisition", {"manufacturer": "sleepstream", "version": __version__, **about})
    if channels:
        entries = info.desc().append_child("channels")
        for label, unit in channels.items():
            _append(entries, "channel", {"label": label, "unit": unit, "type": kinds[1]})
    if codes:
        meanings = info.desc().append_child("codes")
        for meaning, code in codes.items():
            _append(meanings, "code", {"value": str(code), "meaning": meaning})
    return pylsl.StreamOutlet(info)


def _append(parent: Any, name: str, values: Mapping[str, str]) -> None:
    child = parent.append_child(name)
    for key, value in values.items():
        child.append_child_value(key, value)
