"""A real mosquitto on a free loopback port, which can be killed, frozen and restarted."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.errors import RunError

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # Debian's place is not on a user's path
PROGRAM = shutil.which("mosquitto", path=PATH)


CHOSEN = range(10_000, 32_000)  # the system does not give these to programs that ask for any free port
STARTING_S = 60.0  # longest time for mosquitto to start, on a busy machine
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
    """`with Mosquitto() as broker:` serves `broker.port`; `options` are further lines of mosquitto.conf.

    Args:
        options: further lines of mosquitto.conf.
        anonymous: whether clients may connect without a password.
        port: on loopback; None: a free one.

    Raises:
        RunError: mosquitto is not installed, or does not start.

    """

    def __init__(self, *options: str, anonymous: bool = True, port: int | None = None) -> None:
        if PROGRAM is None:
            raise RunError("mosquitto is not installed; run: apt install mosquitto")
        self.port = free_port() if port is None else port
        self._lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'true' if anonymous else 'false'}",
            f"user {getpass.getuser()}",
            "log_dest stderr",
            *options,
        ]
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._log: threading.Thread | None = None
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self._config.write_text("\n".join(self._lines) + "\n")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._folder
        self._folder.cleanup()

    @property
    def _config(self) -> Path:
        assert self._folder
        return Path(self._folder.name) / "mosquitto.conf"

    def start(self) -> None:
        """Start the broker; return when it accepts connections."""
        assert PROGRAM
        command = [PROGRAM, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        running = threading.Event()
        self._log = threading.Thread(target=self._read_log, args=(self._process, running))
        self._log.start()
        if not running.wait(STARTING_S) or self._process.poll() is not None:
            self.kill()
            raise RunError("mosquitto did not start: " + " | ".join(self.log))

    def kill(self) -> None:
        """End it like kill -9: without disconnecting clients or saving anything."""
        if self._process is None:
            return
        assert self._log
        assert self._process.stderr
        self._process.kill()
        self._process.wait()
        self._log.join()
        self._process.stderr.close()
        self._process = None

    def freeze(self) -> None:
        """Stop the process: connections stay open, but it does nothing any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process
        return self._process.pid

    def reload(self) -> None:
        """Make it read its passwords again; connections stay."""
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def thaw(self) -> None:
        """Let it continue after `freeze`."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def _read_log(self, process: subprocess.Popen[str], running: threading.Event) -> None:
        assert process.stderr
        for line in process.stderr:
            self.log.append(line.rstrip())
            if line.rstrip().endswith("running"):
                running.set()
        running.set()  # it has ended: `start` must not wait any longer
