"""Packet numbers that wrap, crossed with elapsed time, to sample indices and gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Chunk, Floats, Gap, Item

AGREE_S = 0.25  # of samples that must come at the device's own pace before time is believed
PACE = 0.85, 1.5  # times the nominal duration: faster is catching up, slower is another pause
HOLD_S = 10.0  # longest that doubtful samples are held back
STALL_S = 5.0  # a radio may deliver so late that a loss seems longer than the time it took
LOST = "lost before it arrived"


@dataclass(frozen=True, slots=True)
class Numbering:
    """How a device numbers its packets: 0, `step`, 2 * `step` ... below `wrap`, each of `rows` samples."""

    wrap: int
    rows: int = 1
    step: int = 1

    @property
    def cycle(self) -> int:
        """Samples after which the numbers begin again."""
        return self.wrap // self.step * self.rows


class PacketCounter:
    """Numbers and times of samples -> indices and gaps. The result does not depend on how the stream is cut.

    The number tells a loss to the sample, but only within one cycle (a second for 8 bits at 256 Hz); time
    tells how many cycles went by. A radio that stalls and then catches up looks like whole cycles lost, so
    samples are held back until they come at the device's pace. A number that jumps further than time can
    explain means that the device counts anew.
    """

    def __init__(self, rate_hz: float, numbering: Numbering) -> None:
        self._rate_hz = rate_hz
        self._numbering = numbering
        self._agree = max(2, round(AGREE_S * rate_hz))
        self.reset()

    def reset(self) -> None:
        """Start anew: the next sample has index 0."""
        self._next = 0  # index of the next sample to leave
        self._number: int | None = None  # of the current packet
        self._place = 0  # of the last sample within its packet, counted from 0
        self._whole = False  # the current packet was seen from its beginning
        self._time = 0.0  # of the last sample
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)  # held back, like the next two
        self._times: Floats = np.empty(0)
        self._samples: Floats | None = None

    def push(
        self, numbers: NDArray[np.int64], times: Floats, samples: Floats, arrived: float = 0.0
    ) -> list[Item]:
        """Take (n,) packet numbers, (n,) steady seconds and (channels, n) samples; give chunks and gaps."""
        if self._samples is not None:
            numbers = np.concatenate([self._numbers, numbers])
            times = np.concatenate([self._times, times])
            samples = np.concatenate([self._samples, samples], axis=1)
            self._samples = None
        return self._place_all(numbers, times, samples, arrived, ended=False)

    def flush(self, arrived: float = 0.0) -> list[Item]:
        """Give out what was held back, believing its times as they are."""
        held, self._samples = self._samples, None
        if held is None:
            return []
        return self._place_all(self._numbers, self._times, held, arrived, ended=True)

    def _place_all(
        self, numbers: NDArray[np.int64], times: Floats, samples: Floats, arrived: float, *, ended: bool
    ) -> list[Item]:
        out: list[Item] = []
        begun = 0
        for row in range(numbers.shape[0]):
            lost = self._lost_before(int(numbers[row]), times[row:], ended)
            if lost is None:
                self._numbers, self._times, self._samples = numbers[row:], times[row:], samples[:, row:]
                samples = samples[:, :row]
                break
            if lost > 0:
                out += self._leave(samples[:, begun:row], arrived)
                out.append(Gap(self._next, self._next + lost, LOST, arrived))
                self._next += lost
                begun = row
            self._step(int(numbers[row]), float(times[row]), lost)
        return out + self._leave(samples[:, begun:], arrived)

    def _leave(self, samples: Floats, arrived: float) -> list[Item]:
        if samples.shape[1] == 0:
            return []
        chunk = Chunk(self._next, samples, arrived)
        self._next = chunk.stop
        return [chunk]

    def _step(self, number: int, time: float, lost: int) -> None:
        """Move on to a sample of packet `number`."""
        if self._continues(number) and not lost:
            self._place += 1
        else:
            self._whole = self._number is not None  # a stream may begin within a packet
            self._number, self._place = number, 0
        self._time = time

    def _continues(self, number: int) -> bool:
        return number == self._number and self._place + 1 < self._numbering.rows

    def _lost_before(self, number: int, times: Floats, ended: bool) -> int | None:
        """Samples missing before one of packet `number` at `times[0]`; None while that is not sure."""
        if self._number is None:
            return 0
        goes_on = self._continues(number)
        missing = 0 if goes_on else self._missing(number)
        by_time = (float(times[0]) - self._time) * self._rate_hz - 1
        if missing > by_time + STALL_S * self._rate_hz:
            return max(0, round(by_time))
        if by_time - missing <= self._numbering.cycle / 2:
            return missing
        lost = self._whole_cycles(missing, times, ended)
        return lost - self._place - 1 if lost and goes_on else lost  # the same number, but from the top

    def _missing(self, number: int) -> int:
        """Samples between the last one and packet `number`, short of whole cycles."""
        assert self._number is not None
        shape = self._numbering
        packets = (number - self._number) // shape.step % (
            shape.wrap // shape.step
        ) or shape.wrap // shape.step
        rest = shape.rows - 1 - self._place if self._whole else 0
        return (packets - 1) * shape.rows + rest

    def _whole_cycles(self, missing: int, times: Floats, ended: bool) -> int | None:
        """Decide how often the numbers went round, once time goes on at the device's pace."""
        limit = int(HOLD_S * self._rate_hz)
        times = times[:limit]
        count, agree = times.shape[0], self._agree
        took = times[agree - 1 :] - times[: max(0, count - agree + 1)]
        pace = took * self._rate_hz / (agree - 1)
        going = np.flatnonzero((pace >= PACE[0]) & (pace <= PACE[1]))
        if not going.size and count < limit and not ended:
            return None
        last = int(going[0]) + agree - 1 if going.size else count - 1
        late = (float(times[last]) - self._time) * self._rate_hz - 1 - last
        return missing + max(0, round((late - missing) / self._numbering.cycle)) * self._numbering.cycle
