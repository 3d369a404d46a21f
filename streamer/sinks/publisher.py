"""Turns what happens in one stream into payloads, and passes them to every sink."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from streamer.clock import Clock
from streamer.errors import JournalError
from streamer.journal import Journal, JournalStatus
from streamer.messages import EPOCH_S, RATE_HZ, UNSCORED, Gap, Item, Label, Score, StreamInfo, Switch
from streamer.news import News, Online, Opened, Sampled, Scored, Sink, Urgent
from streamer.night.statistics import RunningStatistics
from streamer.payloads import (
    AlarmPayload,
    EpochPayload,
    EventData,
    EventName,
    EventPayload,
    HealthPayload,
    StagePayload,
    SummaryPayload,
    describe_gap,
    describe_switch,
    make_epoch_payload,
    make_no_signal_payload,
    make_stage_payload,
    utc,
)
from streamer.sinks.handover import Guard, HandOver

REMADE = "the session file was deleted or moved away, and written anew where it was"
UNTRACED = 16  # messages that a process may have published without leaving a record
log = logging.getLogger(__name__)


class Publisher:
    """Publishes one stream: counts its messages, remembers its epochs, and never blocks.

    Epochs and events go into the journal, whose outbox carries them to the broker. Every sink hears of
    everything; what a sink raises becomes an event.

    Args:
        stream: name of the sleeper.
        session: identity of the recording session.
        info: the stream's rate and start.
        journal: the record of this session.
        sinks: who hears of it, in this order.
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
        sinks: Iterable[Sink | Guard],
        clock: Clock,
        late_after_s: float | None,
    ) -> None:
        self.session = session
        self.info = info
        self._stream = stream
        self._journal = journal
        self._sinks = HandOver(sinks, clock)
        self._telling = 0  # urgent events that are being told, and are recorded afterwards
        self._unrecorded: list[EventPayload] = []
        self._clock = clock
        self._late_after_s = late_after_s
        # On the steady clock: a wall clock that is set must not make epochs late.
        self._began = clock.monotonic() - (clock.wall() - info.started)
        self._quiet_until = 0  # 100 Hz index: stages up to there belong to a former process
        self._stages = self._epochs = self._events = self._summaries = 0
        self._alarms = self._healths = 0
        self._now: tuple[Label, Label] = (UNSCORED, UNSCORED)  # the stage after the smoother, and as scored
        self._since = (0, 0)  # 100 Hz index: since when each is the same
        self.heard = 0  # 100 Hz index up to which scores have come
        self._hearing = 0  # likewise, with the score that is being heard
        self.night = RunningStatistics()
        self.labels: list[Label] = []  # the stage of every committed epoch: 2,880 in a day
        self._dark_from = 0  # epoch at which the lights went off last
        self._lit = False  # they are on again
        self._lights: deque[tuple[int, str]] = deque()  # said of epochs that are not committed yet
        self.smoothed: list[Label] = []  # likewise, after the smoother

    def first(self, sink: Sink | Guard) -> None:
        """Add a sink that is told before all others: a reaction."""
        self._sinks.first(sink)

    def opened(self, channel: str, session: Path) -> None:
        """Announce that the session begins or continues, with the staged derivation and the session file."""
        self.tell(Opened(self.info, channel, session))

    def sampled(self, item: Item) -> None:
        """Pass samples to sinks that show the signal, before their score."""
        self.tell(Sampled(item))

    def score(self, score: Score) -> None:
        """Publish a score; on the 30 s grid commit its epoch. Triggers and alarm hear it first."""
        self._hearing = score.end
        self.tell(Scored(score, self.info.started + score.end / RATE_HZ))
        self.commit(score)
        self._follow(score)
        if score.end <= self._quiet_until:
            return
        latency_ms = (self._clock.monotonic() - score.arrived) * 1000 if score.arrived else None
        smoothed_since, since = self._since
        lasted_s = (score.end - smoothed_since) / RATE_HZ, (score.end - since) / RATE_HZ
        self._stage(
            make_stage_payload(score, self.session, self._stages, self.info.started, lasted_s, latency_ms)
        )

    def _follow(self, score: Score) -> None:
        """Note the last score's end, and since when the stage is the same."""
        smoothed, stage = self._since
        if score.smoothed != self._now[0] or not self.heard:
            smoothed = score.end
        if score.stage != self._now[1] or not self.heard:
            stage = score.end
        self._now, self._since = (score.smoothed, score.stage), (smoothed, stage)
        self.heard = self._hearing = score.end

    def commit(self, score: Score) -> None:
        """Commit the epoch of a score on the grid, without publishing a stage; never twice."""
        if score.epoch is None or score.epoch < self._epochs:
            return
        late = self._late_after_s is not None and self.age_s(score) > self._late_after_s
        payload = make_epoch_payload(score, score.epoch, self.session, self._epochs, self.info.started, late)
        self._epochs += 1
        self._follow_lights()
        self.labels.append(score.stage)
        self.smoothed.append(score.smoothed)
        self._journal.epoch(payload)
        self.night.push(score.stage)
        self.tell(payload)
        if self._sinks.wanted(SummaryPayload):
            self.tell(self._summary())

    def resume(
        self,
        epochs: Sequence[EpochPayload],
        events: Sequence[EventPayload],
        counts: Mapping[str, int],
        last_event: int,
    ) -> None:
        """Continue where an earlier process of this session stopped.

        Numbers go on after those that it may have used without a trace: of the last two seconds.

        Args:
            epochs: that it has committed.
            events: those about the lights, at least.
            counts: how many events of each name there were.
            last_event: number of the last one; -1 if there was none.

        """
        lights = [event for event in events if event.event in ("lights_off", "lights_on")]
        self._lights.extend((_epoch_of(event), event.event) for event in lights)
        for payload in epochs:
            self._follow_lights()
            if payload.stage != "no_signal" and payload.smoothed != "no_signal":
                self.labels.append(payload.stage)
                self.smoothed.append(payload.smoothed)
            self.night.push(payload.stage)
        self._follow_lights()
        self._stages = counts.get("no_signal", 0) + UNTRACED
        self._epochs = self._summaries = max((payload.seq for payload in epochs), default=-1) + 1
        self._healths = sum(counts.values())  # each change of it was an event, and so was each start
        self._events = last_event + 1 + UNTRACED

    def restore(self, scores: Sequence[Score], count: int) -> None:
        """Take the scores of an earlier process, `count` in all, and continue their numbers."""
        self._stages += count
        for score in scores:
            self._follow(score)

    def continues(self, index: int, monotonic: float) -> None:
        """Note that the device is back: sample `index` was taken at `monotonic` s.

        Earlier stages are not published.
        """
        self._began = monotonic - index / self.info.rate_hz
        self._quiet_until = round(index / self.info.rate_hz * RATE_HZ)

    def age_s(self, score: Score) -> float:
        """How long ago a score ended, in s, by the steady clock."""
        return self._clock.monotonic() - self._began - score.end / RATE_HZ

    def no_signal(self) -> None:
        """Replace the stage, because nothing arrives any more."""
        self._stage(make_no_signal_payload(self.session, self._stages, self._clock.wall()))

    def gap(self, gap: Gap, lost: int | None = None, count: int = 1) -> None:
        """Report a loss; `gap` counts device samples.

        Of several losses that are told together it reaches from the first to the last, and `lost` of its
        samples were lost, in `count` places.
        """
        self.event("gap", *describe_gap(gap, self.info.rate_hz, self.info.started, lost, count))

    def switch(self, switch: Switch) -> None:
        """Report which channel is staged from now on, and why."""
        self.event("channel_changed", *describe_switch(switch, self.info.rate_hz, self.info.started))

    def event(
        self,
        name: EventName,
        text: str,
        data: EventData | None = None,
        at_s: float | None = None,
    ) -> None:
        """Publish an event, `at_s` seconds after sample 0 (default: where the stream is)."""
        payload = self._next_event(name, text, data or {}, at_s)
        self._record(payload)
        self.tell(payload)

    def urgent(
        self,
        name: EventName,
        text: str,
        data: EventData,
        arrived: float = 0.0,
        at_s: float | None = None,
    ) -> None:
        """Publish an event at once: the sinks first (an LSL marker), MQTT without waiting for the disk.

        The record says in `latency_ms` how long after `arrived` (monotonic s) every prompt sink had it.
        """
        payload = self._next_event(name, text, data, at_s)
        self._telling += 1
        self._sinks.hear(self._stream, payload)
        if arrived:
            latency_ms = round((self._clock.monotonic() - arrived) * 1000, 3)
            payload = payload.model_copy(update={"data": {**data, "latency_ms": latency_ms}})
        self._sinks.hear(self._stream, Urgent(payload))
        self._telling -= 1
        self._record(payload)
        self._complain()

    def alarm(self, say: Callable[[str, int], AlarmPayload]) -> None:
        """Publish the alarm's state, in this session, with the next number of its kind."""
        self._alarms += 1
        self.tell(say(self.session, self._alarms - 1))

    def _next_event(
        self,
        name: EventName,
        text: str,
        data: EventData,
        at_s: float | None,
    ) -> EventPayload:
        self._events += 1
        return EventPayload(
            session=self.session,
            seq=self._events - 1,
            t=utc(self._clock.wall()),
            at_s=round(self.now_s if at_s is None else at_s, 3),
            event=name,
            text=text,
            data=data,
        )

    @property
    def now_s(self) -> float:
        """Where the stream is now, in seconds since sample 0, lost ones included.

        A device goes on by itself, from the last sample that came. A recording is where its scores are, at
        whatever speed it is played.
        """
        last = self._journal.last
        if self._late_after_s is None:
            return self._hearing / RATE_HZ
        if not last.index:
            return max(0.0, self._clock.monotonic() - self._began)
        return last.index / self.info.rate_hz + max(0.0, self._clock.monotonic() - last.monotonic)

    def command(self, name: Literal["lights_off", "lights_on", "mark"], text: str) -> int:
        """Record what the sleeper or the home said about the night; return the epoch.

        It counts when it was said. Epochs may come later than that: the record of a former process is read
        back, the machine is busy, or the device sends all at once what it kept.
        """
        epoch = max(len(self.labels), int(self.now_s // EPOCH_S))
        self.event(name, text, {"epoch": epoch})
        if name != "mark":  # last: what could not be said has not happened
            self._lights.append((epoch, name))
            self._follow_lights()
        return epoch

    def conclude(self, worn_s: float | None = None) -> None:
        """Publish the night's last figures.

        Args:
            worn_s: end of the last epoch with a signal, seconds since sample 0; the lights count as on from
                there if nobody said so: a band on its charger is not a sleeper in bed. None: as it is.

        """
        self._follow_lights(to_the_end=True)
        epoch = None if worn_s is None else round(worn_s / EPOCH_S)
        if epoch is not None and not self._lit and self._dark_from <= epoch < len(self.labels):
            text = "nobody said so: the band was off or silent from here on"
            self.event("lights_on", text, {"epoch": epoch, "inferred": True}, float(epoch * EPOCH_S))
            self.night = RunningStatistics()
            for label in self.labels[self._dark_from : epoch]:
                self.night.push(label)
            self._light("lights_on")
        if self._sinks.wanted(SummaryPayload):
            self.tell(self._summary(final=True))

    def health(self, journal: JournalStatus, failures: int, least_hop_s: int, thinned: int) -> None:
        """Publish whether the night is kept, and how the engine keeps up."""
        self._healths += 1
        self.tell(
            HealthPayload(
                session=self.session,
                seq=self._healths - 1,
                t=utc(self._clock.wall()),
                recording=journal.state,
                reason=journal.reason or (REMADE if journal.remade else ""),
                dropped_samples=journal.dropped_samples,
                failures=failures,
                least_hop_s=least_hop_s,
                thinned=thinned,
            )
        )

    def _follow_lights(self, to_the_end: bool = False) -> None:
        """Apply lights off or on up to the last epoch; `to_the_end`: no more epochs come."""
        while self._lights and (to_the_end or self._lights[0][0] <= len(self.labels)):
            self._light(self._lights.popleft()[1])

    def _light(self, name: str) -> None:
        if name == "lights_off":
            self._dark_from, self._lit = len(self.labels), False
            self.night.lights_off()
        elif name == "lights_on":
            self._lit = True
            self.night.lights_on()

    def online(self, online: bool) -> None:
        """Publish whether samples arrive."""
        self.tell(Online(online))

    def _stage(self, payload: StagePayload) -> None:
        self._stages += 1
        self.tell(payload)

    def tell(self, news: News) -> None:
        """Tell every sink, and report those that failed."""
        self._sinks.hear(self._stream, news)
        self._complain()

    def _complain(self) -> None:
        """Report once that a sink has failed."""
        for name, text in self._sinks.complaints():
            self.event("error", text, {"sink": name})

    def _record(self, payload: EventPayload) -> None:
        """Record an event, if the journal is still open: an alarm outlasts it.

        What a sink says while it is told something urgent comes after that.
        """
        self._unrecorded.append(payload)
        if self._telling:
            return
        for one in sorted(self._unrecorded, key=lambda one: one.seq):
            try:
                self._journal.event(one)
            except JournalError as error:
                log.warning("not recorded: %s of %s: %s", one.event, self._stream, error)
        self._unrecorded.clear()

    def _summary(self, final: bool = False) -> SummaryPayload:
        self._summaries += 1
        return SummaryPayload(
            session=self.session,
            seq=self._summaries - 1,
            t=utc(self._clock.wall()),
            statistics=self.night.statistics().to_json(),
            final=final,
        )


def _epoch_of(event: EventPayload) -> int:
    epoch = event.data.get("epoch")
    return epoch if isinstance(epoch, int) else 0
