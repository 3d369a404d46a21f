"""What one client of the page has received so far, and its next update as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from streamer.clock import Clock
from streamer.messages import RATE_HZ, STAGES, StreamInfo, Window
from streamer.night.morning import Link
from streamer.payloads import EventPayload
from streamer.web.state import BINS, Json, StreamState

CODES = {"W": "W", "N1": "1", "N2": "2", "N3": "3", "R": "R"}  # one character per epoch; "?": unscored
MARKED = ("marker", "trigger", "mark", "lights_off", "lights_on", "alarm")  # events drawn into the traces
MARK_CHARS = 24
SLACK_S = 60.0  # longest time by which a trigger may follow the score that caused it

_Item = TypeVar("_Item", bytes, str)


class Shown(Protocol):
    """The part of the page that a view reads."""

    @property
    def streams(self) -> Sequence[StreamState]:
        """Every sleeper."""
        ...

    @property
    def waiting(self) -> Mapping[str, str]:
        """Why samples do not arrive, by sleeper."""
        ...

    def links(self, stream: str) -> Sequence[Link]:
        """Links to the reports of a sleeper's nights."""
        ...


@dataclass(slots=True)
class Told:
    """How much of a session one client has received."""

    session: str
    epochs: int = 0
    events: int = 0
    window: Window | None = None


class View:
    """One client's progress in every stream.

    There is no queue. An update contains all that is new at the moment when the client is ready for it. So a
    slow client gets fewer updates, and nothing is stored for it.
    """

    def __init__(self, page: Shown, clock: Clock) -> None:
        self.changed = asyncio.Event()
        self._page = page
        self._clock = clock
        self._told: dict[str, Told] = {}
        self.reported: set[str] = set()  # sleepers whose report links the client has received

    def forget(self, stream: str) -> None:
        """Send a stream's whole night again with the next update, because its past has changed."""
        self._told.pop(stream, None)

    def update(self) -> str:
        """Return all that is new, as JSON.

        `from` is the first new epoch; `whole`: the night from its beginning.
        """
        self.changed.clear()
        streams = [self._stream(state) for state in self._page.streams]
        return json.dumps({"streams": streams, "waiting": dict(self._page.waiting)})

    def _stream(self, state: StreamState) -> Json:
        told = self._told.get(state.name)
        whole = told is None or told.session != state.session
        if told is None or whole:
            told = self._told[state.name] = Told(state.session)
        out: Json = {
            "name": state.name,
            "session": state.session,
            "whole": whole,
            "source": state.info.name,
            "channel": state.channel,
            "hop_s": state.hop_s,
            "started": state.info.started,
            "age_s": round(self._clock.monotonic() - state.heard, 1),
            "ended": state.ended,
            "between": state.between,
            "alarm": state.alarm,
            "gaps": state.gaps,
            "lost_s": round(state.lost_s, 2),
            "stage": None if state.stage is None else state.stage.model_dump(mode="json", by_alias=True),
            **_epochs(state, told.epochs),
            "events": _events(state, told.events),
        }
        if whole or state.name not in self.reported:
            self.reported.add(state.name)
            out["reports"] = [
                {"title": link.title, "url": f"reports/{quote(link.path.name)}"}
                for link in self._page.links(state.name)
            ]
        if state.window is not None and state.window is not told.window:
            out["eeg"] = _eeg(state.window)
            out["end_s"] = state.window.end // RATE_HZ
            out["traces"] = state.traces.window(state.window.end // RATE_HZ)
        told.epochs, told.events, told.window = len(state.labels), state.n_events, state.window
        return out


def _epochs(state: StreamState, start: int) -> Json:
    """The committed epochs from `start` on; unknown columns are blank."""
    stop = len(state.labels)
    density = _filled(state.density[start:stop], stop - start, bytes(len(STAGES)))
    spectrum = _filled(state.spectrum[start:stop], stop - start, bytes(BINS))
    return {
        "from": start,
        "labels": "".join(CODES.get(label, "?") for label in state.labels[start:stop]),
        "grades": "".join(_filled(state.grades[start:stop], stop - start, "?")),
        "density": _text(b"".join(density)),
        "spectrum": _text(b"".join(spectrum)),
    }


def _filled(values: list[_Item], count: int, blank: _Item) -> list[_Item]:
    return values + [blank] * (count - len(values))


def _events(state: StreamState, told: int) -> list[Json]:
    new = min(state.n_events - told, len(state.events))
    return [_event(one, state.info) for one in list(state.events)[len(state.events) - new :]]


def _event(one: EventPayload, info: StreamInfo) -> Json:
    """An event with its time in the recording; if it is drawn into the traces, also `at_s` and `mark`."""
    t = one.t.timestamp() if one.at_s is None else info.started + one.at_s
    out: Json = {"seq": one.seq, "t": t, "event": one.event, "text": one.text}
    if one.event not in MARKED or one.at_s is None:
        return out
    at_s, due, name = one.at_s, one.data.get("due"), one.event.replace("_", " ")
    if isinstance(due, int | float) and 0 < due - info.started - at_s < SLACK_S:
        at_s = due - info.started  # the trigger waited for a phase
    said = {"trigger": one.data.get("trigger"), "marker": one.data.get("description"), "mark": one.text}
    return {**out, "at_s": at_s, "mark": str(said.get(one.event) or name)[:MARK_CHARS]}


def _eeg(window: Window) -> str:
    """The last 30 s as 16-bit numbers in steps of 0.1 µV, in base64; -32768 is a lost sample."""
    scaled = np.clip(np.nan_to_num(window.samples * 10, nan=-32768), -32767, 32767)
    out: NDArray[np.int16] = np.where(np.isnan(window.samples), -32768, scaled).astype("<i2")
    return _text(out.tobytes())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
