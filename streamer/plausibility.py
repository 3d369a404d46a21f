"""Does the signal look like EEG in µV? Wrong scaling gives wrong stages, silently, so it is checked."""

from __future__ import annotations

import numpy as np

from streamer.messages import EPOCH_S, Floats, Gap, Item
from streamer.sources.units import SUGGESTED, microvolts_per

LEAST_UV, MOST_UV = 0.2, 2000.0  # typical s.d. of one second; EEG has 3 to 200
EEG_UV = (1.0, 1000.0)  # where another unit would have to put it to be worth suggesting


class Plausibility:
    """Looks at the first 30 s of real samples, then never again.

    Args:
        rate_hz: of the samples.
        label: of the channel.
        unit: that its numbers are taken for; "": µV, since nothing is said.

    """

    def __init__(self, rate_hz: float, label: str, unit: str = "") -> None:
        self._second = int(rate_hz)
        self._wanted = self._second * EPOCH_S
        self._label = label
        self._unit = unit or "uV"
        self._parts: list[Floats] | None = []
        self._count = 0

    def push(self, item: Item) -> str | None:
        """Take the next item; return a complaint, once, in one line, or None."""
        if self._parts is None or isinstance(item, Gap):
            return None
        samples = item.samples[0, : self._wanted - self._count]
        self._parts.append(samples)
        self._count += samples.shape[0]
        if self._count < self._wanted:
            return None
        seconds = np.concatenate(self._parts).reshape(EPOCH_S, self._second)
        self._parts = None
        return self._judge(float(np.median(seconds.std(axis=1))))

    def _judge(self, typical_uv: float) -> str | None:
        if typical_uv == 0 or LEAST_UV <= typical_uv <= MOST_UV:  # flat is quality's business, not a unit's
            return None
        size = "small" if typical_uv < LEAST_UV else "large"
        typical = typical_uv / microvolts_per(self._unit)
        better = [unit for unit in SUGGESTED if EEG_UV[0] <= typical * microvolts_per(unit) <= EEG_UV[1]]
        advice = f"it looks like {better[0]}: say so with unit {better[0]}" if better else "check the wiring"
        return f"channel {self._label!r} varies by {typical:.2g} {self._unit}, too {size} for EEG; {advice}"
