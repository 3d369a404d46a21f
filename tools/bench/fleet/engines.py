"""Real engines for a fleet: processes of `sleepstream run`, each with some simulated sleepers."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Self

from tools.bench.figures import SLEEPSTREAM

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_S = 30.0
CONFIG = """node = "bench{node}"
session_dir = "{folder}"
[mqtt]
port = {port}
"""
STREAM = """[[stream]]
name = "sleeper{number}"
hop_s = {hop_s}
[stream.source]
kind = "simulated"
seed = {number}
"""


class Engines:
    """`with Engines(folder, port, sleepers, processes, hop_s) as engines:` plays nights in real time."""

    def __init__(self, folder: Path, port: int, sleepers: int, processes: int, hop_s: int) -> None:
        self._commands: list[list[str]] = []
        for node in range(min(processes, sleepers)):
            text = CONFIG.format(node=node, folder=folder / f"node{node}", port=port)
            for number in range(node, sleepers, processes):
                text += STREAM.format(number=number, hop_s=hop_s)
            config = folder / f"node{node}.toml"
            config.write_text(text, encoding="utf-8")
            self._commands.append([*SLEEPSTREAM, "run", str(config), "--log", "json"])
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            for command in self._commands
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu_s(self) -> float:
        """What they have used so far."""
        return sum(cpu_s(process.pid) for process in self._processes)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
