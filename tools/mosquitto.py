"""A real mosquitto on a loopback port, from Debian's package."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import RunError

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"  # Debian's place is not on a user's path
PROGRAM = shutil.which("mosquitto", path=PATH)
STARTING_S = 60.0  # longest time for mosquitto to start, on a busy machine
LOOK_S = 0.02
CONFIG, LOG = "mosquitto.conf", "log"


def start(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a broker with its files in a folder; return when it accepts connections.

    `options` are further lines of its configuration. Its log is appended to.

    Raises:
        RunError: mosquitto is not installed, or does not start.

    """
    if PROGRAM is None:
        raise RunError("mosquitto is not installed; run: apt install mosquitto")
    lines = f"listener {port} 127.0.0.1", f"user {getpass.getuser()}", "log_dest stderr", *options
    (folder / CONFIG).write_text("\n".join(lines) + "\n")
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen([PROGRAM, "-c", str(folder / CONFIG)], stderr=log)
    until = time.monotonic() + STARTING_S
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(LOOK_S)
    process.kill()
    process.wait()
    raise RunError("mosquitto did not start: " + " | ".join((folder / LOG).read_text().splitlines()))


@contextmanager
def mosquitto(port: int) -> Iterator[int]:
    """Serve a port for whoever connects; yield the process's id."""
    with tempfile.TemporaryDirectory(prefix="mosquitto-") as folder:
        process = start(Path(folder), port, "allow_anonymous true")
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()
