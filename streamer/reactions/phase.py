"""Predicts the next up-state of slow waves (0.5-2 Hz) from past samples alone.

The conditioned signal is averaged to 20 Hz and continued by an autoregression fitted to its last 6 s. The
last 2 s and the prediction are filtered to 0.5-2 Hz with zero phase, which gives the phase at any time near
the present. The phase shift of the conditioner's high-pass is undone. `python -m tests.reactions.phase`
measures the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, pi

import numpy as np
from numpy.typing import NDArray

from streamer.conditioner import Conditioner
from streamer.fallback import make_derivation
from streamer.filters import BUTTERWORTH
from streamer.messages import RATE_HZ, Chunk, Floats, Gap, Item, StreamInfo, Switch
from streamer.reactions.settings import PhaseSettings
from streamer.settings import SignalSettings

MEAN_OF = 5  # samples at 100 Hz that are averaged to one
STEP_S = MEAN_OF / RATE_HZ  # between two predictions
ORDER = 8  # of the autoregression
FIT, PAST, AHEAD, EDGE = 120, 40, 20, 40  # samples at 20 Hz: 6 s, 2 s, 1 s, 2 s
RIDGE = 1e-2  # regularisation, which keeps the autoregression stable
ACT_S = 0.05  # time to write the firing to disk before it is due
NEAR = 0.8  # rad: a prediction that jumps over the target by less has passed it
WAVE_HZ = 0.4, 2.2  # frequencies outside are not slow waves

Complexes = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Due:
    """A predicted target phase.

    Attributes:
        at: its 100 Hz index in the stream, with a fraction.
        hz: frequency of the slow wave there.
        uv: amplitude of the slow wave there (half of peak to peak), µV.

    """

    at: float
    hz: float
    uv: float


def _gains(count: int) -> Complexes:
    """Return gains on the FFT of `count` samples at 20 Hz that give the analytic signal in 0.5-2 Hz.

    They are a zero-phase Butterworth band-pass of second order, and undo the conditioner's phase shift.
    """
    hz = np.fft.fftfreq(count, STEP_S)
    band = np.zeros(count)
    up = hz > 0
    band[up] = 2 / (1 + ((hz[up] ** 2 - 1.0) / (1.5 * hz[up])) ** 4)
    z = np.exp(-2j * pi * hz / RATE_HZ)
    shift = np.ones(count, dtype=np.complex128)
    for section in BUTTERWORTH:
        above, below = section[:3], section[3:]
        shift *= (above[0] + above[1] * z + above[2] * z**2) / (below[0] + below[1] * z + below[2] * z**2)
    shift[~up] = 1.0
    gains: Complexes = band * np.exp(-1j * np.angle(shift))
    return gains


_GAINS = _gains(PAST + AHEAD + 2 * EDGE)


def analytic(samples: Floats) -> Complexes:
    """Compute the analytic signal of slow waves, from 2 s before to 1 s after the end.

    Args:
        samples: (120,) µV at 20 Hz, the last 6 s.

    Returns:
        (60,) complex µV at 20 Hz; of them 40 are past, and 20 predicted.

    """
    centred = samples - samples.mean()
    lagged = np.lib.stride_tricks.sliding_window_view(centred[:-1], ORDER)[:, ::-1]
    gram = lagged.T @ lagged
    gram[np.diag_indices(ORDER)] += RIDGE * np.trace(gram) / ORDER + 1e-12
    weights = np.linalg.solve(gram, lagged.T @ centred[ORDER:])
    whole = np.empty(PAST + AHEAD)
    whole[:PAST] = centred[-PAST:]
    for at in range(PAST, PAST + AHEAD):
        whole[at] = weights @ whole[at - ORDER : at][::-1]
    before = 2 * whole[0] - whole[EDGE:0:-1]
    after = 2 * whole[-1] - whole[-2 : -EDGE - 2 : -1]
    padded = np.concatenate([before, whole, after])
    wave: Complexes = np.fft.ifft(np.fft.fft(padded) * _GAINS)
    return wave[EDGE : EDGE + PAST + AHEAD]


class UpStates:
    """Turns device samples into predicted target phases. Causal, and without a clock.

    Args:
        info: the stream's rate and channels.
        signal: which channel is staged; its phase is predicted.
        settings: the `[stream.trigger.phase]` table.

    Raises:
        UsageError, SignalError: as for the pipeline.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, settings: PhaseSettings) -> None:
        self._derivation = make_derivation(info, signal)
        self._conditioner = Conditioner(info.rate_hz, signal.bridge_s)
        self._settings = settings
        self._target = settings.target_deg * pi / 180
        self.lead_s = self._conditioner.delay_s + ACT_S + settings.lead_ms / 1000
        self._begun = False
        self._rest: Floats = np.empty(0)  # at 100 Hz, short of a step
        self._steps: Floats = np.full(2 * FIT, np.nan)  # at 20 Hz, the last FIT of them are valid
        self._count = 0  # of valid ones
        self._ahead: float | None = None  # rad from the last step's phase to the target; None: no slow wave
        self._last = -inf  # 100 Hz index of the last phase returned

    def push(self, item: Item, wanted: bool = True) -> list[Due]:
        """Take the next item; return the phases due after it, none unless `wanted`."""
        if not self._begun and item.start:
            self._take(Gap(0, item.start, ""), False)
        self._begun = True
        return self._take(item, wanted)

    def _take(self, item: Item, wanted: bool) -> list[Due]:
        out: list[Due] = []
        for derived in self._derivation.push(item):
            if isinstance(derived, Switch):
                self._forget()
                self._conditioner.restart()
                continue
            for conditioned in self._conditioner.push(replace(derived)):
                if isinstance(conditioned, Gap):
                    self._forget()
                else:
                    out += [due for due in self._stepped(conditioned, wanted) if due is not None]
        return out

    def _forget(self) -> None:
        self._count, self._rest, self._ahead = 0, np.empty(0), None

    def _stepped(self, chunk: Chunk, wanted: bool) -> Iterator[Due | None]:
        samples = np.concatenate([self._rest, chunk.samples[0]])
        begin = chunk.stop - samples.shape[0]
        whole = samples.shape[0] // MEAN_OF
        means = samples[: whole * MEAN_OF].reshape(whole, MEAN_OF).mean(axis=1)
        self._rest = samples[whole * MEAN_OF :]
        for number, mean in enumerate(means.tolist(), 1):
            self._steps[:-1] = self._steps[1:]
            self._steps[-1] = mean
            self._count = min(self._count + 1, FIT)
            if wanted and self._count == FIT:
                yield self._due(begin + number * MEAN_OF)

    def _due(self, end: int) -> Due | None:
        """Return the target phase, if it comes within one step after the least lead from 100 Hz index `end`.

        The prediction changes from step to step. If it jumps over the target, the target counts as now.
        """
        wave = analytic(self._steps[-FIT:])
        # The last mean belongs to the middle of its samples; the last of these is the present.
        place = PAST - 1 + (MEAN_OF - 1) / 2 / MEAN_OF + self.lead_s / STEP_S
        first = int(place)
        if first + 1 >= wave.shape[0]:
            return None
        turn = float(np.angle(wave[first + 1] * np.conj(wave[first])))  # rad per step
        hz = turn / STEP_S / (2 * pi)
        phase = float(np.angle(wave[first])) + turn * (place - first)
        uv = float(abs(wave[first]))
        before, self._ahead = self._ahead, None
        if not WAVE_HZ[0] <= hz <= WAVE_HZ[1] or not self._settings.min_uv <= uv <= self._settings.max_uv:
            return None
        ahead = (self._target - phase + pi) % (2 * pi) - pi  # rad until the target; negative: it has passed
        self._ahead = ahead
        passed = before is not None and 0 < before < NEAR and -NEAR < ahead < 0
        if not passed and not 0 <= ahead < turn:
            return None
        at = end - 1 + (self.lead_s + max(0.0, ahead) / (2 * pi * hz)) * RATE_HZ
        if at - self._last < RATE_HZ / hz / 2:  # in the same wave
            return None
        self._last = at
        return Due(at, hz, uv)
