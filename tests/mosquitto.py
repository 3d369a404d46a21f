"""The mosquitto of the tests, on a free port, which can be frozen; and free ports for all that serves."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Self, TypeVar

import pytest

from tools.mosquitto import LOG, PROGRAM, start

T = TypeVar("T")
SUBSCRIBER = shutil.which("mosquitto_sub")

needs_mosquitto = pytest.mark.skipif(
    PROGRAM is None or SUBSCRIBER is None, reason="mosquitto and mosquitto-clients are not installed"
)

CHOSEN = range(10_000, 32_000)  # the system does not give these to programs that ask for any free port
_ours: set[int] = set()  # ports that this process was given


@cache
def _given() -> int:
    """Open the file in which each process of this user locks the ports that it was given, until it ends."""
    path = Path(tempfile.gettempdir(), f"sleepstream-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def free_port() -> int:
    """Find a free port that no other program gets by chance before it is used, nor a second caller."""
    while True:
        port = random.SystemRandom().choice(CHOSEN)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _ours:
                fcntl.lockf(_given(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                _ours.add(port)
                return port


class Mosquitto:
    """`with Mosquitto() as broker:` serves `broker.port`, and keeps all that a subscriber has not read.

    `options` are further lines of mosquitto.conf; `anonymous`: clients may connect without a password.
    """

    def __init__(self, *options: str, anonymous: bool = True) -> None:
        self.port = free_port()
        allowed = f"allow_anonymous {'true' if anonymous else 'false'}"
        self._options = (allowed, "max_queued_messages 0", *options)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._made = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._made.cleanup()

    @property
    def log(self) -> list[str]:
        """What it has logged since the first start."""
        return Path(self._made.name, LOG).read_text(encoding="utf-8").splitlines()

    def start(self) -> None:
        """Start the broker; return when it accepts connections."""
        self._process = start(Path(self._made.name), self.port, *self._options)

    def kill(self) -> None:
        """End it like kill -9: without disconnecting clients or saving anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the process: connections stay open, but it does nothing any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def reload(self) -> None:
        """Make it read its passwords again; connections stay."""
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def thaw(self) -> None:
        """Let it continue after `freeze`."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)


def on_mosquitto(main: Callable[[int], Awaitable[T]]) -> T:
    """What a scenario returns that is given the port of a broker of its own."""

    async def scenario(port: int) -> T:
        return await main(port)

    with Mosquitto() as broker:
        return asyncio.run(scenario(broker.port))
