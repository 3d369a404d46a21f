"""What `[night]` may say: when a night of a device ends by itself, and what is written then."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from streamer.night.daytime import ClockTime, Zone
from streamer.tables import Table


class NightSettings(Table):
    """The end of a night. Only a device's nights end by these rules; a recording ends with its file."""

    lights_on: bool = True  # the command ends the night
    lights_on_after_min: float = Field(
        30, ge=0, le=1440
    )  # if it is as long; the lamp of the evening does not
    off_min: float = Field(90, ge=0, le=1440)  # the band off or silent for so long; 0: never
    after_h: float = Field(3, ge=0, le=24)  # of signal must be recorded for that; else ...
    off_anyway_h: float = Field(6, ge=0, le=48)  # ... off for so long ends what was recorded; 0: never
    at: ClockTime | Literal["never"] = Field("12:00", validate_default=True)
    zone: Zone | None = None  # of `at`; None: the alarm's, else this machine's own
    begin_min: float = Field(3, ge=0.5, le=60)  # of unbroken signal begin the next night; less is a blip
    report: bool = True  # write it when the night has ended
    report_after_min: float = Field(30, ge=0, le=1440)  # of scored epochs; of less nothing is written
    trend_nights: int = Field(30, ge=0, le=1000)  # the last so many in the trend; 0: none

    @property
    def tz(self) -> ZoneInfo | None:
        """Where `at` is meant."""
        return None if self.zone is None else ZoneInfo(self.zone)
