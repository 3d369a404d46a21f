"""Checks the times of an XDF stream: their scale and their rate."""

from __future__ import annotations

import numpy as np

from streamer.messages import Floats
from streamer.sources.devicetime import scale_named, scale_of
from streamer.sources.pace import SNAP, TOLERANCE, nominal_near, rate_said
from streamer.sources.timeline import Timeline

ENOUGH_S = 60.0  # with fewer s of samples the declared rate is used, not that of the times
LOOKED_AT_S = 600.0  # of samples: a device's rate does not change


def seconds(times: Floats, rate_hz: float) -> tuple[Floats, str]:
    """Convert times to seconds, whatever their scale; also return a remark on it, or "".

    A known scale (ms, µs, sample numbers) is undone, so that losses keep their length. Unusable times are
    replaced by those of the declared rate.

    Args:
        times: (n,) as in the file, finite.
        rate_hz: declared.

    """
    factor = speed_of(times, rate_hz)
    named = scale_named(factor, rate_hz)
    if not named:
        return times, ""
    scale = scale_of(factor, rate_hz)
    if scale is None:
        placed: Floats = np.arange(times.shape[0]) / rate_hz
        return placed, f"its times {named}, and are not believed: samples are placed at {rate_hz:g} Hz"
    return times / scale, f"its times {named}; they are divided by that"


def true_rate(times: Floats, rate_hz: float) -> tuple[float, str]:
    """Return the rate to read at: that of the times if it differs from the declared one; and a remark, or "".

    Args:
        times: (n,) s, in order.
        rate_hz: declared.

    """
    factor = speed_of(times, rate_hz)
    if times.shape[0] < ENOUGH_S * rate_hz or not 0.05 < factor < 2:
        return rate_hz, ""
    part = times[: int(LOOKED_AT_S * rate_hz)]
    timeline = Timeline(rate_hz if abs(factor - 1) < 0.05 else rate_hz / factor)
    timeline.push(part, np.zeros((1, part.shape[0])))
    found_hz = timeline.rate_estimate_hz
    if abs(found_hz / rate_hz - 1) <= TOLERANCE:
        return rate_hz, ""
    read_hz = nominal_near(found_hz, SNAP)
    return read_hz, rate_said(rate_hz, read_hz)


def speed_of(times: Floats, rate_hz: float) -> float:
    """Return how many times too fast times run, by the median over seconds of samples."""
    count = times.shape[0]
    if count < 2:
        return 1.0
    size = max(16, round(rate_hz))
    if count < 3 * size:
        return float((times[-1] - times[0]) * rate_hz / (count - 1))
    marks = times[::size]
    return float(np.median(np.diff(marks)) * rate_hz / size)
