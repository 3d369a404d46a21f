"""A real mosquitto on a loopback port, which can be killed and restarted."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self

from streamer.errors import RunError

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # Debian's place is not on a user's path
PROGRAM = shutil.which("mosquitto", path=PATH)
STARTING_S = 60.0  # longest time for mosquitto to start, on a busy machine


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
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._log: threading.Thread | None = None
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="mosquitto-")
        self._config.write_text("\n".join(self._lines) + "\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
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

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process
        return self._process.pid

    def _read_log(self, process: subprocess.Popen[str], running: threading.Event) -> None:
        assert process.stderr
        for line in process.stderr:
            self.log.append(line.rstrip())
            if line.rstrip().endswith("running"):
                running.set()
        running.set()  # it has ended: `start` must not wait any longer
