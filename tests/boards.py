"""A small board that behaves as told: it counts, wraps, drops, stalls, falls silent and overflows."""

from __future__ import annotations

import threading

import numpy as np

from streamer.errors import SourceError
from streamer.messages import Channel, Floats
from streamer.sources.board import BoardInfo, BoardRows
from streamer.sources.packets import Numbering


class ManualClock:
    """Time that passes only while somebody sleeps; the wall clock may be set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_by = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now + self.set_by

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class StandInBoard:
    """Samples tell their own index: channel 0 is the index since the device was switched on.

    Args:
        clock: paces the device.
        numbering: of its packets; None: no usable numbers.
        drops: index ranges that the radio loses.
        stalls: (from, until) seconds; what is sent in between is delivered at its end, all at once.
        gone: (from, until) seconds; nothing is delivered, and opening fails.
        ring: rows that are kept until they are read.
        rows: how many there are in all; None: no end.
        drawn_out: stamped like a Muse's: the rows of a packet evenly between the last packet's arrival and
            its own.

    """

    def __init__(
        self,
        clock: ManualClock,
        numbering: Numbering | None = None,
        rate_hz: float = 256.0,
        drops: tuple[tuple[int, int], ...] = (),
        stalls: tuple[tuple[float, float], ...] = (),
        gone: tuple[tuple[float, float], ...] = (),
        ring: int = 1 << 20,
        rows: int | None = None,
        drawn_out: bool = False,
    ) -> None:
        self.clock = clock
        self.numbering = numbering
        self.rate_hz = rate_hz
        self.drops, self.stalls, self.gone = drops, stalls, gone
        self.ring = ring
        self.rows = rows
        self.drawn_out = drawn_out
        self._packet_s = 0.0
        self._held = False  # by a stall
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.closed = threading.Event()
        self.opening = threading.Event()
        self.may_open = threading.Event()
        self.may_open.set()
        self._begun = clock.now
        self._delivered = 0
        self._need_open = True

    def describe(self) -> BoardInfo:
        self._note("describe")
        labels = Channel("AF7", "uV"), Channel("AF8", "uV")
        return BoardInfo("Stand-in", self.rate_hz, labels, self.numbering, self.rows)

    def open(self) -> None:
        self._note("open")
        self.closed.clear()
        self.opening.set()
        self.may_open.wait(60)
        if self._within(self.gone):
            raise SourceError("the stand-in does not open")
        self._need_open = False
        self._delivered = int((self.clock.now - self._begun) * self.rate_hz)

    def close(self) -> None:
        self._note("close")
        self.closed.set()

    def read(self) -> BoardRows:
        self._note("read")
        if self._within(self.gone):
            self._need_open = True
        sent = int((self.clock.now - self._begun) * self.rate_hz)
        if self.drawn_out and self.numbering:
            sent -= sent % self.numbering.rows
        if self._within(self.stalls):
            self._held = True
        if self._need_open or self._within(self.stalls):
            return self._make(np.empty(0, np.int64))
        index = np.arange(self._delivered, sent)
        self._delivered = sent
        for start, stop in self.drops:
            index = index[(index < start) | (index >= stop)]
        return self._make(index[-self.ring :])

    def _within(self, spans: tuple[tuple[float, float], ...]) -> bool:
        return any(start <= self.clock.now - self._begun < stop for start, stop in spans)

    def _make(self, index: np.ndarray) -> BoardRows:
        sent_s = (index + 1) / self.rate_hz
        stamps: Floats = sent_s.copy()
        if self._held and index.size:  # all at once when the stall was over, however long ago they were sent
            over = max(stop for _, stop in self.stalls if stop <= self.clock.now - self._begun)
            stamps, self._held = np.maximum(stamps, over), False
        shape = self.numbering or Numbering(256)
        if self.drawn_out:
            for at in range(0, index.size, shape.rows):
                came = stamps[at + shape.rows - 1]
                parts = np.arange(1, shape.rows + 1) / shape.rows
                stamps[at : at + shape.rows] = self._packet_s + (came - self._packet_s) * parts
                self._packet_s = came
        numbers = index // shape.rows * shape.step % shape.wrap
        samples = np.stack([index, -index]).astype(np.float64)
        return BoardRows(numbers, stamps + self._begun + self.clock.wall() - self.clock.now, samples)

    def _note(self, call: str) -> None:
        self.threads.add(threading.current_thread().name)
        if not (call == "read" and self.calls and self.calls[-1] == "read"):
            self.calls.append(call)
