"""What the live page shows of each stream; no I/O. What a client has not been told yet: `view.py`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from streamer.clock import Clock
from streamer.messages import EPOCH_S, RATE_HZ, STAGES, Label, Score, StreamInfo, Window
from streamer.news import News, Sampled, Scored
from streamer.night.morning import Link
from streamer.payloads import AlarmPayload, CommandPayload, EventPayload, StagePayload
from streamer.sinks.commands import CommandInbox
from streamer.web.state import BINS, StreamState
from streamer.web.traces import NO_TRACES, Traces
from streamer.web.view import View

STEPS_PER_DB = 3.0  # 1 to 255 is 0 to 84.7 dB; 0 is lost
ALLOWED = (
    *("lights_off", "lights_on", "mark"),
    *("set_alarm", "set_alarm_window", "arm_alarm", "disarm_alarm", "snooze_alarm", "dismiss_alarm"),
)
GRADES = {"good": "g", "fair": "f", "poor": "p", "off": "o"}
log = logging.getLogger(__name__)


class Page:
    """The state behind the page; a sink of every stream. Costs nothing while nobody looks.

    Args:
        clock: says how old a stage is.

    """

    name = "the live page"
    wants: tuple[type, ...] = (Sampled, Scored, StagePayload, EventPayload, AlarmPayload)
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
        traces: Traces = NO_TRACES,
    ) -> None:
        """Show a new session.

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
            traces: other channels to show.

        """
        inbox = CommandInbox(obey, refuse, self._clock)
        state = StreamState(stream, session, info, channel, hop_s, labels, inbox, traces)
        state.heard = self._clock.monotonic()
        state.alarm = {"state": "disarmed", "deadline": 0.0} if alarm else None
        self._streams[stream] = state
        self._changed()

    def await_session(self, stream: str, obey: Callable[[CommandPayload], str], alarm: bool) -> None:
        """Show a sleeper whose device has not been found yet: the alarm can be set before the band is on."""
        nothing = StreamInfo("", RATE_HZ, (), self._clock.wall())
        self.open(stream, "", nothing, "", EPOCH_S, (), obey, log.warning, alarm=alarm)
        state = self._streams[stream]
        state.ended = state.between = True

    def hear(self, stream: str, news: News) -> None:
        """Take news."""
        match news:
            case Sampled(item):
                self._streams[stream].traces.push(item)
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

    def restore(self, stream: str, epochs: Iterable[Score]) -> None:
        """Take what an earlier process scored, and send every client the whole night again."""
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
        """Carry out a client's message {"stream", "command", "text"}; refuse any other."""
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
        """A new client's view, which has been told nothing yet."""
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
