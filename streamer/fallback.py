"""Stages one of several electrodes, and changes to the next best when that one fails for long.

Every second each electrode is graded by its last 10 s. As soon as one is usable, the best is staged; of
equals, the one named first. A later change has a cost: the filters restart, and one window mixes two
electrodes. So the engine changes only if the present electrode has been `off` for 30 s, or `off` or `poor`
for 120 s, and another has been `fair` or `good` for all of that time. It does not change back when the first
recovers, as long as the present one is usable. So two electrodes that fail in turn cannot make it flap:
changes are at least 30 s apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from streamer.channels import Pick, choose_all
from streamer.derivation import Derivation
from streamer.messages import Chunk, Gap, Grade, Item, Quality, StreamInfo, Switch
from streamer.quality import QualityMeter, second_at
from streamer.settings import SignalSettings

SPAN_S = 10  # an electrode is graded by its last 10 s
OFF_S = 30  # change after the present electrode was off for this long
POOR_S = 120  # change after it was poor or off for this long
RANK: dict[Grade, int] = {"off": 0, "poor": 1, "fair": 2, "good": 3}
USABLE = RANK["fair"]


def make_derivation(info: StreamInfo, signal: SignalSettings) -> Derivation | Fallback:
    """Make the stage that derives the signal to stage from all channels of the stream.

    Raises:
        UsageError: a channel does not exist, is not a voltage, or is named twice.

    """
    picks = choose_all(info.channels, signal.channel, [info.rate_hz] * len(info.channels))
    return (
        Fallback(picks, info, signal) if len(picks) > 1 else Derivation(picks[0], info.channels, signal.unit)
    )


class _Candidate:
    """One electrode, or the difference of two, and its quality."""

    def __init__(self, pick: Pick, info: StreamInfo, signal: SignalSettings) -> None:
        self.label = pick.label
        self._derivation = Derivation(pick, info.channels, signal.unit)
        self.unit = self._derivation.unit
        self._meter = QualityMeter(info.rate_hz, signal.mains_hz)
        self.quality = Quality("off")
        self.rank = 0
        self.better_s = 0  # seconds for which it has been usable while the present one was not

    def push(self, item: Item) -> list[Item]:
        return self._metered(self._derivation.push(item))

    def flush(self) -> list[Item]:
        return self._metered(self._derivation.flush())

    def judge(self, end_s: int) -> None:
        self.quality = self._meter.grade(end_s, SPAN_S)
        self.rank = RANK[self.quality.grade]

    def _metered(self, items: list[Item]) -> list[Item]:
        for item in items:
            self._meter.push(item)
        return items


class Fallback:
    """Many device channels in; the best usable of several derivations out, in µV, and each change of it.

    A change takes effect at a whole second of the stream, counted in samples, and depends only on earlier
    samples. So it does not depend on how the input was cut into chunks.
    """

    def __init__(self, picks: Sequence[Pick], info: StreamInfo, signal: SignalSettings) -> None:
        self._rate_hz = info.rate_hz
        self._candidates = [_Candidate(pick, info, signal) for pick in picks]
        self._present = self._candidates[0]
        self._chosen = False  # whether an electrode has been usable yet
        self._off_s = 0  # seconds for which the present electrode has been off
        self._second = 0  # the one being filled
        self._stop = ceil(self._rate_hz)  # index one past its last sample

    @property
    def label(self) -> str:
        """Label of the electrode that is staged now."""
        return self._present.label

    @property
    def unit(self) -> str:
        """Unit in which the device delivers that electrode."""
        return self._present.unit

    def push(self, item: Item) -> list[Item | Switch]:
        """Take the next chunk or gap; return the output that it completes."""
        if isinstance(item, Gap):  # a gap affects every channel, so it is no reason to change
            return self._feed(item)
        out: list[Item | Switch] = []
        begin = item.start
        while begin < item.stop:
            if begin >= self._stop:  # there was a gap
                self._begin_second(second_at(begin, self._rate_hz))
            end = min(self._stop, item.stop)
            part = item.samples[:, begin - item.start : end - item.start]
            out += self._feed(Chunk(begin, part, item.arrived))
            if end == self._stop:
                self._begin_second(self._second + 1)
                out += self._decide(end)
            begin = end
        return out

    def flush(self) -> list[Item]:
        """End of the stream: return a gap that was held back."""
        return self._present.flush()

    def _feed(self, item: Item) -> list[Item | Switch]:
        out: list[Item | Switch] = []
        for candidate in self._candidates:
            items = candidate.push(item)
            if candidate is self._present:
                out += items
        return out

    def _begin_second(self, second: int) -> None:
        self._second = second
        self._stop = ceil((self._second + 1) * self._rate_hz)

    def _decide(self, at: int) -> list[Item | Switch]:
        """Decide which electrode is staged from index `at` on, after a complete second."""
        present = self._present
        for candidate in self._candidates:
            candidate.judge(self._second)
        self._off_s = self._off_s + 1 if present.quality.grade == "off" else 0
        for candidate in self._candidates:
            better = present.rank < USABLE <= candidate.rank
            candidate.better_s = candidate.better_s + 1 if better else 0
        best = max(self._candidates, key=lambda one: one.rank)  # of equals the first
        if not self._chosen:
            self._chosen = best.rank >= USABLE
            return self._change(at, best) if self._chosen and best is not present else []
        wait_s = OFF_S if self._off_s >= OFF_S else POOR_S
        ready = [candidate for candidate in self._candidates if candidate.better_s >= wait_s]
        return self._change(at, max(ready, key=lambda one: one.rank)) if ready else []

    def _change(self, at: int, after: _Candidate) -> list[Item | Switch]:
        before, self._present = self._present, after
        out: list[Item | Switch] = [*before.flush()]
        after.flush()  # drop its earlier gap, which was not staged
        bad_s = after.better_s
        self._off_s = 0
        for candidate in self._candidates:
            candidate.better_s = 0
        why = ", ".join(before.quality.reasons)
        lasting = f" for {bad_s} s" if bad_s > 1 else ""
        was = f"{before.label} was {before.quality.grade}{f' ({why})' if why else ''}{lasting}"
        reason = f"{was}, {after.label} is {after.quality.grade}"
        return [*out, Switch(at, before.label, after.label, reason)]
