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
from streamer.messages import EPOCH_S, RATE_HZ, STAGES, Gap, Grade, Quality, Score, Switch

Line = Annotated[str, AfterValidator(printable)]  # printable, whoever wrote it
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
    "lights_off",
    "lights_on",
    "mark",
    AlarmCommand,
    "arm_trigger",
    "disarm_trigger",
    "stop",
]

EventData = dict[str, str | int | float | bool | None]


def utc(seconds: float) -> datetime:
    """Unix time in seconds as an aware UTC datetime, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


class _Payload(BaseModel):
    """What every payload carries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session: str = Field(description="identity of this recording session; unique per start")
    seq: int = Field(ge=0, description="counts this kind's messages of the session; (session, seq) is a key")


class Probabilities(BaseModel):
    """The network's probability of each stage; they add up to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    W: float
    N1: float
    N2: float
    N3: float
    R: float


class QualityPayload(BaseModel):
    """How far the last 30 s can be trusted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grade: Grade
    reasons: tuple[str, ...] = ()
    lost_fraction: float = Field(ge=0, le=1, description="share of the window's samples that never arrived")


class _Scored(_Payload):
    """What `stage` and `epoch` have in common."""

    t_end: datetime = Field(description="end of the scored 30 s, UTC")
    stage: PublishedStage
    smoothed: PublishedStage = Field(description="after the causal smoother")
    probabilities: Probabilities | None = Field(description="null when unscored")
    confidence: float | None = Field(description="probability of `stage`; null when unscored")
    warmup: bool = Field(description="the network has not yet seen enough context for full confidence")
    quality: QualityPayload


class StagePayload(_Scored):
    """`.../stage`, retained with expiry: the stage of the last 30 s, every hop."""

    schema_: Literal["sleepstream/stage/1"] = Field("sleepstream/stage/1", alias="schema")
    provisional: bool = Field(description="true off the 30 s grid; such a score is never committed")
    lasted_s: float = Field(0.0, ge=0, description="for how long `smoothed` has been the same")
    stage_lasted_s: float = Field(0.0, ge=0, description="for how long `stage` has been the same")
    latency_ms: float | None = Field(description="arrival of the window's last sample to publication")


class EpochPayload(_Scored):
    """`.../epoch`: one committed 30 s epoch; at least once, in order, never rewritten."""

    schema_: Literal["sleepstream/epoch/1"] = Field("sleepstream/epoch/1", alias="schema")
    epoch: int = Field(ge=0, description="number of the epoch on the 30 s grid of the session")
    t_start: datetime
    historical: bool = Field(False, description="true when it is delivered late: do not act on it")


class EventPayload(_Payload):
    """`.../event`: something happened once."""

    schema_: Literal["sleepstream/event/1"] = Field("sleepstream/event/1", alias="schema")
    t: datetime = Field(description="when it was said, by the clock of the host, UTC")
    at_s: float | None = Field(
        None, description="where in the recording it happened, seconds since sample 0; null: nobody said"
    )
    event: EventName
    text: Line = Field("", description="one line for a person")
    historical: bool = Field(False, description="true when it is delivered late: do not act on it")
    data: dict[str, Line | int | float | bool | None] = Field(default_factory=dict)


class SummaryPayload(_Payload):
    """`.../summary`, retained: the night so far (AASM definitions, minutes and percent)."""

    schema_: Literal["sleepstream/summary/1"] = Field("sleepstream/summary/1", alias="schema")
    t: datetime
    statistics: dict[str, float | None]
    final: bool = Field(False, description="the session has ended: these figures are its last")


class NightPayload(_Payload):
    """`.../night`, retained: the last night that has ended, until the next one has."""

    schema_: Literal["sleepstream/night/1"] = Field("sleepstream/night/1", alias="schema")
    t: datetime
    date: Date = Field(description="of its evening, in the sleeper's zone")
    started: datetime = Field(description="lights off, or sample 0 where nobody said")
    ended: datetime = Field(description="lights on, or the end of the last epoch with a signal")
    reason: Line = Field(description="why it ended, one line for a person")
    scored_min: float = Field(ge=0, description="of it, epochs that could be scored")
    statistics: dict[str, float | None]
    report: Line | None = Field(
        None, description="file name of the report, beside the session; null: none yet"
    )
    picture: Line | None = Field(None, description="likewise, of its picture")
    trend: Line | None = Field(None, description="likewise, of the last nights; null where there is one only")


class AlarmPayload(_Payload):
    """`.../alarm`, retained: what the smart alarm is about to do."""

    schema_: Literal["sleepstream/alarm/1"] = Field("sleepstream/alarm/1", alias="schema")
    t: datetime
    state: Literal["disarmed", "armed", "ringing", "snoozed"]
    deadline: datetime | None = Field(description="it rings no later than this; null when disarmed")
    snoozes: int = Field(ge=0, description="how often it was snoozed")
    time: str = Field("", description="clock time that it is, or would be, armed for; HH:MM")
    window_min: float = Field(0, ge=0, description="before the deadline, in which the stage may ring it")
    test: bool = Field(False, description="true while it is only tried out, with `test_alarm`")


