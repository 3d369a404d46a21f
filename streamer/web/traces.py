"""The channels shown below the staged one: EOG, EMG and others, with the display filters of a sleep lab."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.channels import Pick, choose
from streamer.errors import UsageError
from streamer.filters import design_second_order, lfilter
from streamer.host.printable import printable
from streamer.messages import EPOCH_S, Floats, Gap, Item, StreamInfo
from streamer.settings import Settings, StreamSettings
from streamer.sources.units import is_voltage, microvolts_per

# Of each 20 ms the smallest and the largest sample are kept and sent, so that no burst is missed.
BINS_HZ = 50
KEPT_S = 3 * EPOCH_S  # the 30 s that are shown, and what a fast replay reads ahead of them
LOST = -32768  # stands for a bin without a sample
STEPS = 65_000  # levels into which a trace's range is divided, in 16 bits
CLIP_UV = 1e7  # larger values are no signal, and would stay in the filters for minutes
SHOWN_UV = 5000.0  # larger values after filtering are clipped, to keep the resolution for the others

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of channel, recognised by its label, and the band in which it is shown (as AASM recommends)."""

    name: str
    pattern: re.Pattern[str]
    high_pass_hz: float | None
    low_pass_hz: float | None


def _kind(name: str, pattern: str, high_pass_hz: float | None, low_pass_hz: float | None) -> Kind:
    return Kind(name, re.compile(pattern, re.IGNORECASE), high_pass_hz, low_pass_hz)


PLAIN = _kind(
    "plain", r"resp|flow|thor|abd|chest|belt|effort|s[pa]o2|puls|pleth|temp|pos\b|position|snor", None, None
)
EEG = _kind("eeg", "", 0.3, 35.0)
KINDS: Final = (
    _kind("emg", r"emg|chin|mental|masseter|leg|tib|\b[lr]at\b", 10.0, 100.0),
    _kind("eog", r"eog|\b[lr]oc\b|\beyes?\b|^e[12]\b", 0.3, 35.0),
    _kind("ecg", r"ecg|ekg", 0.3, 70.0),
    PLAIN,
    EEG,
)


def kind_of(label: str, unit: str) -> Kind:
    """Return a channel's kind by its label; a channel that is not a voltage is shown unfiltered."""
    if not is_voltage(unit):
        return PLAIN
    return next(kind for kind in KINDS if kind.pattern.search(label))


