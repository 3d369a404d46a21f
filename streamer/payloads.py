"""What is published: one pydantic model per MQTT topic, schema version 1, additive changes only.

The JSON schemas in `docs/schemas/` are generated from these models (`python -m tools.schemas`) and held equal
to them by a test.
"""

from __future__ import annotations

from datetime import UTC, datetime
from datetime import date as Date  # a field has that name
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streamer.host.printable import printable
from streamer.messages import EPOCH_S, RATE_HZ, STAGES, Gap, Grade, Score, Switch

Line = Annotated[str, AfterValidator(printable)]  # one line without control characters
PublishedStage = Literal["W", "N1", "N2", "N3", "R", "unscored", "no_signal"]
EventName = Literal[
    "session_started",
    "session_resumed",
    "session_ended",
    "gap",
    "reconnected",
    "no_signal",
    "channel_changed",
    "warning",
    "error",
    "lights_off",
    "lights_on",
    "mark",
    "refused",
    "trigger",
    "alarm",
    "marker",
    "report",
]

AlarmChange = Literal[
    "armed", "window_began", "disarmed", "ringing", "snoozed", "dismissed", "gave_up", "missed", "set"
]
AlarmCommand = Literal[
    "arm_alarm",
    "disarm_alarm",
    "snooze_alarm",
    "dismiss_alarm",
    "test_alarm",
    "set_alarm",
    "set_alarm_window",
]
CommandName = Literal[
    "lights_off", "lights_on", "mark", AlarmCommand, "arm_trigger", "disarm_trigger", "stop"
]

EventData = dict[str, str | int | float | bool | None]


def utc(seconds: float) -> datetime:
    """Convert Unix time in seconds to a UTC datetime, rounded to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


class _Payload(BaseModel):
    """The fields of every payload of a session."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session: str = Field(description="identity of this recording session")
    seq: int = Field(ge=0, description="counts the session's messages of this kind; (session, seq) is a key")


class Probabilities(BaseModel):
    """The network's probability of each stage; they add up to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    W: float
    N1: float
    N2: float
    N3: float
    R: float


class QualityPayload(BaseModel):
    """The signal quality of the last 30 s."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grade: Grade
    reasons: tuple[str, ...] = ()
    lost_fraction: float = Field(ge=0, le=1, description="share of the window's samples that were lost")


class _Scored(_Payload):
    """The fields that `stage` and `epoch` have in common."""

    t_end: datetime = Field(description="end of the scored 30 s, UTC")
    stage: PublishedStage
    smoothed: PublishedStage = Field(description="after the causal smoother")
    probabilities: Probabilities | None = Field(description="null when unscored")
    confidence: float | None = Field(description="probability of `stage`; null when unscored")
    warmup: bool = Field(description="the network has seen too few epochs yet for full confidence")
    quality: QualityPayload


class StagePayload(_Scored):
    """`.../stage`, retained with expiry: the stage of the last 30 s, every hop."""

    schema_: Literal["sleepstream/stage/1"] = Field("sleepstream/stage/1", alias="schema")
    provisional: bool = Field(description="true for a score off the 30 s grid, which never becomes an epoch")
    lasted_s: float = Field(0.0, ge=0, description="seconds since `smoothed` last changed")
    stage_lasted_s: float = Field(0.0, ge=0, description="seconds since `stage` last changed")
    latency_ms: float | None = Field(description="from arrival of the window's last sample to publication")


class EpochPayload(_Scored):
    """`.../epoch`: one committed 30 s epoch; delivered at least once, in order, never changed later."""

    schema_: Literal["sleepstream/epoch/1"] = Field("sleepstream/epoch/1", alias="schema")
    epoch: int = Field(ge=0, description="number of the epoch on the 30 s grid of the session")
    t_start: datetime
    historical: bool = Field(False, description="true when delivered late: do not act on it")


class EventPayload(_Payload):
    """`.../event`: something happened once."""

    schema_: Literal["sleepstream/event/1"] = Field("sleepstream/event/1", alias="schema")
    t: datetime = Field(description="when it was reported, by the host's clock, UTC")
    at_s: float | None = Field(None, description="when it happened, in seconds after sample 0; null: unknown")
    event: EventName
    text: Line = Field("", description="one line for a person")
    historical: bool = Field(False, description="true when delivered late: do not act on it")
    data: dict[str, Line | int | float | bool | None] = Field(default_factory=dict)


class SummaryPayload(_Payload):
    """`.../summary`, retained: the night so far (AASM definitions, minutes and percent)."""

    schema_: Literal["sleepstream/summary/1"] = Field("sleepstream/summary/1", alias="schema")
    t: datetime
    statistics: dict[str, float | None]
    final: bool = Field(False, description="the session has ended; its figures no longer change")


