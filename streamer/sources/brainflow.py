"""A BrainFlow board as a source: losses are found, and a lost board is reopened until it answers.

BrainFlow's calls block, over Bluetooth for many seconds, so all are made on one worker thread. BrainFlow does
not report a lost device: reads only come back empty. A watchdog here notices that and connects anew.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Self

import numpy as np

from streamer.channels import check_rate
from streamer.clock import Clock, SystemClock, retry_after_s
from streamer.errors import SourceError
from streamer.messages import Floats, Gap, Item, StreamInfo
from streamer.sources.board import Board, BoardRows, BrainflowBoard
from streamer.sources.devicetime import HostChecked
from streamer.sources.packets import PacketCounter
from streamer.sources.settings import BrainflowSettings
from streamer.sources.timeline import Timeline
from streamer.sources.worker import Worker

POLL_S = 0.1
CLOSE_S = 10.0  # longest wait for a board to close; a Muse takes four seconds
BACKOFF_S = (0.5, 30.0)
SET_S = 0.1  # a wall clock that moves by more than this against the steady one between two reads was set
SLACK_S = 0.5  # samples may be stamped so long before the read before

_log = logging.getLogger(__name__)


class BrainflowSource:
    """One board as a source; `info` is set on entering, which waits for the first sample, index 0.

    Args:
        settings: which board, and how to reach it.
        clock: time.
        board: replaces BrainFlow's own board, as tests do.

    """

    info: StreamInfo

    def __init__(
        self, settings: BrainflowSettings, clock: Clock | None = None, board: Board | None = None
    ) -> None:
        self._settings = settings
        self.remarks: deque[str] = deque()
        self._clock = clock or SystemClock()
        self._board = board or BrainflowBoard(settings)
        self._ahead = self._read_at = 0.0  # of the last read: wall minus steady clock, and the steady clock
        self._heard = 0.0  # steady time of the last sample
        self._quiet_since = 0.0  # the same, or when the board was opened if that was later
        self._stop = 0  # index after the last sample or gap that was given out
        self._placing: PacketCounter | Timeline  # gives samples their indices
        self._reopened = 0  # tries it took to open the board again, until samples come
        self._failures = 0  # to open it again, in a row

    async def __aenter__(self) -> Self:
        """Open the board.

        Raises:
            SourceError: BrainFlow cannot be used, the board is unknown, does not open or sends nothing.
            SignalError: its rate is outside 50-1024 Hz.

        """
        self._worker = Worker("brainflow")
        try:
            described = await self._worker.call(self._board.describe)
            check_rate(described.rate_hz, described.name)
            self._left = described.rows
            self._placing = (
                PacketCounter(described.rate_hz, described.numbering)
                if described.numbering
                else Timeline(described.rate_hz, HostChecked(described.rate_hz, self.remarks))
            )
            await self._worker.call(self._board.open)
            self._mark()
            self._early = await self._first_rows(described.name)
        except BaseException:
            await self._close()
            raise
        self._first = self._steady(self._early.stamps)
        started = self._clock.wall() - (self._clock.monotonic() - float(self._first[0]))
        self.info = StreamInfo(described.name, described.rate_hz, described.channels, started)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Release the board and end the worker thread."""
        await self._close()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Chunks and gaps in order, until a recording ends or the source is closed."""
        for item in self._place(self._early, self._first):
            yield item
        while self._left != 0:
            await self._clock.sleep(POLL_S)
            rows = await self._read()
            if rows is not None:
                times = self._steady(rows.stamps)
                if times.shape[0]:
                    for item in self._place(rows, times):
                        yield item
                    continue
            if rows is None or self._silent():
                for item in self._flush():
                    yield item
                await self._reopen()
        for item in self._flush():
            yield item

    async def _close(self) -> None:
        """Queue the board's release after the call under way, and wait at most `CLOSE_S` for it."""
        closing = await self._worker.close(self._board.close, CLOSE_S)
        if closing is None:
            return
        if not closing.done():
            _log.warning("the board was not closed within %g s; this continues in the background", CLOSE_S)
        elif (error := closing.exception()) is not None:
            _log.warning("%s", error)

    async def _first_rows(self, name: str) -> BoardRows:
        deadline = self._clock.monotonic() + max(self._settings.silence_s, self._settings.timeout_s)
        while self._clock.monotonic() < deadline:
            rows = await self._worker.call(self._board.read)
            if rows.stamps.shape[0]:
                return rows
            await self._clock.sleep(POLL_S)
        raise SourceError(
            f"{name} is open but sends nothing; is it switched on, charged and worn, and (for a recording) "
            "is master_board the board that made it?"
        )

    async def _read(self) -> BoardRows | None:
        """The rows that have arrived; None if the board reports that it is gone."""
        try:
            return await self._worker.call(self._board.read)
        except SourceError as error:
            _log.warning("%s; connecting anew", error)
            return None

    def _silent(self) -> bool:
        """Whether the board has been silent for too long. A recording may be silent."""
        return self._left is None and self._read_at - self._quiet_since >= self._settings.silence_s

    async def _reopen(self) -> None:
        """Release the board and reopen it, with growing pauses, until it opens."""
        while True:
            self._reopened += 1
            try:
                await self._worker.call(self._board.close)
                await self._worker.call(self._board.open)
            except SourceError as error:
                _log.info("try %d: %s", self._reopened, error)
                self._failures += 1
                await self._clock.sleep(retry_after_s(self._failures, *BACKOFF_S))
            else:
                self._mark()
                self._quiet_since = self._read_at
                return

    def _mark(self) -> None:
        """Note the clocks; rows read from now on arrived after this moment."""
        self._read_at = self._clock.monotonic()
        self._ahead = self._clock.wall() - self._read_at

    def _steady(self, stamps: Floats) -> Floats:
        """Times of rows on the steady clock.

        Stamps come from the wall clock, which can be set, and BrainFlow stretches a Muse's over a loss. All
        these rows have arrived since the last read, so their times are kept within that.
        """
        before, ahead = self._read_at, self._ahead
        self._mark()
        if abs(self._ahead - ahead) > SET_S or not np.isfinite(stamps).all():
            return np.linspace(before, self._read_at, stamps.shape[0] + 1)[1:]
        return np.clip(stamps - self._ahead, before - SLACK_S, self._read_at)

    def _place(self, rows: BoardRows, times: Floats) -> list[Item]:
        """Give rows their indices. What was missed while the board was gone becomes a gap."""
        arrived = float(times[-1])
        out: list[Item] = []
        if self._reopened:
            lost = max(0, round((float(times[0]) - self._heard) * self.info.rate_hz) - 1)
            if lost:
                reason = f"the board was gone; opened again at try {self._reopened}"
                out.append(Gap(self._stop, self._stop + lost, reason, arrived))
            self._placing.reset(self._stop + lost)
            self._reopened = self._failures = 0
        self._heard = self._quiet_since = arrived
        if self._left is not None:
            self._left -= min(self._left, rows.stamps.shape[0])
        if isinstance(self._placing, PacketCounter):
            out += self._placing.push(rows.numbers, times, rows.samples, arrived)
        else:
            out += self._placing.push(times, rows.samples, arrived)
        return self._given_out(out)

    def _flush(self) -> list[Item]:
        """Return what was held back."""
        return self._given_out(self._placing.flush())

    def _given_out(self, items: list[Item]) -> list[Item]:
        """Remember the index after these items, and return them."""
        self._stop = items[-1].stop if items else self._stop
        return items
