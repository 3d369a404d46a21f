"""Checks the times of an XDF stream: their scale, their leaps and their rate."""

from __future__ import annotations

import numpy as np

from streamer.messages import Floats
from streamer.sources.devicetime import scale_named, scale_of
from streamer.sources.pace import SNAP, TOLERANCE, nominal_near, rate_said
from streamer.sources.timeline import Timeline

ENOUGH_S = 60.0  # with fewer s of samples the declared rate is used, not that of the times
EXCURSION_S, EXCURSION_PERIODS = 0.03, 3  # a leap, at least
EXCURSIONS = 1000  # looked at; a file with more of them has no clock
LOOKED_AT_S = 600.0  # of samples: a device's rate does not change


def seconds(times: Floats, rate_hz: float) -> tuple[Floats, str]:
    """Convert times to seconds, whatever their scale; also return a remark on it, or "".

    A known scale (ms, µs, sample numbers) is undone, so that losses keep their length. Unusable times are
    replaced by those of the declared rate.

    Args:
        times: (n,) as in the file, finite.
        rate_hz: declared.

    """
    factor = _factor(times, rate_hz)
    named = scale_named(factor, rate_hz)
    if not named:
        return times, ""
    scale = scale_of(factor, rate_hz)
    if scale is None:
        placed: Floats = np.arange(times.shape[0]) / rate_hz
        return placed, f"its times {named}, and are not believed: samples are placed at {rate_hz:g} Hz"
    return times / scale, f"its times {named}; they are divided by that"


def without_excursions(times: Floats, rate_hz: float) -> tuple[Floats, str]:
    """Times without those of a clock that leaps ahead and is soon again where it was; and a remark, or "".

    Believed, the leap would be a loss, and all that follows would lie too late. The samples between are
    placed by their number. A single time is left alone: that is a damaged sample.

    Args:
        times: (n,) s, finite.
        rate_hz: of the samples.

    """
    period, leap_s = 1 / rate_hz, max(EXCURSION_S, EXCURSION_PERIODS / rate_hz)
    ahead = np.diff(times) - period
    out, count, longest_s = times, 0, 0.0
    most = round(ENOUGH_S * rate_hz)
    for back in np.flatnonzero(ahead < -leap_s)[:EXCURSIONS].tolist():
        first = max(0, back - most)
        leaps = first + np.flatnonzero(ahead[first:back] > leap_s)
        expected = times[leaps] + (back + 1 - leaps) * period
        fitting = leaps[(np.abs(times[back + 1] - expected) <= leap_s / 2) & (leaps < back - 1)]
        if not fitting.size:
            continue
        start = int(fitting[-1])
        out = times.copy() if out is times else out
        out[start + 1 : back + 1] = out[start] + period * np.arange(1, back - start + 1)
        count, longest_s = count + 1, max(longest_s, float(ahead[start]))
    if not count:
        return times, ""
    return out, (
        f"its times leap ahead by up to {longest_s:.2f} s and back again in {count} places; there samples "
        "are read as if nothing was lost"
    )


def true_rate(times: Floats, rate_hz: float) -> tuple[float, str]:
    """Return the rate to read at: that of the times if it differs from the declared one; and a remark, or "".

    Args:
        times: (n,) s, in order.
        rate_hz: declared.

    """
    factor = _factor(times, rate_hz)
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


def _factor(times: Floats, rate_hz: float) -> float:
    """Return how many times too fast times run, by the median over seconds of samples."""
    count = times.shape[0]
    if count < 2:
        return 1.0
    size = max(16, round(rate_hz))
    if count < 3 * size:
        return float((times[-1] - times[0]) * rate_hz / (count - 1))
    marks = times[::size]
    return float(np.median(np.diff(marks)) * rate_hz / size)
