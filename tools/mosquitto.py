"""A real mosquitto on a loopback port, which can be killed and restarted."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from streamer.errors import RunError

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # Debian's place is not on a user's path
PROGRAM = shutil.which("mosquitto", path=PATH)
STARTING_S = 60.0  # longest time for mosquitto to start, on a busy machine
LOOK_S = 0.02


class Mosquitto:
    """`with Mosquitto(port=18841) as broker:` serves that port.

    Args:
        options: further lines of mosquitto.conf.
        anonymous: whether clients may connect without a password.
        port: on loopback.

    Raises:
        RunError: mosquitto is not installed, or does not start.

    """

    def __init__(self, *options: str, port: int, anonymous: bool = True) -> None:
        if PROGRAM is None:
            raise RunError("mosquitto is not installed; run: apt install mosquitto")
        self.port = port
        self._lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'true' if anonymous else 'false'}",
            f"user {getpass.getuser()}",
            "log_dest stderr",
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._made = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self._folder = Path(self._made.name)
        (self._folder / "mosquitto.conf").write_text("\n".join(self._lines) + "\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._made.cleanup()

    @property
    def log(self) -> list[str]:
        """What it has logged since the first start."""
        return (self._folder / "log").read_text(encoding="utf-8").splitlines()

    def start(self) -> None:
        """Start the broker; return when it accepts connections."""
        assert PROGRAM
        with (self._folder / "log").open("ab") as log:
            command = [PROGRAM, "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stderr=log)
        until = time.monotonic() + STARTING_S
        while self._process.poll() is None and time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(LOOK_S)
        self.kill()
        raise RunError("mosquitto did not start: " + " | ".join(self.log))

    def kill(self) -> None:
        """End it like kill -9: without disconnecting clients or saving anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process
        return self._process.pid
