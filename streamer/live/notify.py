"""Notifies systemd: ready, alive, stopping. Does nothing without systemd."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from streamer.clock import Clock


class Heart:
    """Sends READY=1 on entering, STOPPING=1 on leaving, and WATCHDOG=1 in between.

    WATCHDOG=1 is sent twice per watchdog period by the event loop, unless `stuck_s` exceeds that period. If
    it stops, systemd restarts the service.

    Args:
        clock: time.
        stuck_s: returns how long the slowest stream has been busy with one item, s.
        environment: NOTIFY_SOCKET and WATCHDOG_USEC, as systemd sets them.

    """

    def __init__(
        self, clock: Clock, stuck_s: Callable[[], float], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._clock = clock
        self._stuck_s = stuck_s
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        self._period_s = int(microseconds) / 1e6 if ours and microseconds.isdigit() else 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.tell("READY=1")
        if self._address and self._period_s:
            self._task = asyncio.create_task(self._beat(), name="watchdog of systemd")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tell("STOPPING=1")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def tell(self, state: str) -> None:
        """Send one state; errors are ignored."""
        if not self._address:
            return
        # A leading @ means Linux's abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.setblocking(False)
                one.sendto(state.encode(), address)
        except OSError:  # such as too many open files; the next beat tries again
            return

    async def _beat(self) -> None:
        while True:
            if self._stuck_s() < self._period_s:
                self.tell("WATCHDOG=1")
            await self._clock.sleep(self._period_s / 2)
