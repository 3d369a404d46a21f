"""A page with a stream on it, for tests that need no engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np

from streamer.clock import Clock
from streamer.messages import STAGES, Channel, Label, Quality, Score, StreamInfo, Window
from streamer.news import Scored
from streamer.payloads import CommandPayload, EventPayload, Probabilities, QualityPayload, StagePayload, utc
from streamer.web.page import Page
from streamer.web.traces import NO_TRACES, Traces

INFO = StreamInfo("band", 256.0, (Channel("AF7", "uV"),), 1_750_000_000.0)


class Bed:
    """One stream, staged by hand."""

    def __init__(
        self, page: Page, name: str = "anna", alarm: bool = False, traces: Traces = NO_TRACES
    ) -> None:
        self.page = page
        self.name = name
        self.alarm = alarm
        self.traces = traces
        self.sessions = 0
        self.obeyed: Callable[[], None] = lambda: None
        self.commands: list[CommandPayload] = []
        self.refused: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A new session."""
        self.labels: list[Label] = []
        self.second = 0
        self.events = 0
        self.sessions += 1
        self.page.open(
            self.name,
            f"s{self.sessions}",
            INFO,
            "AF7",
            30,
            self.labels,
            self._obey,
            self.refused.append,
            alarm=self.alarm,
            traces=self.traces,
        )

    def _obey(self, command: CommandPayload) -> None:
        self.commands.append(command)
        self.obeyed()

    def stage(self, stage: Label, seconds: int = 30) -> None:
        """Score the next window."""
        self.second += seconds
        grid = self.second % 30 == 0
        epoch = self.second // 30 - 1 if grid else None
        scored = stage in STAGES
        shares = tuple(0.8 if one == stage else 0.05 for one in STAGES) if scored else None
        quality = Quality("good") if scored else Quality("off", ("flat",), 0.25)
        phase = np.arange(3000) / 100 * 2 * np.pi
        samples = (20 * np.sin(phase)).astype(np.float32)
        spectrogram = np.full((29, 128), 40, dtype=np.float32)
        if not scored:
            samples[:1000] = np.nan
            spectrogram[:] = np.nan
        window = Window(self.second * 100, epoch, samples, spectrogram)
        if grid:
            self.labels.append(stage)
        score = Score(self.second * 100, epoch, stage, stage, shares, False, quality, window)
        self.page.hear(self.name, Scored(score, INFO.started + self.second))
        self.page.hear(self.name, self._payload(stage, shares, quality, not grid))

    def silence(self) -> None:
        """Nothing arrives any more."""
        self.page.hear(self.name, self._payload("no_signal", None, Quality("off", ("no signal",), 1.0), True))

    def event(self, name: str, text: str = "", at_s: float | None = None, **data: float | str) -> None:
        """Something happened."""
        payload = EventPayload(
            session=f"s{self.sessions}",
            seq=self.events,
            t=utc(INFO.started),
            at_s=at_s,
            event=name,
            text=text,
            data=data,
        )
        self.events += 1
        self.page.hear(self.name, payload)

    def _payload(self, stage, shares, quality, provisional) -> StagePayload:
        return StagePayload(
            session=f"s{self.sessions}",
            seq=self.second,
            t_end=utc(INFO.started) + timedelta(seconds=self.second),
            stage=stage,
            smoothed=stage,
            probabilities=Probabilities(**dict(zip(STAGES, shares, strict=True))) if shares else None,
            confidence=0.8 if shares else None,
            warmup=False,
            quality=QualityPayload(
                grade=quality.grade, reasons=quality.reasons, lost_fraction=quality.lost_fraction
            ),
            provisional=provisional,
            latency_ms=1.0,
        )


def bed(clock: Clock) -> Bed:
    """A page with one stream."""
    return Bed(Page(clock))
