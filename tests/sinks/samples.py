"""One payload of each kind, numbered."""

from __future__ import annotations

from datetime import date

from streamer.payloads import (
    AlarmPayload,
    AnswerPayload,
    EnginePayload,
    EpochPayload,
    EventPayload,
    HealthPayload,
    NightPayload,
    Probabilities,
    QualityPayload,
    SignalPayload,
    StagePayload,
    SummaryPayload,
    utc,
)

NIGHT = 1_767_222_000.0  # 2025-12-31 23:00 UTC
SESSION = "20251231-230000-7f3a"
_QUALITY = QualityPayload(grade="fair", reasons=("3 % of the samples lost",), lost_fraction=0.03)
_PROBABILITIES = Probabilities(W=0.02, N1=0.05, N2=0.81, N3=0.11, R=0.01)


def stage(seq: int) -> StagePayload:
    return StagePayload(
        session=SESSION,
        seq=seq,
        t_end=utc(NIGHT + seq),
        stage="N2",
        smoothed="N2",
        probabilities=_PROBABILITIES,
        confidence=0.81,
        warmup=False,
        quality=_QUALITY,
        provisional=True,
        latency_ms=41.5,
    )


def epoch(seq: int) -> EpochPayload:
    return EpochPayload(
        session=SESSION,
        seq=seq,
        t_start=utc(NIGHT + 30 * seq),
        t_end=utc(NIGHT + 30 * seq + 30),
        stage="N2",
        smoothed="N2",
        probabilities=_PROBABILITIES,
        confidence=0.81,
        warmup=False,
        quality=_QUALITY,
        epoch=seq,
    )


def event(seq: int) -> EventPayload:
    return EventPayload(
        session=SESSION,
        seq=seq,
        t=utc(NIGHT + seq),
        event="gap",
        text="1.5 s lost: no packets",
        data={"seconds": 1.5, "reason": "no packets"},
    )


def engine(seq: int) -> EnginePayload:
    return EnginePayload(instance="9f2c41d0", host="pi-3", version="0.1.0", started=utc(NIGHT + seq))


def answer(seq: int) -> AnswerPayload:
    return AnswerPayload(
        t=utc(NIGHT + seq), id="4f1d", command="arm_alarm", done=False, reason="'25:00' is no time"
    )


def signal(seq: int) -> SignalPayload:
    reason = "no channel 'AF7-TP9'; there are: C3 (256 Hz, uV), C4 (256 Hz, uV)"
    return SignalPayload(t=utc(NIGHT + seq), waiting=True, reason=reason)


def health(seq: int) -> HealthPayload:
    return HealthPayload(
        session=SESSION,
        seq=seq,
        t=utc(NIGHT + seq),
        recording="failing",
        reason="database or disk is full",
        dropped_samples=0,
        failures=1,
    )


def alarm(seq: int) -> AlarmPayload:
    return AlarmPayload(
        session=SESSION,
        seq=seq,
        t=utc(NIGHT + seq),
        state="armed",
        deadline=utc(NIGHT + 28_800),
        snoozes=0,
        time="07:00",
        window_min=30.0,
    )


def summary(seq: int) -> SummaryPayload:
    statistics = {"tst_min": 412.5, "sol_min": 14.0, "rem_latency_min": None}
    return SummaryPayload(session=SESSION, seq=seq, t=utc(NIGHT + seq), statistics=statistics)


def night(seq: int) -> NightPayload:
    return NightPayload(
        session=SESSION,
        seq=seq,
        t=utc(NIGHT + 30_000),
        date=date(2025, 12, 31),
        started=utc(NIGHT),
        ended=utc(NIGHT + 27_000),
        reason="lights on",
        scored_min=431.5,
        statistics={
            "tst_min": 412.5,
            "se_percent": 91.67,
            "sol_min": 14.0,
            "r_min": 96.0,
            "n3_min": 81.5,
            "awakenings": 3.0,
        },
        report=f"{SESSION}.html",
        picture=f"{SESSION}.png",
        trend="trend-anna.html",
    )
