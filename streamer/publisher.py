"""Turns what happens in one stream into payloads, and hands each to everyone who should have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from streamer.clock import Clock
from streamer.errors import SinkError
from streamer.journal import Journal, JournalStatus
from streamer.messages import (
    RATE_HZ,
    UNSCORED,
    Gap,
    Label,
    Score,
    StreamInfo,
    Switch,
)
from streamer.payloads import (
    AlarmPayload,
    EpochPayload,
    EventName,
    EventPayload,
    HealthPayload,
    StagePayload,
    SummaryPayload,
    epoch_payload,
    no_signal_payload,
    stage_payload,
    utc,
)
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.topics import MqttStream
from streamer.statistics import Night

OnScore = Callable[[Score, float], None]  # a score, and the Unix time of its end

UNTRACED = 16  # messages that a process may have published without leaving a record


class Observer(Protocol):
    """Whoever watches a stream inside this process: the terminal, the live page."""

    def staged(self, stream: str, payload: StagePayload) -> None:
        """Take a new stage; must return at once."""
        ...

    def happened(self, stream: str, payload: EventPayload) -> None:
        """Take an event; must return at once."""
        ...


class Publisher:
    """One stream's voice: counts its messages, remembers its epochs, and never blocks.

    Epochs and events go into the journal, whose outbox carries them to the broker; a stage goes straight to
    MQTT, where only the newest counts.

    Args:
        session: identity of the recording session.
        info: the stream's rate and start.
        journal: the record of this session.
        mqtt: this stream's topics, or None.
        jsonl: one committed epoch a line, or None.
        observers: who else watches.
        clock: stamps events.
        late_after_s: an epoch that ends longer ago than this is historical; None for recordings, whose time
            is not ours: what happens in one has the time of the samples that are being played.

    """

    def __init__(
        self,
        stream: str,
        session: str,
        info: StreamInfo,
        journal: Journal,
        mqtt: MqttStream | None,
        jsonl: JsonlSink | None,
        observers: tuple[Observer, ...],
        clock: Clock,
        late_after_s: float | None,
    ) -> None:
        self.session = session
        self.info = info
        self.listeners: list[OnScore] = []  # hear each score before anyone else
        self._stream = stream
        self._session = session
        self._info = info
        self._journal = journal
        self._mqtt = mqtt
        self._jsonl = jsonl
        self._jsonl_failing = False
        self._observers = observers
        self._clock = clock
        self._late_after_s = late_after_s
        # On the steady clock: a wall clock that is set must not make epochs late.
        self._began = clock.monotonic() - (clock.wall() - info.started)
        self._quiet_until = 0  # 100 Hz index: stages up to there belong to a former process
        self._stages = self._epochs = self._events = self._summaries = 0
        self._alarms = self._healths = 0
        self._smoothed: Label = UNSCORED
        self._smoothed_since = 0  # 100 Hz index
        self.heard = 0  # 100 Hz index up to which scores have come
        self._hearing = 0  # likewise, with the score that is being heard
        self.night = Night()
        self.labels: list[Label] = []  # the stage of every committed epoch: 2,880 in a day
        self.smoothed: list[Label] = []  # likewise, after the smoother

    def score(self, score: Score) -> None:
        """Publish a score; on the 30 s grid commit its epoch."""
        self._hearing = score.end
        for listener in self.listeners:
            listener(score, self._time(score.end))
        self.commit(score)
        self._follow(score)
        if score.end <= self._quiet_until:
            return
        latency_ms = (self._clock.monotonic() - score.arrived) * 1000 if score.arrived else None
        lasted_s = (score.end - self._smoothed_since) / RATE_HZ
        self._stage(
            stage_payload(score, self._session, self._stages, self._info.started, lasted_s, latency_ms)
        )

    def _follow(self, score: Score) -> None:
        """Note how far the scores have come, and since when the smoothed stage has been the same."""
        if score.smoothed != self._smoothed or not self.heard:
            self._smoothed, self._smoothed_since = score.smoothed, score.end
        self.heard = self._hearing = score.end

    def commit(self, score: Score) -> None:
        """Commit the epoch that a score completes, if it does, and publish no stage."""
        if score.epoch is not None and score.epoch >= self._epochs:  # never twice
            self._commit(score, score.epoch)

    def resume(self, epochs: Sequence[EpochPayload], events: Sequence[EventPayload]) -> None:
        """Go on where a former process of this session stopped.

        Numbers go on after those that it may have used without a trace: of the last two seconds.
        """
        lights = [event for event in events if event.event in ("lights_off", "lights_on")]
        for payload in epochs:
            while lights and _epoch_of(lights[0]) <= len(self.labels):
                self._light(lights.pop(0).event)
            if payload.stage != "no_signal" and payload.smoothed != "no_signal":
                self.labels.append(payload.stage)
                self.smoothed.append(payload.smoothed)
            self.night.push(payload.stage)
        for event in lights:
            self._light(event.event)
        silent = sum(event.event == "no_signal" for event in events)
        self._stages = silent + UNTRACED
        self._epochs = self._summaries = len(epochs)
        self._healths = len(events)  # each change of it was an event, and so was each start
        self._events = max((event.seq for event in events), default=-1) + 1 + UNTRACED

    def recall(self, scores: Sequence[Score], count: int) -> None:
        """Hear the scores of a former process of this session, of which there were `count`; number on."""
        self._stages += count
        for score in scores:
            self._follow(score)

    def continues(self, index: int, monotonic: float) -> None:
        """The device is back: sample `index` was taken at `monotonic` s. Stages of before are not said."""
        self._began = monotonic - index / self._info.rate_hz
        self._quiet_until = round(index / self._info.rate_hz * RATE_HZ)

    def no_signal(self) -> None:
        """Replace a stage that has become stale: nothing arrives any more."""
        self._stage(no_signal_payload(self._session, self._stages, self._clock.wall()))

    def gap(self, gap: Gap) -> None:
        """Say what was lost; `gap` counts device samples."""
        begin, seconds = self.gap_data(gap)
        self.event(
            "gap",
            f"{seconds:.3f} s lost: {gap.reason}",
            {"t_start": begin, "seconds": seconds, "reason": gap.reason},
            gap.start / self._info.rate_hz,
        )

    def gap_data(self, gap: Gap) -> tuple[str, float]:
        """When a loss began (UTC, ISO 8601), and how long it was in seconds, as its event says them."""
        begin = self._info.started + gap.start / self._info.rate_hz
        return utc(begin).isoformat(), round((gap.stop - gap.start) / self._info.rate_hz, 4)

    def switch(self, switch: Switch) -> None:
        """Say which channel is staged from now on, and why."""
        begin = self._info.started + switch.at / self._info.rate_hz
        self.event(
            "channel_changed",
            f"channel {switch.after} instead of {switch.before}: {switch.reason}",
            {
                "t_start": utc(begin).isoformat(),
                "from": switch.before,
                "to": switch.after,
                "reason": switch.reason,
            },
            switch.at / self._info.rate_hz,
        )

    def event(
        self,
        name: EventName,
        text: str,
        data: dict[str, str | int | float | bool | None] | None = None,
        at_s: float | None = None,
    ) -> None:
        """Say that something happened once, `at_s` seconds after sample 0 (default: where the stream is)."""
        payload = self._next_event(name, text, data or {}, at_s)
        self._journal.event(payload)
        for observer in self._observers:
            observer.happened(self._stream, payload)

    def urgent(
        self,
        name: EventName,
        text: str,
        data: dict[str, str | int | float | bool | None],
        arrived: float = 0.0,
        at_s: float | None = None,
    ) -> None:
        """Say what must be heard at once: observers first (an LSL marker), MQTT without waiting for the disk.

        The record says in `latency_ms` how long after `arrived` (monotonic s) every observer had it.
        """
        payload = self._next_event(name, text, data, at_s)
        for observer in self._observers:
            observer.happened(self._stream, payload)
        if arrived:
            latency_ms = round((self._clock.monotonic() - arrived) * 1000, 3)
            payload = payload.model_copy(update={"data": {**data, "latency_ms": latency_ms}})
        if self._mqtt is not None:
            self._mqtt.event(payload)
        self._journal.event(payload)

    def alarm(
        self, state: Literal["disarmed", "armed", "ringing", "snoozed"], deadline: float, snoozes: int
    ) -> None:
        """Say what the alarm is about to do; `deadline` in Unix s."""
        if self._mqtt is None:
            return
        payload = AlarmPayload(
            session=self._session,
            seq=self._alarms,
            t=utc(self._clock.wall()),
            state=state,
            deadline=None if state == "disarmed" else utc(deadline),
            snoozes=snoozes,
        )
        self._alarms += 1
        self._mqtt.alarm(payload)

    def _next_event(
        self,
        name: EventName,
        text: str,
        data: dict[str, str | int | float | bool | None],
        at_s: float | None,
    ) -> EventPayload:
        self._events += 1
        return EventPayload(
            session=self._session,
            seq=self._events - 1,
            t=utc(self._clock.wall()),
            at_s=round(self._now_s() if at_s is None else at_s, 3),
            event=name,
            text=text,
            data=data,
        )

    def _now_s(self) -> float:
        """Where the stream is now, seconds since sample 0, lost ones included.

        A device goes on by itself, from the last sample that came. A recording is where its scores are, at
        whatever speed it is played.
        """
        last = self._journal.last
        if self._late_after_s is None:
            return self._hearing / RATE_HZ
        if not last.index:
            return max(0.0, self._clock.monotonic() - self._began)
        return last.index / self._info.rate_hz + max(0.0, self._clock.monotonic() - last.monotonic)

    def command(self, name: Literal["lights_off", "lights_on", "mark"], text: str) -> None:
        """Note what the sleeper or the home said about the night."""
        self._light(name)
        # The epoch says where in the night, also where the recording's time is not ours.
        self.event(name, text, {"epoch": len(self.labels)})

    def health(self, journal: JournalStatus, failures: int, least_hop_s: int, thinned: int) -> None:
        """Say whether the night is kept, and how the engine keeps up with it."""
        if self._mqtt is None:
            return
        self._mqtt.health(
            HealthPayload(
                session=self._session,
                seq=self._healths,
                t=utc(self._clock.wall()),
                recording=journal.state,
                reason=journal.reason,
                dropped_samples=journal.dropped_samples,
                failures=failures,
                least_hop_s=least_hop_s,
                thinned=thinned,
            )
        )
        self._healths += 1

    def _light(self, name: str) -> None:
        if name == "lights_off":
            self.night.lights_off()
        elif name == "lights_on":
            self.night.lights_on()

    def online(self, online: bool) -> None:
        """Say whether samples arrive."""
        if self._mqtt is not None:
            self._mqtt.online(online)

    def _stage(self, payload: StagePayload) -> None:
        self._stages += 1
        if self._mqtt is not None:
            self._mqtt.stage(payload)
        for observer in self._observers:
            observer.staged(self._stream, payload)

    def _commit(self, score: Score, epoch: int) -> None:
        age_s = self._clock.monotonic() - self._began - score.end / RATE_HZ
        late = self._late_after_s is not None and age_s > self._late_after_s
        payload = epoch_payload(score, epoch, self._session, self._epochs, self._info.started, late)
        self._epochs += 1
        self.labels.append(score.stage)
        self.smoothed.append(score.smoothed)
        self._journal.epoch(payload)
        self._write(payload)
        self.night.push(score.stage)
        if self._mqtt is not None:
            self._mqtt.summary(self._summary())

    def _write(self, payload: EpochPayload) -> None:
        """Write a line; a full disk is said once and must not cost the night."""
        if self._jsonl is None:
            return
        try:
            self._jsonl.write(payload)
        except SinkError as error:
            if not self._jsonl_failing:
                self.event("error", str(error))
            self._jsonl_failing = True
        else:
            self._jsonl_failing = False

    def _summary(self) -> SummaryPayload:
        self._summaries += 1
        return SummaryPayload(
            session=self._session,
            seq=self._summaries - 1,
            t=utc(self._clock.wall()),
            statistics=self.night.statistics().to_json(),
        )

    def _time(self, index: int) -> float:
        """Unix time of a 100 Hz index."""
        return self._info.started + index / RATE_HZ


def _epoch_of(event: EventPayload) -> int:
    epoch = event.data.get("epoch")
    return epoch if isinstance(epoch, int) else 0
