"""Undoes excursions of a recorded clock: it leaps, and is soon again where it was, so nothing was lost.

If the leap were believed, it would be a loss, and all samples after it would be too late. Readers of tables,
XDF and EDF+ share this.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Floats

LEAST_S, LEAST_PERIODS = 0.03, 3  # a smaller step is jitter
BACK_S = 1.0  # likewise of a step back that comes first: a late packet is followed by one that is on time
WITHIN_S, WITHIN = 60.0, 10  # a clock must be back after so long, or so many samples if these take longer
DRIFT = 5e-4  # s per s by which the period may be off
MOST = 1000  # returns that are examined at once; a clock with more of them is of no use


class Excursions:
    """Undoes the excursions in the times of one recording. The result does not depend on how these are cut.

    The samples of an excursion are placed by their number. A single sample is a damaged time and is left
    alone, unless `single`.

    Args:
        period_s: from sample to sample, in the unit of the times.
        least_s: smaller leaps are ignored; None: the usual limit.
        back_s: likewise for excursions that begin with a step back.
        single: an excursion may be of one sample.

    """

    def __init__(
        self, period_s: float, least_s: float | None = None, back_s: float = BACK_S, single: bool = False
    ) -> None:
        self._period = period_s
        self._least = max(LEAST_S, LEAST_PERIODS * period_s) if least_s is None else least_s
        self._back = max(back_s, self._least)
        self._shortest = 1 if single else 2
        self._within = max(WITHIN, round(WITHIN_S / period_s))
        self._count = 0
        self._longest_s = 0.0

    def undo(self, times: Floats, places: NDArray[np.int64] | None = None) -> Floats:
        """Return the times without excursions.

        Args:
            times: (n,) finite.
            places: (n,) number of each sample; None: they follow each other.

        """
        places = np.arange(times.shape[0]) if places is None else places
        for sign, least in ((1.0, self._least), (-1.0, self._back)):
            times = self._undo(times, places, sign, least)
        return times

    def first_open(self, times: Floats) -> int:
        """Return the first of these samples that may belong to an excursion that is not over.

        `times` are (n,), without excursions that are over.
        """
        begin = max(0, times.shape[0] - self._within - 1)
        ahead = np.diff(times[begin:]) - self._period
        leaps = np.flatnonzero((ahead > self._least) | (ahead < -self._back))
        return begin + int(leaps[0]) if leaps.size else int(times.shape[0])

    def remarks(self) -> list[str]:
        """Return one remark on the excursions so far, or none."""
        if not self._count:
            return []
        return [
            f"its times leap by up to {self._longest_s:.2f} s and back again in {self._count} places; there "
            "samples are read as if nothing was lost"
        ]

    def _undo(self, times: Floats, places: NDArray[np.int64], sign: float, least: float) -> Floats:
        ahead = sign * (np.diff(times) - np.diff(places) * self._period)
        out = times
        for back in np.flatnonzero(ahead < -least)[:MOST].tolist():
            first = max(0, back - self._within)
            leaps = first + np.flatnonzero(ahead[first : back + 1 - self._shortest] > least)
            expected = times[leaps] + (places[back + 1] - places[leaps]) * self._period
            allowed = self._least / 2 + DRIFT * np.abs(expected - times[leaps])
            fitting = leaps[np.abs(times[back + 1] - expected) <= allowed]
            if not fitting.size:
                continue
            start = int(fitting[-1])
            out = times.copy() if out is times else out
            since = places[start + 1 : back + 1] - places[start]
            out[start + 1 : back + 1] = out[start] + self._period * since
            self._count += 1
            self._longest_s = max(self._longest_s, float(ahead[start]))
        return out
