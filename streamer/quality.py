"""Grades the signal's quality, second by second, on the raw derivation before any filter.

Thresholds are in µV at the electrode. Those for flat (s.d. below 1 µV) and railed (more than a fifth of the
samples over 900 µV from the median) are in common use with headbands; the others are our own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cache, partial
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.asks import Ask, Work, finished
from streamer.messages import EPOCH_S, Chunk, Floats, Gap, Grade, Item, Quality
from streamer.sources.units import SUGGESTED, microvolts_per

Limits = tuple[Grade, dict[str, float], float]

FLAT_SD_UV = 1.0
RAILED_UV = 900.0
RAILED_SHARE = 0.2
MUSCLE_UV = 8.0  # r.m.s. in 25-45 Hz, where sleep EEG has 1-3 µV
HUM_UV = 20.0  # r.m.s. within 1 Hz of the mains
BIG_SD_UV = 250.0  # of one second: movement, a loose electrode
LEAST_REAL = 0.9  # share of real samples below which a window is not scored
LEAST_UV, MOST_UV = 0.2, 2000.0  # plausible median s.d. of one second; EEG has 3 to 200
GOOD = Quality("good")
CHANGED = "channel changed"  # reason given for the quality of a window that mixes two electrodes
# Share of the seconds above which a window is no longer good, or fair; and from which on it is off.
FAIR = {"flat": 0.03, "railed": 0.03, "lost": 0.0, "movement": 0.1, "muscle": 0.3, "line noise": 0.5}
POOR: Limits = "poor", {"flat": 0.1, "railed": 0.1, "lost": 0.1, "movement": 0.5}, 1e-9
OFF: Limits = "off", {"flat": 0.5, "railed": 0.5, "lost": 0.5}, -1e-9
EEG_UV = (1.0, 1000.0)  # suggest another unit only if the s.d. in that unit lies here


class Second(NamedTuple):
    """The findings for one second of raw signal."""

    real: float  # share of its samples that arrived
    sd_uv: float
    flat: bool
    railed: bool
    big: bool
    muscle: bool
    hum: bool
    fast_uv: float | None  # r.m.s. in 25-45 Hz; None if a sample is missing
    clean: bool  # none of the five findings applies


FLAGS = slice(2, 7)  # of a second: flat to hum
NAMES = "flat", "railed", "movement", "muscle", "line noise"  # of these, in messages


def is_usable(quality: Quality) -> bool:
    """Whether a window may be scored: a sensor problem must never look like a stage of sleep."""
    return quality.grade != "off" and quality.lost_fraction <= 1 - LEAST_REAL + 1e-9


def second_at(index: int, rate_hz: float) -> int:
    """The second in which sample `index` lies; second s begins with sample ceil(s * rate_hz)."""
    second = int(index / rate_hz)
    while ceil((second + 1) * rate_hz) <= index:  # the division was rounded
        second += 1
    while ceil(second * rate_hz) > index:
        second -= 1
    return second


class QualityMeter:
    """Takes (1, n) µV at the device's rate; grades any 30 s that end on a whole second."""

    def __init__(self, rate_hz: float, mains_hz: int = 50) -> None:
        self._rate_hz = rate_hz
        self._mains_hz = mains_hz
        self._size = (
            int(rate_hz) if rate_hz == int(rate_hz) else 0
        )  # samples per second; 0: not a whole number
        self.reset()

    def reset(self) -> None:
        """Start anew with a stream whose first sample has index 0."""
        self._seconds: dict[int, Second] = {}  # only seconds with a sample; `grade` removes old ones
        self._flawed: set[int] = set()  # of these, what is not clean or not whole
        self._second = 0  # the one being filled
        self._stop = ceil(self._rate_hz)  # index one past its last sample
        self._parts: list[Floats] = []

    def push(self, item: Item) -> None:
        """Take the next chunk or gap."""
        finished(self.steps(item))

    def steps(self, item: Item) -> Generator[Ask, None, None]:
        """As `push`; yield an `Ask` where the work of several streams can be done in one call."""
        if isinstance(item, Gap):
            if item.stop >= self._stop:
                yield from self._close(second_at(item.stop, self._rate_hz))
            return
        begin = yield from self._whole(item)
        while begin < item.stop:
            end = min(self._stop, item.stop)
            self._parts.append(item.samples[0, begin - item.start : end - item.start])
            if end == self._stop:
                yield from self._close(self._second + 1)
            begin = end

    def _whole(self, chunk: Chunk) -> Generator[Ask, None, int]:
        """Measure the whole seconds at the beginning of a chunk, all at once.

        Return the index of the rest.
        """
        count = (chunk.stop - chunk.start) // self._size if self._size else 0
        if count < 2 or chunk.start != self._second * self._size:
            return chunk.start
        rows = chunk.samples[0, : count * self._size].reshape(count, self._size)
        ask = Ask(_measure_of(self._size, self._mains()), rows)
        yield ask
        for second in ask.answer:
            self._keep(second)
            self._second += 1
        self._stop = ceil((self._second + 1) * self._rate_hz)
        return chunk.start + count * self._size

    def grade(self, end_s: int, span_s: int = EPOCH_S) -> Quality:
        """Grade the `span_s` seconds before second `end_s`; older seconds are forgotten."""
        kept, begin_s = self._seconds, end_s - span_s
        while kept and (oldest := next(iter(kept))) < begin_s:  # they are in order
            del kept[oldest]
            self._flawed.discard(oldest)
        if begin_s in kept and not self._flawed and span_s <= len(kept) == next(reversed(kept)) - begin_s + 1:
            return GOOD  # the usual case: all are there and clean
        seconds = [second for at_s, second in kept.items() if at_s < end_s]
        lost = 1 - sum([second.real for second in seconds]) / span_s
        return _judge(seconds, min(max(lost, 0.0), 1.0))

    def amplitude_uv(self) -> float | None:
        """Standard deviation of the last second that has samples, in µV; None before the first."""
        return self._seconds[max(self._seconds)].sd_uv if self._seconds else None

    def fast_uv(self, end_s: int) -> tuple[float | None, ...]:
        """R.m.s. in 25-45 Hz of each of the 30 s before second `end_s`, oldest first, in µV.

        None where lost.
        """
        kept, begin_s = self._seconds, end_s - EPOCH_S
        if begin_s in kept and len(kept) == EPOCH_S == next(reversed(kept)) - begin_s + 1:  # the usual case
            return tuple([second.fast_uv for second in kept.values()])
        seconds = map(self._seconds.get, range(end_s - EPOCH_S, end_s))
        return tuple([None if second is None else second.fast_uv for second in seconds])

    def _close(self, following: int) -> Generator[Ask, None, None]:
        """Measure the complete second and begin second `following`; seconds between them were lost."""
        if self._parts:
            begin = ceil(self._second * self._rate_hz)
            samples = np.concatenate(self._parts)[None]
            ask = Ask(_measure_of(self._stop - begin, self._mains()), samples)
            yield ask
            self._keep(*ask.answer)
            self._parts = []
        self._second = following
        self._stop = ceil((self._second + 1) * self._rate_hz)

    def _keep(self, second: Second) -> None:
        self._seconds[self._second] = second
        if not second.clean or second.real < 1:
            self._flawed.add(self._second)

    def _mains(self) -> int:
        """Frequency of the mains where it can be seen, else 0."""
        return self._mains_hz if self._mains_hz < self._rate_hz / 2 - 1 else 0


