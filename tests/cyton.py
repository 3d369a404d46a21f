"""An OpenBCI Cyton on the far side of a pseudo-terminal: enough of it for BrainFlow's own driver."""

from __future__ import annotations

import os
import pty
import select
import threading
import time
import tty

RATE_HZ = 250
GREETING = b"OpenBCI V3 8-16 channel\nOn Board ADS1299 Device ID: 0x3E\nFirmware: v3.1.1\n$$$"


class Cyton:
    """`with Cyton() as board:` answers at `board.port`; every channel counts samples since the power came on.

    Args:
        drops: ranges of samples that the radio loses.
        mute: (from, until) seconds since the power came on; it sends nothing and forgets that it streamed.

    """

    def __init__(
        self, drops: tuple[tuple[int, int], ...] = (), mute: tuple[float, float] = (1e9, 1e9)
    ) -> None:
        self._host, self._device = pty.openpty()
        tty.setraw(self._device)
        self.port = os.ttyname(self._device)
        self.commands: list[bytes] = []
        self._drops, self._mute = drops, mute
        self._begun = 0.0
        self._sent = 0
        self._number = 0
        self._streaming = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cyton")

    def __enter__(self) -> Cyton:
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._host)
        os.close(self._device)

    def _run(self) -> None:
        while not self._stop.is_set():
            readable, _, _ = select.select([self._host], [], [], 0.02)
            if readable:
                self._obey(os.read(self._host, 256))
            now = time.monotonic() - self._begun
            if self._sent < self._mute[0] * RATE_HZ:
                self._go_on(min(now, self._mute[0]))  # all that comes before, however late this thread is
            if self._mute[0] <= now < self._mute[1]:
                self._streaming = False
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        due = int(now * RATE_HZ)
        if self._streaming:
            self._send(due)
        self._sent = due

    def _obey(self, command: bytes) -> None:
        self.commands.append(command)
        if b"b" in command:
            self._streaming, self._number = True, 0
        elif b"s" in command:
            self._streaming = False
        else:
            os.write(self._host, GREETING if b"v" in command else b"Success$$$")

    def _send(self, due: int) -> None:
        for index in range(self._sent, due):
            if not any(start <= index < stop for start, stop in self._drops):
                value = index.to_bytes(3, "big")
                os.write(self._host, bytes([0xA0, self._number]) + value * 8 + bytes(6) + b"\xc0")
            self._number = (self._number + 1) % 256
