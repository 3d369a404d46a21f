"""EDF knows the years 1985 to 2084; a computer without a clock may have recorded in 1970."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Final

from streamer.session import Night

NO_DATE: Final = date(1985, 1, 1)  # what EDF puts for a date that is not known
YEARS: Final = range(1985, 2085)


def edf_start(night: Night, later_s: int = 0) -> datetime:
    """When it began, or so much later, in UTC, to the second below; in 1985 if EDF cannot say its date."""
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(night.started) + later_s)
    return begin if begin.year in YEARS else datetime.combine(NO_DATE, begin.time(), UTC)


def undated(night: Night) -> list[str]:
    """What a person should know where the date is lost."""
    if edf_start(night).timestamp() == math.floor(night.started):
        return []
    return [f"it began {night.started:.0f} s after 1970, a date that EDF cannot hold: written without a date"]
