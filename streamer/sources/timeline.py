"""Turns device times into sample indices and gaps.

Device times jitter, come twelve at once, drift against the nominal rate, and pile up when a radio stalls. So
a line is fitted through them (lateness against index). A jump above it counts as a loss only if the samples
after it agree and come at the device's pace. A small lasting step, hidden in the jitter of single samples, is
found on means over a quarter of a second.
"""

from __future__ import annotations

import numpy as np

from streamer.messages import Floats, Item
from streamer.sources.devicetime import FileChecked, HostChecked
from streamer.sources.source import cut_at_losses

BLOCK_S = 0.25  # the line is updated once per block of so many samples
MEMORY = 240  # blocks in the fit
SETTLED = 8  # blocks until a small step can be told from a bad first estimate
LEAST_S = 0.003  # the least jump: clock synchronisation itself steps by a millisecond or two
FIRST_S = 0.25  # the least jump while the jitter is not known yet
LEAST_AGREE = 24  # samples; two bursts of twelve
HOLD_S = 10.0  # longest that samples are held back
RUN = 16  # the most samples of one packet, which share one time
PACE = 0.85  # of the nominal rate at which times must go on before a jump is believed
PACES = 0.8, 1.25  # times the nominal period: a rate further off is no drift
LOST = "lost before it arrived"