@cache
def _measure_of(expected: int, mains_hz: int) -> Work:
    """What measures seconds of so many samples; the same object for all streams of one kind."""
    return partial(_measured, expected, mains_hz)


def _measured(expected: int, mains_hz: int, rows: Floats) -> list[Second]:
    """Measure seconds, (n, samples); each result is the same to the bit as for a second alone."""
    count = rows.shape[1]
    # Ufuncs themselves: for one second's samples, an array's methods take as long as the sums.
    centred = rows - (np.add.reduce(rows, 1) / count)[:, None]
    sds = np.sqrt(np.add.reduce(centred * centred, 1) / count).tolist()
    spans = (np.maximum.reduce(rows, 1) - np.minimum.reduce(rows, 1)).tolist()
    fasts: Sequence[float | None] = [None] * len(sds)
    hums = [False] * len(sds)
    if count == expected:  # a spectrum across a gap would be meaningless
        taper, energy = _taper(count)
        spectrum = np.fft.rfft(centred * taper)  # bins are 1 Hz apart: a bin's number is its frequency
        fasts = _rms(spectrum[:, 25:46], count * energy)
        if mains_hz:
            mains = spectrum[:, mains_hz - 1 : mains_hz + 2]
            hums = [hum_uv > HUM_UV for hum_uv in _rms(mains, count * energy)]
    found = []
    for row, sd, span, fast_uv, hum in zip(rows, sds, spans, fasts, hums, strict=True):
        flat, railed, big = sd < FLAT_SD_UV, span > RAILED_UV and _railed(row), sd > BIG_SD_UV
        muscle = fast_uv is not None and fast_uv > MUSCLE_UV
        clean = not (flat or railed or big or muscle or hum)
        found.append(Second(count / expected, sd, flat, railed, big, muscle, hum, fast_uv, clean))
    return found


