"""Times of day in settings, and when such a time comes next."""

from __future__ import annotations

from datetime import datetime, time, timedelta, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not a time zone; write one such as Europe/Berlin") from None
    return name


def _written(value: object) -> object:
    if isinstance(value, int | float):  # pydantic would read it as seconds since midnight
        raise PydanticCustomError("time_type", "a number is not a time of day")
    return value


def _plain(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("write the time of day without an offset, and set zone instead")
    return value


ClockTime = Annotated[time, BeforeValidator(_written), AfterValidator(_plain)]  # 07:00:00 or "07:00"
Zone = Annotated[str, AfterValidator(_known_zone)]


def next_time(at: time, after: float, zone: tzinfo | None) -> float:
    """Return the first Unix time after `after` at which clocks in `zone` (None: this machine's) show `at`.

    When daylight saving time begins, a time that is skipped counts by the old time: 02:30 is 03:30. When it
    ends, the first of two equal times counts.
    """
    day = datetime.fromtimestamp(after, zone).date()
    for _ in range(3):
        when = datetime.combine(day, at, zone).timestamp()
        if when > after:
            return when
        day += timedelta(days=1)
    raise ValueError(f"no {at} after {after}")
