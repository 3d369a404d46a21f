"""Resamples any rate from 50 to 1024 Hz to 100 Hz, as a stream with a short, fixed delay.

A linear-phase polyphase FIR (scipy's `upfirdn`, Kaiser window as in `scipy.signal.resample_poly`). soxr's
streaming mode would be the usual choice, but lags 2.4 to 14.6 s at EEG rates; this one lags `delay_s`, at
most 0.1 s for rates of 100 Hz and above. Output k always belongs to the time k / 100 s of the input's clock:
it only comes later.
"""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from functools import cache
from math import ceil

import numpy as np

from streamer.asks import Ask, finished
from streamer.errors import SignalError
from streamer.filters import Resample, design_low_pass, polyphase
from streamer.messages import RATE_HZ, Floats

HALF_LENGTH = 10  # zero crossings on each side, counted at the slower of the two rates
KAISER_BETA = 5.0
LOWEST_HZ, HIGHEST_HZ = 50.0, 1024.0


def find_ratio(rate_hz: float) -> Fraction:
    """Return 100 Hz / rate as a fraction with a small denominator.

    Raises:
        SignalError: the rate is outside 50 to 1024 Hz.

    """
    if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
        raise SignalError(
            f"sampling rate {rate_hz:g} Hz is outside {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz; "
            "choose another channel or resample the recording"
        )
    return RATE_HZ / Fraction(rate_hz).limit_denominator(1000)  # wrong by at most 0.3 ms a night


def grid_index(index: int, rate_hz: float) -> int:
    """The first 100 Hz index at or after sample `index` of a stream at `rate_hz`; exact."""
    return ceil(index * find_ratio(rate_hz))


def ready_index(end: int, found: Fraction) -> int:
    """100 Hz index one past the last output that can be computed from the input before index `end`.

    `found` is the result of `find_ratio` for the input's rate.
    """
    slower = max(found.numerator, found.denominator)
    if slower == 1:
        return end
    # Output k sits at k * down on the common clock and reaches half a filter to either side of it.
    return ((end - 1) * found.numerator - HALF_LENGTH * slower) // found.denominator + 1


def needed_index(ready: int, found: Fraction) -> int:
    """The smallest `end` of the input for which `ready_index` is at least `ready`."""
    slower = max(found.numerator, found.denominator)
    if slower == 1:
        return ready
    reach = (ready - 1) * found.denominator + HALF_LENGTH * slower
    return 1 - -reach // found.numerator  # the quotient rounded up, without a Fraction: asked every second


def _taps(half: int, slower: int, up: int) -> Floats:
    """The low-pass at the common rate, scaled so that every polyphase arm passes a constant exactly.

    Without that scaling an electrode's offset of some mV would cause a ripple inside the band.
    """
    taps = design_low_pass(2 * half + 1, 1 / slower, KAISER_BETA)
    for arm in range(up):
        taps[arm::up] /= taps[arm::up].sum()
    return taps


@cache
def _bank(found: Fraction) -> tuple[Resample, int]:
    """For all streams of one rate: the filter, and its outputs before those of the buffer's first sample."""
    up, down = found.numerator, found.denominator
    slower = max(up, down)
    half = HALF_LENGTH * slower
    taps = np.ones(1) if slower == 1 else _taps(half, slower, up)
    shift = -half % down  # zeros in front, so that no output's centre falls between two
    return polyphase(np.concatenate([np.zeros(shift), taps]), up, down), (half + shift) // down


class Resampler:
    """One channel, any rate in, 100 Hz out; the output does not depend on how the input is cut.

    Before the first sample the signal is taken to have the first sample's value, and after the last one (at
    `flush`) the last one's. So the edges do not ring.
    """

    def __init__(self, rate_hz: float) -> None:
        self._ratio = find_ratio(rate_hz)
        self.up, self.down = self._ratio.numerator, self._ratio.denominator
        slower = max(self.up, self.down)
        self._identity = slower == 1
        self._half = HALF_LENGTH * slower  # half the filter's length at the common rate `rate * up`
        self._filter, self._skip = _bank(self._ratio)
        self.delay_s = 0.0 if self._identity else self._half / (self.up * rate_hz)
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Forget everything; the next input sample has index `start`."""
        self._buffer: Floats = np.empty(0)
        self._begin = start  # input index of _buffer[0]; after the first push a multiple of `down`
        self._next = ceil(start * Fraction(self.up, self.down))  # 100 Hz index of the next output
        self._empty = True

    @property
    def next_index(self) -> int:
        """100 Hz index of the next output sample."""
        return self._next

    def push(self, samples: Floats) -> Floats:
        """Take (n,) samples; return the (m,) samples that are complete."""
        return finished(self.steps(samples))

    def steps(self, samples: Floats) -> Generator[Ask, None, Floats]:
        """As `push`; yield an `Ask` where the work of several streams can be done in one call."""
        if samples.shape[0] == 0:
            return np.empty(0)
        if self._identity:
            self._next += samples.shape[0]
            self._last = float(samples[-1])
            self._empty = False
            return samples
        if self._empty:
            self._hold_first(float(samples[0]))
        self._buffer = np.concatenate([self._buffer, samples])
        self._last = float(samples[-1])
        return (yield from self._drain(self._begin + self._buffer.shape[0]))

    def flush(self) -> Floats:
        """Return the samples still held back, up to the last input sample; then start anew."""
        if self._empty or self._identity:
            return np.empty(0)
        end = self._begin + self._buffer.shape[0]
        tail = ceil(self._half / self.up) + 1
        self._buffer = np.concatenate([self._buffer, np.full(tail, self._last)])
        stop = ceil(end * Fraction(self.up, self.down))  # outputs at times before the end of the last sample
        out = finished(self._drain(end + tail, stop))
        self.reset(end)
        return out

    def _hold_first(self, value: float) -> None:
        """Put copies of the first sample in front, as many as the filter reaches back."""
        reach = ceil(self._half / self.up) + 1
        begin = (self._begin - reach) // self.down * self.down  # keeps the polyphase arms in step
        self._buffer = np.full(self._begin - begin, value)
        self._begin = begin
        self._empty = False

    def _drain(self, end: int, stop: int | None = None) -> Generator[Ask, None, Floats]:
        """Return every output that needs no input at or after index `end`."""
        ready = ready_index(end, self._ratio) if stop is None else min(ready_index(end, self._ratio), stop)
        if ready <= self._next:
            return np.empty(0)
        ask = Ask(self._filter, self._buffer[None])
        yield ask
        filtered: Floats = ask.answer[0]
        first = (self._begin * self.up) // self.down - self._skip  # whole: _begin is a multiple of `down`
        out: Floats = filtered[self._next - first : ready - first].copy()
        self._next = ready
        self._forget()
        return out

    def _forget(self) -> None:
        """Drop input samples that no later output needs."""
        oldest = (self._next * self.down - self._half) // self.up - 1
        cut = (oldest // self.down * self.down) - self._begin
        if cut > 0:
            self._buffer = self._buffer[cut:]
            self._begin += cut