class HealthPayload(_Payload):
    """`.../health`, retained: whether the night is kept, and how the engine keeps up with it."""

    schema_: Literal["sleepstream/health/1"] = Field("sleepstream/health/1", alias="schema")
    t: datetime
    recording: Literal["recording", "failing", "failed", "closed"] = Field(
        description="of the session file; failing: the disk refuses, is tried again, and staging goes on"
    )
    reason: str = Field("", description="why the disk refuses, for a person")
    dropped_samples: int = Field(ge=0, description="not kept because the disk refused; listed as gaps")
    failures: int = Field(ge=0, description="how often the stream was begun again since the process started")
    least_hop_s: int = Field(
        0, ge=0, description="the machine cannot keep up: provisional stages so far apart; 0: as configured"
    )
    thinned: int = Field(
        0, ge=0, description="provisional stages left out for that since the process started; never an epoch"
    )


class SignalPayload(BaseModel):
    """`.../signal`, retained: why no samples arrive, also before there is a session."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sleepstream/signal/1"] = Field("sleepstream/signal/1", alias="schema")
    t: datetime
    waiting: bool = Field(description="something is in the way of the samples; false: nothing that is known")
    reason: Line = Field("", description="what that is, one line for a person")


class EnginePayload(BaseModel):
    """`sleepstream/<node>/engine`, retained: which process has this node name, or last had it."""

    model_config = ConfigDict(frozen=True)  # a later version may say more

    schema_: Literal["sleepstream/engine/1"] = Field("sleepstream/engine/1", alias="schema")
    instance: Line = Field(description="this process; another has another")
    host: Line = Field(description="name of the machine")
    version: Line = Field(description="of sleepstream")
    started: datetime


class CommandPayload(BaseModel):
    """`.../command`, subscribed: what a client may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: CommandName
    text: Line = Field(
        "",
        max_length=200,
        description="kept with a mark; name of the trigger to arm or disarm, empty for all; clock time or "
        "ISO 8601 time to arm the alarm for, empty for the usual one; clock time or minutes to set",
    )
    id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="yours; the answer to this command bears it"
    )


class AnswerPayload(BaseModel):
    """`.../answer`: what became of one command, said once; with its correlation data, if it had any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sleepstream/answer/1"] = Field("sleepstream/answer/1", alias="schema")
    t: datetime
    id: str | None = Field(None, description="that the command bore; null if none, or if it is no command")
    command: CommandName | None = Field(None, description="null if what came is no command")
    done: bool = Field(description="false: refused, and nothing was changed")
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
    """A payload as the UTF-8 JSON text that is published and journaled."""
    return message.model_dump_json(by_alias=True)


def epoch_payload(
    score: Score, epoch: int, session: str, seq: int, started: float, historical: bool = False
) -> EpochPayload:
    """A score on the 30 s grid as what is committed of it; `started` is the Unix time of sample 0."""
    end = started + score.end / RATE_HZ
    return EpochPayload(
        session=session,
        seq=seq,
        epoch=epoch,
        t_start=utc(end - EPOCH_S),
        t_end=utc(end),
        historical=historical,
        **_said_of(score),
    )


def stage_payload(
    score: Score,
    session: str,
    seq: int,
    started: float,
    lasted_s: tuple[float, float],
    latency_ms: float | None,
) -> StagePayload:
    """A score as it is said at once.

    Args:
        score: of the last 30 s.
        session: identity of the session.
        seq: number of the message.
        started: Unix time of sample 0.
        lasted_s: for how long `smoothed` has been the same, and `stage`.
        latency_ms: see `StagePayload`.

    """
    return StagePayload(
        session=session,
        seq=seq,
        t_end=utc(started + score.end / RATE_HZ),
        provisional=score.epoch is None,
        lasted_s=lasted_s[0],
        stage_lasted_s=lasted_s[1],
        latency_ms=None if latency_ms is None else round(latency_ms, 1),
        **_said_of(score),
    )


def no_signal_payload(session: str, seq: int, t_end: float) -> StagePayload:
    """What takes the place of a stage that has become stale; `t_end` in Unix s."""
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


def gap_said(
    gap: Gap, rate_hz: float, started: float, lost: int | None = None, count: int = 1
) -> tuple[str, EventData, float]:
    """What an event says of a loss: its text, its data, and where it began, s.

    Args:
        gap: in device samples; of several losses that are told together from the first to the last.
        rate_hz: of the device.
        started: Unix time of sample 0, s.
        lost: samples of it that were lost; None: all.
        count: in how many places.

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


def switch_said(switch: Switch, rate_hz: float, started: float) -> tuple[str, EventData, float]:
    """What an event says of another channel: its text, its data, and where that began, s."""
    at_s = switch.at / rate_hz
    data: EventData = {
        "t_start": utc(started + at_s).isoformat(),
        "from": switch.before,
        "to": switch.after,
        "reason": switch.reason,
    }
    return f"channel {switch.after} instead of {switch.before}: {switch.reason}", data, at_s


def _said_of(score: Score) -> dict[str, Any]:
    """What `stage` and `epoch` both say of a score."""
    return {
        "stage": score.stage,
        "smoothed": score.smoothed,
        "probabilities": _probabilities_of(score),
        "confidence": None if score.probabilities is None else round(max(score.probabilities), 5),
        "warmup": score.warmup,
        "quality": _quality_of(score.quality),
    }


def _probabilities_of(score: Score) -> Probabilities | None:
    """To five decimals; None when unscored."""
    if score.probabilities is None:
        return None
    return Probabilities(**{stage: round(p, 5) for stage, p in zip(STAGES, score.probabilities, strict=True)})


def _quality_of(quality: Quality) -> QualityPayload:
    return QualityPayload(grade=quality.grade, reasons=quality.reasons, lost_fraction=quality.lost_fraction)
