"""The content of the live page, for each stream; no I/O. `view.py` makes each client's updates from it."""

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

STEPS_PER_DB = 3.0  # bytes 1 to 255 are 0 to 84.7 dB; 0 is lost
ALLOWED = (
    *("lights_off", "lights_on", "mark"),
    *("set_alarm", "set_alarm_window", "arm_alarm", "disarm_alarm", "snooze_alarm", "dismiss_alarm"),
)
GRADES = {"good": "g", "fair": "f", "poor": "p", "off": "o"}
log = logging.getLogger(__name__)


class Page:
    """The state behind the page: a sink of every stream. It costs next to nothing while nobody looks.

    Args:
        clock: to compute how old a stage is.

    """

    name = "the live page"
    wants: tuple[type, ...] = (Sampled, Scored, StagePayload, EventPayload, AlarmPayload)
    prompt = True  # it only notes the news; clients fetch updates later

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[str, StreamState] = {}
        self.waiting: dict[str, str] = {}  # why samples do not arrive, by sleeper
        self._links: dict[str, Sequence[Link]] = {}  # links to reports, by sleeper
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
            stream: name of the sleeper.
            session: identity of the session.
            info: sampling rate and start.
            channel: the derivation that is staged.
            hop_s: seconds between two stages.
            labels: stages of the committed epochs; a list that grows.
            obey: carries out a command; returns why it was refused, or "".
            refuse: reports a refused command.
            alarm: whether the stream has an alarm.
            traces: further channels to show.

        """
        inbox = CommandInbox(obey, refuse, self._clock)
        state = StreamState(stream, session, info, channel, hop_s, labels, inbox, traces)
        state.heard = self._clock.monotonic()
        state.alarm = {"state": "disarmed", "deadline": 0.0} if alarm else None
        self._streams[stream] = state
        self._changed()

    def await_session(self, stream: str, obey: Callable[[CommandPayload], str], alarm: bool) -> None:
        """Show a sleeper before the device is found, so that the alarm can be set before the band is on."""
        nothing = StreamInfo("", RATE_HZ, (), self._clock.wall())
        self.open(stream, "", nothing, "", EPOCH_S, (), obey, log.warning, alarm=alarm)
        state = self._streams[stream]
        state.ended = state.between = True

    def hear(self, stream: str, news: News) -> None:
        """Note one piece of news of a stream."""
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
        """Note a scored window, and on the 30 s grid the epoch's column of the night."""
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
        """Note the epochs that an earlier process scored, and send the whole night to every client again."""
        for score in epochs:
            self._scored(stream, score)
        for view in self._views:
            view.forget(stream)
        self._changed()

    def _staged(self, stream: str, payload: StagePayload) -> None:
        """Note a new stage."""
        state = self._streams[stream]
        state.stage = payload
        if payload.stage != "no_signal":
            state.heard = self._clock.monotonic()
        self._changed()

    def _happened(self, stream: str, payload: EventPayload) -> None:
        """Note an event."""
        state = self._streams[stream]
        if payload.event == "gap":
            state.gaps += 1
            seconds = payload.data.get("seconds")
            state.lost_s += seconds if isinstance(seconds, int | float) else 0.0
        elif payload.event != "reconnected" or state.away:  # not for a session's first samples
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
        if payload.event == "session_ended":  # the alarm stays
            state.ended, state.between = True, bool(payload.data.get("night"))
        self._changed()

    def waits(self, stream: str, reason: str) -> None:
        """Show why a sleeper's samples do not arrive, also before there is a session; "": they do."""
        self.waiting.pop(stream, None)
        if reason:
            self.waiting[stream] = reason
        self._changed()

    def reported(self, stream: str, links: Sequence[Link]) -> None:
        """Set the links to the reports of a sleeper's nights, newest first; no other file is served."""
        self._links[stream] = tuple(links)
        for view in self._views:
            view.reported.discard(stream)
        self._changed()

    def links(self, stream: str) -> Sequence[Link]:
        """Links to the reports of a sleeper's nights, newest first."""
        return self._links.get(stream, ())

    def report(self, name: str) -> Path | None:
        """The path of a report that the page links to, by its file name; None if there is no such link."""
        every = (link for links in self._links.values() for link in links)
        return next((link.path for link in every if link.path.name == name), None)

    def command(self, body: str) -> None:
        """Carry out a client's message {"stream", "command", "text"}.

        Refuse what is not a button of the page.
        """
        try:
            asked = json.loads(body)
            state = self._streams[asked.pop("stream")]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # names no sleeper that we know
        try:
            known = CommandPayload.model_validate(asked).command in ALLOWED
        except ValidationError:
            known = True  # the inbox refuses it, with a reason
        state.inbox.receive(
            json.dumps(asked if known else {"command": "not a button of the page"}).encode(), False
        )

    def view(self) -> View:
        """Make the view of a new client, which has received nothing yet."""
        view = View(self, self._clock)
        self._views.add(view)
        return view

    def leave(self, view: View) -> None:
        """Forget the view of a client that has left."""
        self._views.discard(view)

    @property
    def streams(self) -> Sequence[StreamState]:
        """Every sleeper, sorted by name."""
        return tuple(self._streams[name] for name in sorted(self._streams))

    def _changed(self) -> None:
        for view in self._views:
            view.changed.set()


def _column(window: Window | None) -> bytes:
    """One epoch's mean spectrum as BINS bytes; all 0 if every second of it has lost samples."""
    if window is None:
        return bytes(BINS)
    whole = window.spectrogram[~np.isnan(window.spectrogram).any(axis=1)]
    if not whole.shape[0]:
        return bytes(BINS)
    pairs = whole.mean(axis=0)[: 2 * BINS].reshape(BINS, 2).mean(axis=1)
    levels: NDArray[np.uint8] = np.clip(1 + np.rint(pairs * STEPS_PER_DB), 1, 255).astype(np.uint8)
    return levels.tobytes()
