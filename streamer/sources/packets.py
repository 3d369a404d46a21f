"""Turns packet numbers that wrap into sample indices and gaps, with the help of elapsed time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Floats, Item
from streamer.sources.source import cut_at_losses

AGREE_S = 0.25  # samples of so long must come at the device's own pace before time is believed
PACE = 0.85, 1.5  # times the nominal duration: faster is a radio catching up, slower is another pause
HOLD_S = 10.0  # longest that samples are held back
SLIP = 0.02  # s per s: a device may be so much slower than its nominal rate without a loss
STALL_S = 5.0  # a radio may deliver so late that the numbers show a longer loss than the time that passed
LOST = "lost before it arrived"


@dataclass(frozen=True, slots=True)
class Numbering:
    """How a device numbers its packets of `rows` samples each: 0, `step`, 2 * `step` ... below `wrap`."""

    wrap: int
    rows: int = 1
    step: int = 1

    @property
    def cycle(self) -> int:
        """Samples after which the numbers begin again."""
        return self.wrap // self.step * self.rows


class _Place(NamedTuple):
    """The position of a sample: its packet, and its place in that."""

    number: int | None = None  # of the packet; None before the first
    place: int = 0  # in the packet, from 0
    whole: bool = False  # the packet was seen from its first sample; a stream may begin within one

    def continues(self, number: int, shape: Numbering) -> bool:
        """Whether a sample of packet `number` may be the next one of this packet."""
        return number == self.number and self.place + 1 < shape.rows

    def after(self, number: int, shape: Numbering, anew: bool = False) -> tuple[int, _Place]:
        """Return the samples missing before one of packet `number`, without whole cycles, and its place.

        `anew`: the sample is known to be the first of its packet.
        """
        if self.continues(number, shape) and not anew:
            return 0, _Place(number, self.place + 1, self.whole)
        if self.number is None:
            return 0, _Place(number)
        cycle = shape.wrap // shape.step
        packets = (number - self.number) // shape.step % cycle or cycle
        rest = shape.rows - 1 - self.place if self.whole else 0
        return (packets - 1) * shape.rows + rest, _Place(number, 0, True)


class PacketCounter:
    """Numbers and times of samples -> indices and gaps. The result does not depend on how the stream is cut.

    Packet numbers give a loss exactly, but only within one cycle (a second for 8 bits at 256 Hz); time gives
    the number of whole cycles. A radio that stalls and then catches up looks like lost cycles, so samples are
    held back until they come at the device's pace. The missing cycles are then counted from the last sample
    that came on time. So dropouts in close succession are counted once, and none is missed because of a
    stall. A number that jumps further than time allows means that the device has restarted its count.
    """

    def __init__(self, rate_hz: float, numbering: Numbering) -> None:
        self._rate_hz = rate_hz
        self._numbering = numbering
        self._agree = max(2, round(AGREE_S * rate_hz))
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Start over: the next sample has the index `start`."""
        self._next = start  # index of the next sample to be given out
        self._at = _Place()  # of the last sample
        self._index = start - 1  # likewise
        self._time = 0.0  # likewise
        self._punctual = 0.0, 0  # time and index of the last sample that came on time
        self._latest: deque[tuple[float, int]] = deque(maxlen=self._agree)  # times and indices, the last ones
        self._settled = 0  # so many of the next samples have been judged already
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)  # held back, like the next two
        self._times: Floats = np.empty(0)
        self._samples: Floats | None = None

    def push(
        self, numbers: NDArray[np.int64], times: Floats, samples: Floats, arrived: float = 0.0
    ) -> list[Item]:
        """Take (n,) packet numbers, (n,) steady seconds and (channels, n) samples; return chunks and gaps."""
        if self._samples is not None:
            numbers = np.concatenate([self._numbers, numbers])
            times = np.concatenate([self._times, times])
            samples = np.concatenate([self._samples, samples], axis=1)
            self._samples = None
        return self._place_all(numbers, times, samples, arrived, ended=False)

    def flush(self, arrived: float = 0.0) -> list[Item]:
        """Return the samples that were held back, judged by the times so far."""
        held, self._samples = self._samples, None
        if held is None:
            return []
        return self._place_all(self._numbers, self._times, held, arrived, ended=True)

    def _place_all(
        self, numbers: NDArray[np.int64], times: Floats, samples: Floats, arrived: float, *, ended: bool
    ) -> list[Item]:
        losses: list[tuple[int, int]] = []
        for row, (number, time) in enumerate(zip(numbers.tolist(), times.tolist(), strict=True)):
            missing, place = self._at.after(number, self._numbering)
            lost = self._lost_before(missing, time)
            if lost is None:  # whole cycles may be missing
                cycles = self._whole_cycles(numbers[row:], times[row:], ended)
                lost = None if cycles is None else self._with_cycles(missing, cycles, number)
            if lost is None:
                self._numbers, self._times, self._samples = numbers[row:], times[row:], samples[:, row:]
                samples = samples[:, :row]
                break
            losses.append((row, lost))
            if lost:
                _, place = self._at.after(number, self._numbering, anew=True)
            self._step(place, time, lost)
        items = cut_at_losses(self._next, samples, losses, LOST, arrived)
        self._next = items[-1].stop if items else self._next
        return items

    def _step(self, place: _Place, time: float, lost: int) -> None:
        """Move on to a sample of a packet."""
        begun = self._at.number is not None
        self._at = place
        self._index += 1 + lost
        slip = SLIP * (1 + lost) / self._rate_hz if begun else 0.0
        self._settled = max(0, self._settled - 1)
        self._time = time
        self._latest.append((time, self._index))
        first = self._latest[0]
        believed = len(self._latest) == self._agree and self._keeps_pace(
            time - first[0], self._index - first[1]
        )
        if not begun or believed or self._late(time, self._index) < 0:
            self._punctual = time, self._index
        else:
            self._punctual = self._punctual[0] + slip, self._punctual[1]

    def _late(self, time: float, index: int) -> float:
        """Return by how many samples a sample came too late."""
        then, at = self._punctual
        return (time - then) * self._rate_hz - (index - at)

    def _keeps_pace(self, took_s: float, samples: int) -> bool:
        return PACE[0] * samples <= took_s * self._rate_hz <= PACE[1] * samples

    def _lost_before(self, missing: int, time: float) -> int | None:
        """Return the samples missing before the next one; None if whole cycles may be missing too.

        `missing`: how many are missing by the packet numbers alone.
        """
        if self._at.number is None:
            return 0
        by_time = (time - self._time) * self._rate_hz - 1
        if missing > by_time + STALL_S * self._rate_hz:
            return max(0, round(by_time))
        late = self._late(time, self._index + 1 + missing)
        return missing if self._settled or late <= self._numbering.cycle / 2 else None

    def _with_cycles(self, missing: int, cycles: int, number: int) -> int:
        """Return the samples missing before one of packet `number`, with whole cycles."""
        if not cycles:
            return missing
        lost = missing + cycles * self._numbering.cycle
        # It has the same number, but is the first of another packet.
        return lost - self._at.place - 1 if self._at.continues(number, self._numbering) else lost

    def _whole_cycles(self, numbers: NDArray[np.int64], times: Floats, ended: bool) -> int | None:
        """Return how many whole cycles are missing before the first of these samples; None if not sure yet.

        Once samples come at the device's pace, their time gives the cycles that are missing in all. Those
        that later pauses explain are subtracted.
        """
        limit, cycle = int(HOLD_S * self._rate_hz), self._numbering.cycle
        numbers, times = numbers[:limit], times[:limit]
        index = self._indices(numbers)
        count, agree = times.shape[0], self._agree
        took = (times[agree - 1 :] - times[: max(0, count - agree + 1)]) * self._rate_hz
        steps = index[agree - 1 :] - index[: max(0, count - agree + 1)]
        going = np.flatnonzero((took >= PACE[0] * steps) & (took <= PACE[1] * steps))
        if not going.size and count < limit and not ended:
            return None
        last = int(going[0]) + agree - 1 if going.size else count - 1
        total = max(0, round(self._late(float(times[last]), int(index[last])) / cycle))
        pauses = (np.diff(times[: last + 1]) * self._rate_hz - np.diff(index[: last + 1])) / cycle
        later = int(np.round(pauses[pauses > 0.5]).sum())
        cycles = max(0, total - later)
        if cycles == total:
            self._settled = last + 1
        return cycles

    def _indices(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (n,) indices of the samples after the last one, if no whole cycle is missing."""
        at, index, out = self._at, self._index, np.empty(numbers.shape[0], np.int64)
        for row, number in enumerate(numbers.tolist()):
            missing, at = at.after(number, self._numbering)
            index += 1 + missing
            out[row] = index
        return out