class _Trace:
    """The last `KEPT_S` seconds of one channel, or of a difference of two.

    Raises:
        UsageError: a difference of channels that are not voltages.

    """

    def __init__(self, pick: Pick, info: StreamInfo, unit: str | None) -> None:
        sides = [pick.plus] if pick.minus is None else [pick.plus, pick.minus]
        units = [info.channels[side].unit for side in sides]
        self.label = pick.label
        self.kind = kind_of(pick.label, units[0])
        volts = pick.minus is not None or (
            is_voltage(units[0]) and (units[0] != "" or self.kind is not PLAIN)
        )
        self.unit = "µV" if volts else units[0]
        self._sides = sides
        self._factors = [
            microvolts_per(unit if unit and is_voltage(one) else one) if volts else 1.0 for one in units
        ]
        self._rate_hz = info.rate_hz
        self._stages = _filters(self.kind, info.rate_hz)
        self._low = np.full(KEPT_S * BINS_HZ, np.nan, np.float32)
        self._high = self._low.copy()
        self._end = 0  # one past the newest bin
        self._begin()

    def _begin(self) -> None:
        """Start the filters anew at the next sample."""
        self._state = np.zeros((len(self._stages), 2))
        self._offset: float | None = None  # the first finite sample
        self._last = 0.0  # the last finite sample

    def push(self, item: Item) -> None:
        """Take the next chunk or gap; a gap of hours costs no more than one of a minute."""
        if isinstance(item, Gap):
            self._begin()
            self._advance(int(item.stop * BINS_HZ / self._rate_hz))
            return
        samples = self._factors[0] * item.samples[self._sides[0]]
        if len(self._sides) > 1:
            samples = samples - self._factors[1] * item.samples[self._sides[1]]
        real = np.isfinite(samples)
        if samples.shape[0] and (self._offset is not None or real.any()):
            filtered = self._filtered(np.clip(samples, -CLIP_UV, CLIP_UV), real)
            self._keep(item.start, np.where(real, filtered, np.nan))

    def _filtered(self, samples: Floats, real: NDArray[np.bool_]) -> Floats:
        """Filter (n,) samples to the trace's band.

        Before that, samples that are not finite repeat the last one.
        """
        if self._offset is None:
            self._offset = self._last = float(samples[real.argmax()])
        place = np.maximum.accumulate(np.where(real, np.arange(samples.shape[0]), -1))
        out: Floats = np.where(place < 0, self._last, samples[place])
        self._last = float(out[-1])
        if not self._stages:
            return out
        out -= self._offset
        for number, (numerator, denominator) in enumerate(self._stages):
            out, self._state[number] = lfilter(numerator, denominator, out, self._state[number])
        return np.clip(out, -SHOWN_UV, SHOWN_UV)

    def _keep(self, start: int, samples: Floats) -> None:
        """Note the smallest and the largest sample of each bin."""
        bins = (np.arange(start, start + samples.shape[0]) * (BINS_HZ / self._rate_hz)).astype(np.int64)
        self._advance(int(bins[-1]) + 1)
        recent = bins >= self._end - self._low.shape[0]
        bins, samples = bins[recent], samples[recent].astype(np.float32)
        first = np.flatnonzero(np.diff(bins, prepend=-1))
        place = bins[first] % self._low.shape[0]
        self._low[place] = np.fmin(self._low[place], np.fmin.reduceat(samples, first))
        self._high[place] = np.fmax(self._high[place], np.fmax.reduceat(samples, first))

    def _advance(self, end: int) -> None:
        """Make room up to bin `end`."""
        fresh = np.arange(max(self._end, end - self._low.shape[0]), end) % self._low.shape[0]
        self._low[fresh] = self._high[fresh] = np.nan
        self._end = max(self._end, end)

    def window(self, end_s: int) -> Json:
        """Smallest and largest sample of each bin in the 30 s before `end_s`, as `offset + step * number`."""
        bins = np.arange((end_s - EPOCH_S) * BINS_HZ, end_s * BINS_HZ)
        known = (bins >= max(0, self._end - self._low.shape[0])) & (bins < self._end)
        both = np.where(
            known[:, None], np.stack([self._low, self._high], 1)[bins % self._low.shape[0]], np.nan
        )
        real = np.isfinite(both)
        least, most = (float(both[real].min()), float(both[real].max())) if real.any() else (0.0, 0.0)
        step, offset = max((most - least) / STEPS, 1e-6), (least + most) / 2
        numbers = np.where(real, np.rint((np.nan_to_num(both) - offset) / step), LOST).astype("<i2")
        data = base64.b64encode(numbers.tobytes()).decode("ascii")
        head: Json = {"label": self.label, "kind": self.kind.name, "unit": self.unit}
        return {**head, "step": step, "offset": offset, "data": data}


class Traces:
    """The further channels of a stream that the page shows.

    Args:
        info: the stream's rate and channels.
        names: the channels, each written like `channel` in [stream.signal].
        unit: of the voltages, if the source declares a wrong one; None: the declared unit.

    Attributes:
        complaints: one line for each name that the stream does not have.

    """

    def __init__(self, info: StreamInfo, names: Sequence[str], unit: str | None) -> None:
        self.complaints: list[str] = []
        self._traces: list[_Trace | str] = []  # a str is the name of a missing channel
        for name in names:
            try:
                pick = choose(info.channels, name, [info.rate_hz] * len(info.channels))
                self._traces.append(_Trace(pick, info, unit))
            except UsageError as error:
                left_out = any(channel.position is not None for channel in info.channels)
                why = "; channels of another rate are not replayed" if left_out else ""
                self.complaints.append(
                    f"a trace of the page is missing: {error}{why}; correct `traces` in the settings"
                )
                self._traces.append(printable(name))

    def push(self, item: Item) -> None:
        """Take the stream's next chunk or gap."""
        for trace in self._traces:
            if isinstance(trace, _Trace):
                trace.push(item)

    def window(self, end_s: int) -> list[Json]:
        """The 30 s before second `end_s` of each trace, in the order of the names."""
        return [
            {"label": trace, "missing": True} if isinstance(trace, str) else trace.window(end_s)
            for trace in self._traces
        ]


def list_traces(stream: StreamSettings, settings: Settings) -> tuple[str, ...]:
    """The names of the further channels that the page shows of a stream; none if there is no page."""
    if settings.web is None:
        return ()
    return settings.web.traces if stream.traces is None else stream.traces


NO_TRACES: Final = Traces(StreamInfo("", 1.0, (), 0.0), (), None)


def _filters(kind: Kind, rate_hz: float) -> list[tuple[Floats, Floats]]:
    """The filters of this kind at this rate, without a low-pass that is too close to half the rate."""
    out = []
    if kind.high_pass_hz is not None:
        out.append(design_second_order("high", kind.high_pass_hz, rate_hz))
    if kind.low_pass_hz is not None and kind.low_pass_hz < 0.45 * rate_hz:
        out.append(design_second_order("low", kind.low_pass_hz, rate_hz))
    return out
