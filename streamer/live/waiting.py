"""Reports why nothing arrives from a device: in the log, on the page and over MQTT."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streamer.clock import Clock
from streamer.payloads import SignalPayload, utc

LOOK_S = 1.0  # between two checks for remarks while a source is being opened
AGAIN_S = 3600.0  # until the same reason is logged again
log = logging.getLogger(__name__)

T = TypeVar("T")


class Waiting:
    """Keeps and reports the reason why a stream waits.

    Args:
        stream: name of the sleeper.
        clock: time.
        tell: called with each change; None: only the log is written.

    """

    def __init__(self, stream: str, clock: Clock, tell: Callable[[SignalPayload], None] | None) -> None:
        self._stream = stream
        self._clock = clock
        self._tell = tell
        self._reason: str | None = None
        self._logged: dict[str, float] = {}  # reason to steady seconds

    def because(self, reason: str) -> None:
        """Set the reason why no samples arrive; "" if they do or it is unknown."""
        now = self._clock.monotonic()
        self._logged = {one: at for one, at in self._logged.items() if now - at < AGAIN_S}
        if reason and reason not in self._logged:
            self._logged[reason] = now
            log.warning("stream %s waits for its signal: %s", self._stream, reason)
        if reason == self._reason or (self._reason is None and not reason):
            return
        self._reason = reason
        if self._tell is not None:
            self._tell(SignalPayload(t=utc(self._clock.wall()), waiting=bool(reason), reason=reason))

    async def opening(self, entered: Awaitable[T], remarks: deque[str]) -> T:
        """Wait for a source to open; report its remarks meanwhile."""
        watch = asyncio.create_task(self._watch(remarks), name=f"opening of {self._stream}")
        try:
            return await entered
        finally:
            watch.cancel()
            await asyncio.wait([watch])

    async def _watch(self, remarks: deque[str]) -> None:
        while True:
            while remarks:
                self.because(remarks.popleft())
            await self._clock.sleep(LOOK_S)
