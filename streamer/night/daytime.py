"""When a clock on the wall shows a time of day next."""

from __future__ import annotations

from datetime import datetime, time, timedelta, tzinfo


def next_time(at: time, after: float, zone: tzinfo | None) -> float:
    """The first Unix time later than `after` at which clocks in `zone` (None: this machine's) show `at`.

    In the night in which clocks go forward, a time that they leave out counts as if they had not yet been
    set: 02:30 is 03:30. In the night in which they go back, the first of two equal times counts.
    """
    day = datetime.fromtimestamp(after, zone).date()
    for _ in range(3):
        when = datetime.combine(day, at, zone).timestamp()
        if when > after:
            return when
        day += timedelta(days=1)
    raise ValueError(f"no {at} after {after}")