class NightPayload(_Payload):
    """`.../night`, retained: the last night that has ended."""

    schema_: Literal["sleepstream/night/1"] = Field("sleepstream/night/1", alias="schema")
    t: datetime
    date: Date = Field(description="date of the night's evening, in the sleeper's time zone")
    started: datetime = Field(description="lights off, or sample 0 where no lights off was marked")
    ended: datetime = Field(description="lights on, or the end of the last epoch with a signal")
    reason: Line = Field(description="why the night ended, one line for a person")
    scored_min: float = Field(ge=0, description="minutes of the night that could be scored")
    statistics: dict[str, float | None]
    report: Line | None = Field(
        None, description="file name of the report, beside the session; null: none yet"
    )
    picture: Line | None = Field(None, description="file name of its picture; null: none yet")
    trend: Line | None = Field(None, description="file name of the trend; null: only one night so far")


class AlarmPayload(_Payload):
    """`.../alarm`, retained: what the smart alarm is about to do."""

    schema_: Literal["sleepstream/alarm/1"] = Field("sleepstream/alarm/1", alias="schema")
    t: datetime
    state: Literal["disarmed", "armed", "ringing", "snoozed"]
    deadline: datetime | None = Field(description="latest time at which it rings; null when disarmed")
    snoozes: int = Field(ge=0, description="how often this alarm was snoozed")
    time: str = Field("", description="usual alarm time, HH:MM; also while it is disarmed")
    window_min: float = Field(0, ge=0, description="minutes before the deadline in which it may ring earlier")
    test: bool = Field(False, description="true while `test_alarm` makes it ring")


class HealthPayload(_Payload):
    """`.../health`, retained: whether the night is being recorded, and whether the machine keeps up."""

    schema_: Literal["sleepstream/health/1"] = Field("sleepstream/health/1", alias="schema")
    t: datetime
    recording: Literal["recording", "failing", "failed", "closed"] = Field(
        description="state of the session file; failing: the disk refuses, writing is retried"
    )
    reason: str = Field("", description="why the disk refuses, for a person")
    dropped_samples: int = Field(
        ge=0, description="samples not recorded because the disk refused; listed as gaps"
    )
    failures: int = Field(ge=0, description="how often the stream was restarted since the process started")
    least_hop_s: int = Field(
        0, ge=0, description="shortest hop while the machine cannot keep up, s; 0: the configured hop"
    )
    thinned: int = Field(0, ge=0, description="provisional stages left out so far because of that")


class SignalPayload(BaseModel):
    """`.../signal`, retained: why no samples arrive; published before there is a session, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sleepstream/signal/1"] = Field("sleepstream/signal/1", alias="schema")
    t: datetime
    waiting: bool = Field(description="whether something keeps samples from arriving")
    reason: Line = Field("", description="the reason, one line for a person")


class EnginePayload(BaseModel):
    """`sleepstream/<node>/engine`, retained: the process that uses this node name, or used it last."""

    model_config = ConfigDict(frozen=True)  # may be read from a later version, which has more fields

    schema_: Literal["sleepstream/engine/1"] = Field("sleepstream/engine/1", alias="schema")
    instance: Line = Field(description="identity of the process")
    host: Line = Field(description="name of the machine")
    version: Line = Field(description="version of sleepstream")
    started: datetime


class CommandPayload(BaseModel):
    """`.../command`, subscribed: a request of a client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: CommandName
    text: Line = Field(
        "",
        max_length=200,
        description="mark: its text. arm_trigger, disarm_trigger: the trigger's name; empty: all. "
        "arm_alarm: a clock time or ISO 8601 time; empty: the usual time. "
        "set_alarm: a clock time. set_alarm_window: minutes.",
    )
    id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="chosen by the client; the answer repeats it"
    )


