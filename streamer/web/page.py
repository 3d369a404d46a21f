"""What the live page shows of each stream, and what each client has not been told yet; no I/O."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from streamer.clock import Clock
from streamer.messages import STAGES, Label, Score, StreamInfo, Window
from streamer.news import News, Scored
from streamer.nights.morning import Link
from streamer.payloads import AlarmPayload, CommandPayload, EventPayload, StagePayload
from streamer.sinks.commands import CommandInbox

BINS = 38  # of 0.78 Hz, up to 30 Hz: two of the network's spectrogram
STEPS_PER_DB = 3.0  # 1 to 255 is 0 to 84.7 dB; 0 is lost
EVENTS = 100  # kept for a client that comes later
ALLOWED = (
    *("lights_off", "lights_on", "mark"),
    *("set_alarm", "set_alarm_window", "arm_alarm", "disarm_alarm", "snooze_alarm", "dismiss_alarm"),
)
CODES = {"W": "W", "N1": "1", "N2": "2", "N3": "3", "R": "R"}  # one character per epoch; "?" unscored
GRADES = {"good": "g", "fair": "f", "poor": "p", "off": "o"}

Json = dict[str, object]
_Item = TypeVar("_Item", bytes, str)


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


class Page:
    """The state behind the page; a sink of every stream. Costs nothing while nobody looks.

    Args:
        clock: says how old a stage is.

    """

    name = "the live page"
    wants: tuple[type, ...] = (Scored, StagePayload, EventPayload, AlarmPayload)
    prompt = True  # clients fetch what they have not been told

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[str, StreamState] = {}
        self.waiting: dict[str, str] = {}  # sleepers whose samples do not arrive, and why
        self._links: dict[str, Sequence[Link]] = {}  # by sleeper
        self._views: set[View] = set()

    def open(
        self,
        stream: str,
        session: str,
        info: StreamInfo,
        channel: str,
        hop_s: int,
        labels: Sequence[Label],
        obey: Callable[[CommandPayload], str],
        refuse: Callable[[str], None],
        *,
        alarm: bool = False,
    ) -> None:
        """Begin to show a session.

        Args:
            stream: the sleeper.
            session: its identity.
            info: rate and start.
            channel: the derivation that is staged.
            hop_s: between two stages.
            labels: the committed epochs, a list that grows.
            obey: does what a button asks for; why not, or "".
            refuse: says that it was not done.
            alarm: whether there is one to arm.

        """
        inbox = CommandInbox(obey, refuse, self._clock)
        state = StreamState(stream, session, info, channel, hop_s, labels, inbox)
        state.heard = self._clock.monotonic()
        state.alarm = {"state": "disarmed", "deadline": 0.0} if alarm else None
        self._streams[stream] = state
        self._changed()

    def hear(self, stream: str, news: News) -> None:
        """Take what is shown."""
        match news:
            case Scored(score):
                self._scored(stream, score)
            case StagePayload():
                self._staged(stream, news)
            case EventPayload():
                self._happened(stream, news)
            case AlarmPayload():
                self._streams[stream].alarm = {
                    "state": news.state,
                    "deadline": 0.0 if news.deadline is None else news.deadline.timestamp(),
                    "time": news.time,
                    "window_min": news.window_min,
                }
                self._changed()
            case _:
                pass

    def _scored(self, stream: str, score: Score) -> None:
        """Take the window behind a stage, and on the 30 s grid its column of the night."""
        state = self._streams[stream]
        state.window = score.window or state.window
        if score.epoch is None:
            return
        missing = score.epoch - len(state.grades)
        state.density += [bytes(len(STAGES))] * missing
        state.spectrum += [bytes(BINS)] * missing
        state.grades += ["?"] * missing
        if missing >= 0:
            shares = np.array(score.probabilities or (0.0,) * len(STAGES))
            state.density.append(np.rint(255 * shares).astype(np.uint8).tobytes())
            state.spectrum.append(_column(score.window))
            state.grades.append(GRADES[score.quality.grade])

    def recall(self, stream: str, epochs: Iterable[Score]) -> None:
        """Take what a former process of this session scored, and tell every client the whole night again."""
        for score in epochs:
            self._scored(stream, score)
        for view in self._views:
            view.forget(stream)
        self._changed()

    def _staged(self, stream: str, payload: StagePayload) -> None:
        """Take a new stage."""
        state = self._streams[stream]
        state.stage = payload
        if payload.stage != "no_signal":
            state.heard = self._clock.monotonic()
        self._changed()

    def _happened(self, stream: str, payload: EventPayload) -> None:
        """Take an event."""
        state = self._streams[stream]
        if payload.event == "gap":
            state.gaps += 1
            seconds = payload.data.get("seconds")
            state.lost_s += seconds if isinstance(seconds, int | float) else 0.0
        elif payload.event != "reconnected" or state.away:  # the first samples are no news
            state.events.append(payload)
            state.n_events += 1
        if payload.event in ("no_signal", "error", "session_resumed", "reconnected"):
            state.away = payload.event != "reconnected"
        if payload.event == "channel_changed":
            state.channel = str(payload.data.get("to"))
        if payload.event == "alarm" and "state" in payload.data:
            state.alarm = (state.alarm or {}) | {
                "state": payload.data["state"],
                "deadline": payload.data.get("deadline"),
            }
        if payload.event == "session_ended":  # the alarm may outlast it
            state.ended, state.between = True, bool(payload.data.get("night"))
        self._changed()

    def waits(self, stream: str, reason: str) -> None:
        """Show why a sleeper's samples do not arrive, before there is a session, too; "": no more."""
        self.waiting.pop(stream, None)
        if reason:
            self.waiting[stream] = reason
        self._changed()

    def reported(self, stream: str, links: Sequence[Link]) -> None:
        """Link to the reports of a sleeper's nights, the newest first, and to no other file."""
        self._links[stream] = tuple(links)
        for view in self._views:
            view.reported.discard(stream)
        self._changed()

    def links(self, stream: str) -> Sequence[Link]:
        """The reports of a sleeper's nights."""
        return self._links.get(stream, ())

    def report(self, name: str) -> Path | None:
        """The file of a report that the page links to, by its name."""
        every = (link for links in self._links.values() for link in links)
        return next((link.path for link in every if link.path.name == name), None)

    def command(self, body: str) -> None:
        """Do what a client's message asks for: {"stream", "command", "text"}; refuse the rest aloud."""
        try:
            asked = json.loads(body)
            state = self._streams[asked.pop("stream")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # not even addressed to anyone
        try:
            known = CommandPayload.model_validate(asked).command in ALLOWED
        except ValidationError:
            known = True  # the inbox says what is wrong with it
        state.inbox.receive(
            json.dumps(asked if known else {"command": "not a button of the page"}).encode(), False
        )

    def view(self) -> View:
        """What a new client has not been told: everything."""
        view = View(self, self._clock)
        self._views.add(view)
        return view

    def leave(self, view: View) -> None:
        """A client is gone."""
        self._views.discard(view)

    @property
    def streams(self) -> Sequence[StreamState]:
        """Every sleeper, by name."""
        return tuple(self._streams[name] for name in sorted(self._streams))

    def _changed(self) -> None:
        for view in self._views:
            view.changed.set()


@dataclass(slots=True)
class Told:
    """How far one client knows one session."""

    session: str
    epochs: int = 0
    events: int = 0
    window: Window | None = None


class View:
    """One client's place in every stream.

    There is no queue: an update is made of all that is new when the client is ready for it, so that a slow
    client gets fewer updates and costs less, and nothing is ever kept for it.
    """

    def __init__(self, page: Page, clock: Clock) -> None:
        self.changed = asyncio.Event()
        self._page = page
        self._clock = clock
        self._told: dict[str, Told] = {}
        self.reported: set[str] = set()  # of whom it knows which reports there are

    def forget(self, stream: str) -> None:
        """The client has not been told all of a stream's past: it is told again, from the first epoch on."""
        self._told.pop(stream, None)

    def update(self) -> str:
        """All that is new, as JSON; `from` says at which epoch the new ones begin, `whole` that it is all."""
        self.changed.clear()
        streams = [self._stream(state) for state in self._page.streams]
        return json.dumps({"streams": streams, "waiting": self._page.waiting})

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
        told.epochs, told.events, told.window = len(state.labels), state.n_events, state.window
        return out


def _epochs(state: StreamState, start: int) -> Json:
    """The committed epochs from `start` on; columns that are not known are blank."""
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
    return [
        {"seq": one.seq, "t": one.t.timestamp(), "event": one.event, "text": one.text}
        for one in list(state.events)[len(state.events) - new :]
    ]


def _eeg(window: Window) -> str:
    """The last 30 s as 16 bits of 0.1 µV; -32768 is a lost sample."""
    scaled = np.clip(np.nan_to_num(window.samples * 10, nan=-32768), -32767, 32767)
    out: NDArray[np.int16] = np.where(np.isnan(window.samples), -32768, scaled).astype("<i2")
    return _text(out.tobytes())


def _column(window: Window | None) -> bytes:
    """One epoch's mean spectrum as BINS bytes; all 0 where no second of it was whole."""
    if window is None:
        return bytes(BINS)
    whole = window.spectrogram[~np.isnan(window.spectrogram).any(axis=1)]
    if not whole.shape[0]:
        return bytes(BINS)
    pairs = whole.mean(axis=0)[: 2 * BINS].reshape(BINS, 2).mean(axis=1)
    levels: NDArray[np.uint8] = np.clip(1 + np.rint(pairs * STEPS_PER_DB), 1, 255).astype(np.uint8)
    return levels.tobytes()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
