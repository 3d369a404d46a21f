"""Turns the scores and events of one stream into payloads, and passes them to every sink."""

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

REMADE = "the session file was deleted or moved away, and was written again in its place"
UNTRACED = 16  # messages that a process may have published but not recorded
log = logging.getLogger(__name__)


class Publisher:
    """Publishes one stream: numbers its messages, keeps its epochs' labels, and never blocks.

    Epochs and events go into the journal, and from its outbox to the broker. Every sink gets all news; an
    exception of a sink becomes an event.

    Args:
        stream: name of the sleeper.
        session: identity of the recording session.
        info: the stream's rate and start.
        journal: the record of this session.
        sinks: get the news, in this order.
        clock: time.
        late_after_s: an epoch that ended longer ago than this is historical. None for recordings, in which
            time is that of the samples being played.

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
        self._telling = 0  # urgent events being passed to sinks; they are recorded afterwards
        self._unrecorded: list[EventPayload] = []
        self._clock = clock
        self._late_after_s = late_after_s
        # On the steady clock, so that setting the wall clock does not make epochs late.
        self._began = clock.monotonic() - (clock.wall() - info.started)
        self._quiet_until = 0  # 100 Hz index: stages up to there were published by an earlier process
        self._stages = self._epochs = self._events = self._summaries = self._alarms = self._healths = 0
        self._now: tuple[Label, Label] = (UNSCORED, UNSCORED)  # the stage after the smoother, and as scored
        self._since = (0, 0)  # 100 Hz index: since when each is the same
        self.heard = 0  # 100 Hz index: end of the last score
        self._hearing = 0  # likewise, of the score being published
        self.night = RunningStatistics()
        self.labels: list[Label] = []  # the stage of every committed epoch: 2,880 in a day
        self._dark_from = 0  # epoch at which the lights went off last
        self._lit = False  # they are on again
        self._lights: deque[tuple[int, str]] = deque()  # lights off and on at epochs not committed yet
        self.smoothed: list[Label] = []  # likewise, after the smoother

    def first(self, sink: Sink | Guard) -> None:
        """Add a sink that gets news before all others: a reaction."""
        self._sinks.first(sink)

    def opened(self, channel: str, session: Path) -> None:
        """Announce that the session begins or continues, with the staged derivation and the session file."""
        self.tell(Opened(self.info, channel, session))

    def sampled(self, item: Item) -> None:
        """Pass samples to sinks, before they are scored."""
        if self._sinks.wanted(Sampled):
            self.tell(Sampled(item))

    def score(self, score: Score) -> None:
        """Publish a score; on the 30 s grid also commit its epoch. Triggers and alarm get it first."""
        self._hearing = score.end
        if self._sinks.wanted(Scored):
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
        """Note the last score's end, and when its stage began."""
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

        Message numbers continue after those that it may have used without recording them, in its last two
        seconds.

        Args:
            epochs: that it has committed.
            events: at least those about the lights.
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
        self._healths = sum(counts.values())  # at least as many: each start and change of health was an event
        self._events = last_event + 1 + UNTRACED

    def restore(self, scores: Sequence[Score], count: int) -> None:
        """Take the scores of an earlier process, `count` in all, and continue their numbers."""
        self._stages += count
        for score in scores:
            self._follow(score)

    def continues(self, index: int, monotonic: float) -> None:
        """Note that the device is back: sample `index` was taken at `monotonic` s.

        Stages before it are not published.
        """
        self._began = monotonic - index / self.info.rate_hz
        self._quiet_until = round(index / self.info.rate_hz * RATE_HZ)

    def age_s(self, score: Score) -> float:
        """Return how long ago a score ended, in s, by the steady clock."""
        return self._clock.monotonic() - self._began - score.end / RATE_HZ

    def no_signal(self) -> None:
        """Publish "no signal" as the stage, because no samples arrive."""
        self._stage(make_no_signal_payload(self.session, self._stages, self._clock.wall()))

    def gap(self, gap: Gap, lost: int | None = None, count: int = 1) -> None:
        """Report a loss.

        Args:
            gap: in device samples; of several losses, from the first to the last.
            lost: samples lost in it; None: all.
            count: number of losses in it.

        """
        self.event("gap", *describe_gap(gap, self.info.rate_hz, self.info.started, lost, count))

    def switch(self, switch: Switch) -> None:
        """Report that another channel is staged from now on, and why."""
        self.event("channel_changed", *describe_switch(switch, self.info.rate_hz, self.info.started))

    def event(
        self,
        name: EventName,
        text: str,
        data: EventData | None = None,
        at_s: float | None = None,
    ) -> None:
        """Publish an event, `at_s` seconds after sample 0 (default: `now_s`)."""
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
        """Publish an event at once: to the sinks first (an LSL marker), and to MQTT before it is recorded.

        `latency_ms` of the recorded event is the time from `arrived` (monotonic s) until every prompt sink
        had it.
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
        """Publish the alarm's state: `say` makes it from the session and the next message number."""
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
        """The present position in the stream, in seconds since sample 0, lost samples included.

        For a device time goes on from the last sample that came. For a recording it is the end of the last
        score, at whatever speed it is played.
        """
        last = self._journal.last
        if self._late_after_s is None:
            return self._hearing / RATE_HZ
        if not last.index:
            return max(0.0, self._clock.monotonic() - self._began)
        return last.index / self.info.rate_hz + max(0.0, self._clock.monotonic() - last.monotonic)

    def command(self, name: Literal["lights_off", "lights_on", "mark"], text: str) -> int:
        """Record a remark of the sleeper or the home about the night; return its epoch.

        The epoch follows from the time of the command, even if that epoch is committed later, because the
        machine is busy or the device sends buffered samples.
        """
        epoch = max(len(self.labels), int(self.now_s // EPOCH_S))
        self.event(name, text, {"epoch": epoch})
        if name != "mark":  # last, so that an event that could not be published has no effect
            self._lights.append((epoch, name))
            self._follow_lights()
        return epoch

    def conclude(self, worn_s: float | None = None) -> None:
        """Publish the night's final statistics.

        Args:
            worn_s: end of the last epoch with a signal, seconds since sample 0. If no command said when the
                lights went on, they count as on from there, so that a band on its charger does not count as
                time in bed. None: the lights stay as they are.

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
        """Publish whether the night is being recorded, and whether the engine keeps up."""
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
        """Apply lights off and on up to the last epoch; `to_the_end`: all, because no more epochs come."""
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
        """Pass news to every sink, and report those that failed."""
        self._sinks.hear(self._stream, news)
        self._complain()

    def _complain(self) -> None:
        """Publish the complaints about sinks as events."""
        for name, text in self._sinks.complaints():
            self.event("error", text, {"sink": name})

    def _record(self, payload: EventPayload) -> None:
        """Record an event, if the journal is still open; the alarm goes on after it is closed.

        Events that arise while an urgent one is being passed to sinks are recorded after it.
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