class AnswerPayload(BaseModel):
    """`.../answer`: the result of one command, published once, with the command's correlation data if any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sleepstream/answer/1"] = Field("sleepstream/answer/1", alias="schema")
    t: datetime
    id: str | None = Field(
        None, description="the command's id; null without one, or if the command is not valid"
    )
    command: CommandName | None = Field(None, description="null if it is not a valid command")
    done: bool = Field(description="false: the command was refused and changed nothing")
    reason: Line = Field("", description="why it was refused, one line for a person")


KINDS: dict[type[BaseModel], str] = {
    StagePayload: "stage",
    EpochPayload: "epoch",
    EventPayload: "event",
    SummaryPayload: "summary",
    NightPayload: "night",
    AlarmPayload: "alarm",
    HealthPayload: "health",
    SignalPayload: "signal",
    EnginePayload: "engine",
    AnswerPayload: "answer",
}


def to_json(message: BaseModel) -> str:
    """Convert a payload to the JSON text that is published and recorded."""
    return message.model_dump_json(by_alias=True)


def make_epoch_payload(
    score: Score, epoch: int, session: str, seq: int, started: float, historical: bool = False
) -> EpochPayload:
    """Make the payload of a committed epoch; `started` is the Unix time of sample 0, s."""
    end = started + score.end / RATE_HZ
    said = {
        "session": session,
        "seq": seq,
        "epoch": epoch,
        "t_start": utc(end - EPOCH_S),
        "t_end": utc(end),
        "historical": historical,
    }
    return EpochPayload.model_validate(said | _said_of(score))


def make_stage_payload(
    score: Score,
    session: str,
    seq: int,
    started: float,
    lasted_s: tuple[float, float],
    latency_ms: float | None,
) -> StagePayload:
    """Make the payload of the current stage.

    Args:
        score: the score of the last 30 s.
        session: identity of the session.
        seq: number of the message.
        started: Unix time of sample 0.
        lasted_s: seconds since `smoothed` changed, and since `stage` changed.
        latency_ms: see `StagePayload`.

    """
    said = {
        "session": session,
        "seq": seq,
        "t_end": utc(started + score.end / RATE_HZ),
        "provisional": score.epoch is None,
        "lasted_s": lasted_s[0],
        "stage_lasted_s": lasted_s[1],
        "latency_ms": None if latency_ms is None else round(latency_ms, 1),
    }
    return StagePayload.model_validate(said | _said_of(score))


def make_no_signal_payload(session: str, seq: int, t_end: float) -> StagePayload:
    """Make the payload that replaces a stale stage when samples stop; `t_end` is Unix time, s."""
    return StagePayload(
        session=session,
        seq=seq,
        t_end=utc(t_end),
        stage="no_signal",
        smoothed="no_signal",
        probabilities=None,
        confidence=None,
        warmup=True,
        quality=QualityPayload(grade="off", reasons=("no signal",), lost_fraction=1.0),
        provisional=True,
        latency_ms=None,
    )


def describe_gap(
    gap: Gap, rate_hz: float, started: float, lost: int | None = None, count: int = 1
) -> tuple[str, EventData, float]:
    """Describe a gap for an event: its text, its data, and where it began, in seconds after sample 0.

    Args:
        gap: in device samples; for several gaps in one event, from the first to the last.
        rate_hz: of the device.
        started: Unix time of sample 0, s.
        lost: number of samples lost; None: all samples of the gap.
        count: number of gaps.

    """
    begin = gap.start / rate_hz
    seconds = round((gap.stop - gap.start if lost is None else lost) / rate_hz, 4)
    text = f"{seconds:.3f} s lost: {gap.reason}"
    more: EventData = {}
    if count > 1:
        span_s = (gap.stop - gap.start) / rate_hz
        text = f"{seconds:.3f} s lost in {count} places within {span_s:.0f} s; the first: {gap.reason}"
        more = {"count": count}
    more["t_start"] = utc(started + begin).isoformat()
    return text, {"seconds": seconds, "reason": gap.reason, "stop": gap.stop, **more}, begin


def describe_switch(switch: Switch, rate_hz: float, started: float) -> tuple[str, EventData, float]:
    """Describe a change of channel for an event: its text, its data, and when it was, in s after sample 0."""
    at_s = switch.at / rate_hz
    data: EventData = {
        "t_start": utc(started + at_s).isoformat(),
        "from": switch.before,
        "to": switch.after,
        "reason": switch.reason,
    }
    return f"channel {switch.after} instead of {switch.before}: {switch.reason}", data, at_s


def _said_of(score: Score) -> dict[str, Any]:
    """The fields that `stage` and `epoch` share, as plain values: pydantic checks all of them in one go."""
    quality, probabilities = score.quality, score.probabilities
    return {
        "stage": score.stage,
        "smoothed": score.smoothed,
        "probabilities": None
        if probabilities is None
        else {stage: round(p, 5) for stage, p in zip(STAGES, probabilities, strict=True)},
        "confidence": None if probabilities is None else round(max(probabilities), 5),
        "warmup": score.warmup,
        "quality": {
            "grade": quality.grade,
            "reasons": quality.reasons,
            "lost_fraction": quality.lost_fraction,
        },
    }
