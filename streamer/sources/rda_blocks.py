"""Turns numbered blocks of samples into chunks with indices, and gaps for missing numbers."""

from __future__ import annotations

from collections.abc import MutableSequence

from streamer.messages import Chunk, Gap, Item, Marker
from streamer.sources.rda_messages import RdaBlock

WRAP = 1 << 32  # numbers are 32 bits
HOLD_S = 0.5  # longest that blocks wait for an earlier one that is late
HOLD_BLOCKS = 64  # likewise, the most blocks
STALL_S = 5.0  # the first block may have come so much later than it was taken
DRIFT = 0.01  # s per s: an amplifier may be so much faster than its nominal rate
LOST = "lost before it arrived"
ANEW = "the acquisition was begun anew"


class BlockCounter:
    """Blocks in the order of their arrival -> chunks, gaps and markers in the order of their numbers.

    A block that comes twice, or too late, is left out. No loss is longer than the time that has passed by
    this computer's clock: if the numbers leap further or restart, that time gives the loss.

    Args:
        rate_hz: of the samples.
        names: of the channels; a marker may belong to one.
        remarks: the list that receives remarks for the user, a line each; None: a new list.

    Attributes:
        remarks: that list.

    """

    def __init__(
        self, rate_hz: float, names: tuple[str, ...], remarks: MutableSequence[str] | None = None
    ) -> None:
        self.remarks = [] if remarks is None else remarks
        self._rate_hz = rate_hz
        self._names = names
        self._next = 0  # index of the next sample to be given out
        self._expected: int | None = None  # number of the next block; None: any
        self._points = 0  # samples in the last block that had any
        self._held: dict[int, tuple[RdaBlock, float]] = {}  # by number, with the time of arrival
        self._heard: float | None = None  # when the last samples came, steady s
        self._since = 0.0, 0  # when the count began, and at which index
        self._left_out = 0
        self._stale = 0, 0  # number of the last block that was left out, samples left out in a row

    def begin(self) -> list[Item | Marker]:
        """Start a new acquisition, whose count starts with the next block. Return what was held."""
        out = self.flush()
        self._expected = None
        return out

    def push(self, block: RdaBlock, arrived: float) -> list[Item | Marker]:
        """Take a block that arrived at `arrived` (steady s); return the items that are now in order."""
        if self._expected is None:
            return self._first(block, arrived)
        ahead = self._ahead(block.number)
        if ahead < 0 or block.number in self._held:
            return self._again(block, arrived)
        if ahead == 0:
            return [*self._place(block, arrived), *self._release()]
        self._held[block.number] = block, arrived
        waiting = sum(held.points for held, _ in self._held.values())
        if waiting >= HOLD_S * self._rate_hz or len(self._held) >= HOLD_BLOCKS:
            return self._give_up()
        return []

    def flush(self) -> list[Item | Marker]:
        """Return the blocks that were held, at the end of the stream."""
        out: list[Item | Marker] = []
        while self._held:
            out += self._give_up()
        return out

    def _ahead(self, number: int) -> int:
        """Return how many blocks are missing before this one; negative if it belongs before the last."""
        assert self._expected is not None
        return (number - self._expected + WRAP // 2) % WRAP - WRAP // 2

    def _first(self, block: RdaBlock, arrived: float) -> list[Item | Marker]:
        """Place a block by time, because its number does not continue the count."""
        out: list[Item | Marker] = []
        if self._heard is not None:
            passed = round((arrived - self._heard) * self._rate_hz)
            out += self._lose(max(0, passed - block.points), ANEW, arrived)
        self._since = arrived, self._next + block.points
        self._expected = block.number
        return out + self._place(block, arrived)

    def _place(self, block: RdaBlock, arrived: float) -> list[Item | Marker]:
        out: list[Item | Marker] = [
            Marker(
                self._next + mark.position,
                mark.kind,
                mark.text,
                self._names[mark.channel] if mark.channel >= 0 else "",
            )
            for mark in block.marks
        ]
        if block.points:
            out.insert(0, Chunk(self._next, block.samples, arrived))
            self._next += block.points
            self._points = block.points
            self._heard = arrived
        self._expected = (block.number + 1) % WRAP
        self._stale = 0, 0
        return out

    def _release(self) -> list[Item | Marker]:
        """Return the blocks that waited for this one."""
        out: list[Item | Marker] = []
        while self._expected in self._held:
            out += self._place(*self._held.pop(self._expected))
        return out

    def _give_up(self) -> list[Item | Marker]:
        """Give up the missing block, and go on with the next one held."""
        number = min(self._held, key=self._ahead)
        block, arrived = self._held.pop(number)
        lost = self._ahead(number) * self._points
        if lost > self._possible(block, arrived):
            self.remarks.append(
                f"the amplifier's block numbers leap by {self._ahead(number)}, further than time has "
                "passed; the loss there is computed from the time"
            )
            return [*self._first(block, arrived), *self._release()]
        return [*self._lose(lost, LOST, arrived), *self._place(block, arrived), *self._release()]

    def _possible(self, block: RdaBlock, arrived: float) -> float:
        """Return the most samples that can have been taken between the last one and this block."""
        begun, index = self._since
        passed_s = max(0.0, arrived - begun) * (1 + DRIFT) + STALL_S
        return passed_s * self._rate_hz - (self._next - index) - block.points

    def _lose(self, lost: int, reason: str, arrived: float) -> list[Item | Marker]:
        if not lost:
            return []
        gap = Gap(self._next, self._next + lost, reason, arrived)
        self._next = gap.stop
        return [gap]

    def _again(self, block: RdaBlock, arrived: float) -> list[Item | Marker]:
        """Leave out a block that came before. If such blocks continue, the numbers were restarted."""
        number, points = self._stale
        follows = block.number == (number + 1) % WRAP
        self._stale = block.number, (points if follows else 0) + block.points
        if self._stale[1] >= HOLD_S * self._rate_hz:
            self.remarks.append(f"the amplifier's block numbers went back to {block.number} and go on there")
            return [*self.begin(), *self._first(block, arrived)]
        self._left_out += 1
        if self._left_out & (self._left_out - 1) == 0:  # 1, 2, 4, 8 ...
            self.remarks.append(f"{self._left_out} blocks of the amplifier came twice or too late")
        return []