class Timeline:
    """Times of samples -> indices and gaps. The result does not depend on how the stream is cut.

    Samples that may follow a loss are held back until that is sure: 24 samples if times are clean, up to a
    second if they jitter. A loss hidden in the jitter is found up to half a second late, one below 3 ms
    never. Jitter of 20 ms, packets with one time each, stalls that catch up, and drift do not count as
    losses.

    `checked` first replaces impossible times, so that no loss is longer than it allows.

    Known limit: if jitter hides several losses a minute (5 % of packets at 20 ms), some are taken for a
    slower device, and the index drifts: by seconds in 20 minutes for packets of 32 samples at 256 Hz.
    """

    def __init__(self, rate_hz: float, checked: HostChecked | FileChecked | None = None) -> None:
        self._checked = checked or FileChecked(rate_hz)
        self._rate_hz = rate_hz
        self._period = 1.0 / rate_hz
        self._block = max(16, round(BLOCK_S * rate_hz))  # samples
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Start over: the next sample has the index `start`."""
        self._checked.reset()
        self._waited_s = 0.0  # before the first sample
        self._next = start  # index of the next sample to be given out
        self._begun = False
        self._zero = 0.0  # time of index 0
        self._latest = 0.0  # time of the last sample
        self._run = 0  # samples before it with the same time
        self._packets = False  # some samples share their time
        # The line: lateness (s) at index `_at`, and by how much it grows per sample.
        self._level, self._slope, self._at = 0.0, 0.0, float(start)
        self._blocks = 0  # in the fit
        self._spread = FIRST_S / 8  # mean deviation of a sample from its block
        self._wobble = 0.0  # mean deviation of a block from the line
        self._step = False  # the last block lay above the line
        self._deviations = np.empty(self._block)
        self._indices = np.empty(self._block)
        self._filled = 0
        self._held_times: Floats = np.empty(0)
        self._held: Floats | None = None  # samples that may follow a loss
        self._arrived = 0.0

    def begin(self, waited_s: float) -> None:
        """Put index 0 `waited_s` before the first sample: that time is a loss."""
        self._waited_s = waited_s

    def reconnected(self) -> None:
        """Note that the device has reconnected; its clock may be another."""
        self._checked.reconnected()

    @property
    def rate_estimate_hz(self) -> float:
        """The device's rate by its own times; the nominal one until these are known well enough."""
        return 1.0 / self._pace if self._blocks >= SETTLED else self._rate_hz

    def push(self, times: Floats, samples: Floats, arrived: float = 0.0) -> list[Item]:
        """Take (n,) clock-synced seconds and (channels, n) samples; return chunks and gaps."""
        if times.shape[0] == 0:
            return []
        turned = self._relearn() if self._checked.turned else []
        return turned + self._push(self._checked.push(times, arrived), samples, arrived)

    def _push(self, times: Floats, samples: Floats, arrived: float) -> list[Item]:
        steps = self._steps(times)
        self._arrived = arrived
        if steps.all():
            self._run = 0
            return self._take(times, samples)
        unpacked = self._unpacked(times, steps)
        if self._packets:
            return self._take(unpacked, samples)
        first = int(np.argmin(steps != 0))  # the samples before are placed without knowing of packets
        before = self._take(unpacked[:first], samples[:, :first]) if first else []
        self._packets = True
        return [*before, *self._take(unpacked[first:], samples[:, first:])]

    def _relearn(self) -> list[Item]:
        """Forget the line of the earlier clock, and go on from the last sample; return what was held."""
        self._checked.turned = False
        held, self._held = self._held, None
        out = [] if held is None else self._place(self._held_times, held, doubtful=True, ended=True)
        self._level = self._latest + self._period - self._zero - self._next * self._period
        self._slope, self._at = 0.0, float(self._next)
        self._blocks = self._filled = self._run = 0
        self._spread, self._wobble = FIRST_S / 8, 0.0
        self._step = self._packets = False
        return out

    def _take(self, times: Floats, samples: Floats) -> list[Item]:
        """Place new samples after those held back."""
        doubtful = self._held is not None
        if self._held is not None:
            times = np.concatenate([self._held_times, times])
            samples = np.concatenate([self._held, samples], axis=1)
            self._held = None
        return self._place(times, samples, doubtful=doubtful, ended=False)

    def flush(self) -> list[Item]:
        """Return the samples that were held back, at the end of the stream."""
        self._checked.end()
        held, self._held = self._held, None
        return [] if held is None else self._place(self._held_times, held, doubtful=True, ended=True)

    def _steps(self, times: Floats) -> Floats:
        """Return the (n,) steps from sample to sample, s."""
        if not self._begun:
            self._begun = True
            begun = float(times[0]) - self._waited_s
            self._zero = begun - self._next * self._period
            self._latest = begun if self._waited_s else begun - self._period
        steps = np.diff(times, prepend=self._latest)
        self._latest = float(times[-1])
        return steps

    @property
    def _pace(self) -> float:
        """Seconds from sample to sample by the line, within the limits `PACES`."""
        return min(max(self._period + self._slope, PACES[0] * self._period), PACES[1] * self._period)

    def _unpacked(self, times: Floats, steps: Floats) -> Floats:
        """Spread the samples of a packet, which share one time, a period apart from its first.

        Then the loss of a packet shows as clearly as that of a single sample. A longer run of one time is a
        radio that catches up, and is not spread.
        """
        at = np.arange(times.shape[0])
        begins = np.maximum.accumulate(np.where(steps != 0, at, -1 - self._run))
        place = at - begins
        self._run = int(place[-1])
        return times + np.where(place < RUN, place, 0) * self._period

    def _place(self, times: Floats, samples: Floats, *, doubtful: bool, ended: bool) -> list[Item]:
        """Return the samples with their indices as far as these are sure, and hold back the rest."""
        start = self._next
        losses: list[tuple[int, int]] = []  # (samples before it, samples lost)
        at, count = 0, times.shape[0]
        while at < count:
            room = min(count - at, self._block - self._filled)
            if doubtful:
                lost, sure = self._judge(times[at:], ended)
                if sure == 0:
                    self._held_times, self._held = times[at:], samples[:, at:]
                    break
                self._next += lost
                losses.append((at, lost))
                doubtful = False
            else:
                late = np.flatnonzero(self._deviation(times[at : at + room]) > self._jump_s)
                sure = int(late[0]) if late.size else room
                doubtful = sure < room
            losses += [(at + before, lost) for before, lost in self._accept(times[at : at + sure])]
            at += sure
        return cut_at_losses(start, samples[:, :at], losses, LOST, self._arrived)

    @property
    def _agree(self) -> int:
        """Samples that must agree on a jump, so that their mean is good to half a sample."""
        needed = (4 * self._spread / self._period) ** 2
        return int(min(max(needed, LEAST_AGREE), max(LEAST_AGREE, self._rate_hz)))

    @property
    def _jump_s(self) -> float:
        """Lateness, s, above which a single sample may follow a loss."""
        # The jitter that samples of a packet share shows between blocks, not within one.
        shared = self._wobble if self._packets else 0.0
        return max(0.75 * self._period, LEAST_S, 8 * self._spread, 8 * shared)

    def _deviation(self, times: Floats) -> Floats:
        """Return how late samples from the next index on are against the line: (n,) s."""
        index = self._next + np.arange(times.shape[0])
        late: Floats = times - self._zero - index * self._period
        return late - self._level - self._slope * (index - self._at)

    def _judge(self, times: Floats, ended: bool) -> tuple[int, int]:
        """Decide whether samples were lost before these.

        Returns:
            The samples lost, and for how many of these samples that is now sure; 0: not decided yet.

        """
        limit = int(HOLD_S * self._rate_hz)
        times = times[:limit]
        deviation = self._deviation(times)
        count, agree, jump = times.shape[0], self._agree, self._jump_s
        back = np.flatnonzero(deviation <= jump / 4)
        back_at = int(back[0]) if back.size else count
        # A radio that catches up after a stall delivers faster than the device samples. Times show the true
        # position only once samples come at the device's own pace.
        pace = times[agree - 1 :] - times[: max(0, count - agree + 1)]
        going = np.flatnonzero(pace >= PACE * (agree - 1) * self._period)
        sure = int(going[0]) + agree if going.size else limit
        if back_at < min(sure, count):
            return 0, max(back_at, 1)  # it was only late
        if sure > count:
            if not ended:
                return 0, 0
            sure = count
        tail = deviation[max(0, sure - agree) : sure]
        near = tail[np.abs(tail - np.median(tail)) <= jump]
        typical = float((near if near.size else tail).mean())  # none is near when half of them came later
        lost = typical / self._period
        # The drift so far is assumed to go on over the gap, if it is known well enough.
        rough = 4 * self._wobble / (self._block * max(1, self._blocks) ** 1.5)  # s per sample
        if self._blocks >= SETTLED and rough * lost < self._period / 2:
            lost = typical / self._pace
        return self._bounded(round(lost), times[sure - 1]), sure

    def _bounded(self, lost: int, time: float) -> int:
        """Limit a loss before `time` to what can have been lost by then, whatever the line says."""
        most = (time - self._zero + FIRST_S) / (PACES[0] * self._period) - self._next
        return min(lost, max(0, round(most)))

    def _accept(self, times: Floats) -> list[tuple[int, int]]:
        """Count samples that follow each other, and update the line with their times.

        Returns:
            For each loss found on the way: the samples before it, and the samples lost.

        """
        losses = []
        at = 0
        while at < times.shape[0]:
            part = slice(at, min(times.shape[0], at + self._block - self._filled))
            size = part.stop - at
            place = slice(self._filled, self._filled + size)
            most = 2 * self._jump_s
            self._deviations[place] = np.clip(self._deviation(times[part]), -most, most)
            self._indices[place] = self._next + np.arange(size)
            self._next += size
            self._filled += size
            at = part.stop
            if self._filled == self._block:
                self._filled = 0
                lost = self._learn(float(self._deviations.mean()), float(times[at - 1]))
                self._next += lost
                losses.append((at, lost))
        return losses

    def _learn(self, above: float, time: float) -> int:
        """Update the line with a full block; return the samples lost, if it is the second of a lasting step.

        Args:
            above: how late the block is against the line, s.
            time: of the block's last sample, s.

        """
        least = max(self._period, LEAST_S, 8 * self._wobble)
        stalled = np.mean(self._deviations >= 2 * self._jump_s) > 0.25
        if self._blocks >= SETTLED and abs(above) > least and not stalled:
            lasting, self._step = self._step, not self._step
            if lasting and above < 0:  # the clock was set back: no loss, and no drift
                self._level += above
            lost = round(above / self._period) if lasting and above > 0 else 0
            return self._bounded(lost, time)
        self._step = False
        remembered = min(self._blocks, MEMORY)
        gain = 1.0 / (min(self._blocks, MEMORY // 6) + 1)
        off = float(np.abs(self._deviations - above).mean())
        self._spread += (off - self._spread) * gain
        if self._blocks >= 2:  # two blocks always lie on a line
            self._wobble += (abs(above) - self._wobble) / (min(self._blocks - 2, MEMORY // 6) + 1)
        # Least squares, one point at a time; after MEMORY blocks it forgets at a constant rate.
        share = (remembered + 1) * (remembered + 2)
        centre = float(self._indices.mean())
        self._level += self._slope * (centre - self._at) + above * 2 * (2 * remembered + 1) / share
        if self._blocks:
            self._slope += above * 6 / share / (centre - self._at)
        self._at = centre
        self._blocks += 1
        return 0
