"""The [night] table: when a device's night ends by itself, and its report."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from streamer.night.daytime import ClockTime, Zone
from streamer.tables import Table


class NightSettings(Table):
    """[night]: the end of a device's night, and its report. A replay ends with its file instead."""

    lights_on: bool = True  # the command lights_on ends the night
    # ... but not in the first minutes of a session, when lights may go on and off in the evening.
    lights_on_after_min: float = Field(30, ge=0, le=1440)
    off_min: float = Field(90, ge=0, le=1440)  # the band off or silent for so long ends it; 0: never
    after_h: float = Field(3, ge=0, le=24)  # ... once so much signal is recorded
    off_anyway_h: float = Field(6, ge=0, le=48)  # off for so long ends even a short recording; 0: never
    at: ClockTime | Literal["never"] = Field("12:00", validate_default=True)
    zone: Zone | None = None  # of `at`; None: the alarm's zone, else this machine's
    begin_min: float = Field(3, ge=0.5, le=60)  # so much uninterrupted signal begins the next night
    report: bool = True  # write a report when the night has ended
    report_after_min: float = Field(30, ge=0, le=1440)  # no report of a night with less scored time
    trend_nights: int = Field(30, ge=0, le=1000)  # number of nights in the trend; 0: no trend

    @property
    def tz(self) -> ZoneInfo | None:
        """Time zone of `at`; None if not set."""
        return None if self.zone is None else ZoneInfo(self.zone)