def _rms(bins: NDArray[np.complex128], scale: float) -> list[float]:
    """Root mean square of each row's bins, of which `scale` makes one-sided power in µV²."""
    power = np.add.reduce(bins.real**2 + bins.imag**2, 1)
    found: list[float] = np.sqrt(power * (2 / scale)).tolist()
    return found


@cache
def _taper(count: int) -> tuple[Floats, float]:
    """A periodic Hann window of one second, (count,), and its energy; one or two lengths per stream."""
    taper: Floats = np.hanning(count + 1)[:-1]
    return taper, float(np.sum(taper**2))


def _railed(samples: Floats) -> bool:
    """Whether too many samples lie far from the median. Slow, so first check that any can."""
    beyond = np.abs(samples - np.median(samples)) > RAILED_UV
    return float(beyond.mean()) > RAILED_SHARE


def _judge(seconds: list[Second], lost: float) -> Quality:
    """Grade a window from its seconds: the worst finding decides, all findings are named."""
    count = max(len(seconds), 1)
    bad = [second for second in seconds if not second.clean]
    if not bad and not lost:
        return GOOD
    found = [sum(flags) for flags in zip(*[second[FLAGS] for second in bad], strict=True)] or [0] * len(NAMES)
    share = {name: times / count for name, times in zip(NAMES, found, strict=True)}
    share["lost"] = lost
    reasons = tuple([name for name, limit in FAIR.items() if share[name] > limit + 1e-9])
    grade: Grade = "fair" if reasons else "good"
    for worse, limits, leeway in (POOR, OFF):
        if any(share[name] > limit + leeway for name, limit in limits.items()):
            grade = worse
    return Quality(grade, reasons, round(lost, 4))


def grade_mixed(quality: Quality, since_s: float) -> Quality:
    """Lower the quality of a window if only its last `since_s` seconds come from the present electrode."""
    if not 0 < since_s < EPOCH_S:
        return quality
    grade: Grade = "fair" if quality.grade == "good" else quality.grade
    return Quality(grade, (*quality.reasons, CHANGED), quality.lost_fraction)


class Plausibility:
    """Detects a wrong unit from the first 30 s of samples.

    With a wrong unit the network would silently give wrong stages.

    Args:
        rate_hz: sampling rate.
        label: the channel's name in the message.
        unit: in which its numbers are read; "": µV.

    """

    def __init__(self, rate_hz: float, label: str, unit: str = "") -> None:
        self._second = int(rate_hz)
        self._wanted = self._second * EPOCH_S
        self._label = label
        self._unit = unit or "uV"
        self._parts: list[Floats] | None = []
        self._count = 0

    def push(self, item: Item) -> str | None:
        """Take the next item; return a one-line warning, at most once, or None."""
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
        if typical_uv == 0 or LEAST_UV <= typical_uv <= MOST_UV:  # a flat signal is graded elsewhere
            return None
        size = "small" if typical_uv < LEAST_UV else "large"
        typical = typical_uv / microvolts_per(self._unit)
        better = [unit for unit in SUGGESTED if EEG_UV[0] <= typical * microvolts_per(unit) <= EEG_UV[1]]
        advice = f"it looks like {better[0]}: say so with unit {better[0]}" if better else "check the wiring"
        return f"channel {self._label!r} varies by {typical:.2g} {self._unit}, too {size} for EEG; {advice}"
