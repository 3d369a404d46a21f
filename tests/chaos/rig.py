"""What chaos happens to: the engine, the device and the broker as real processes, a cable, a small disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import pylsl

from streamer.live.claim import SPACE
from streamer.sinks.client import PASSWORD, USER
from tests import lsl_alone
from tests.chaos.censor import Censor
from tests.chaos.engine import STEADY_FILE, STEP_FILE
from tests.chaos.output import Output
from tests.mosquitto import Mosquitto
from tools.mosquitto import PATH

ROOT = Path(__file__).parents[2]
MOSQUITTO_PASSWD = shutil.which("mosquitto_passwd", path=PATH)
CONFIG = """node = "chaos"
session_dir = "{sessions}"
[mqtt]
port = {port}
timeout_s = 1.5
retry_min_s = 0.1
retry_max_s = 1.0
[[stream]]
name = "anna"
[stream.source]
kind = "lsl"
name = "chaos"
[stream.signal]
channel = "Fpz-Cz"
[stream.alarm]
deadline = 00:00:00
window_min = 0
command = ["sh", "-c", "echo rang >> {rang}; exec sleep 600"]
[[stream.trigger]]
name = "any"
stages = ["W", "N1", "N2", "N3", "R"]
min_probability = 0
quality = "off"
warmup = true
refractory_s = {refractory_s}
max_age_s = 10
[stream.trigger.action]
command = ["sh", "-c", "echo $SLEEPSTREAM_STAGE >> {fired}"]
"""
REFRACTORY_S = 240  # of the stream: four seconds
DISK_MB = 256  # more than 80 minutes at 60 times real time fill
LOOK_S = 0.1
ENGINE, EAR = "engine", "ear"  # who logs in at the broker; their passwords are their names


class Process:
    """A program that is killed and started again."""

    def __init__(
        self, *command: str, environment: dict[str, str] | None = None, output: Output | None = None
    ) -> None:
        self.command = command
        self._output = output  # default: nobody sees what it writes
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number; -1 before the first start."""
        return -1 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.runs:
            return
        out = os.open(os.devnull, os.O_WRONLY) if self._output is None else self._output.open()
        try:
            self._process = subprocess.Popen(
                self.command, cwd=ROOT, env=self._environment, stdout=out, stderr=subprocess.STDOUT
            )
        finally:
            os.close(out)

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL, patience_s: float = 30.0) -> int | None:
        """Signal it, and wait until it has ended: its exit code, or None if it had to be killed."""
        self.send(number)
        process = self._process
        if process is None:
            return None
        if await until(lambda: process.poll() is not None, patience_s):
            return process.returncode
        process.kill()
        process.wait()
        return None


class Ear:
    """Whatever the broker passes on, in order of arrival; back by itself when the broker is.

    It listens with QoS 0: mosquitto then hands a message on before it acknowledges it.
    """

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, str]] = []  # last level of the topic, body
        self.listens = asyncio.Event()
        self._port = port

    async def listen(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1", self._port, username=EAR, password=EAR, identifier=EAR, timeout=2
                ) as client:
                    await client.subscribe("sleepstream/chaos/anna/#", qos=0)
                    self.listens.set()
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        kind = str(message.topic).rpartition("/")[2]
                        if not message.retain:
                            self.heard.append((kind, message.payload.decode()))
            self.listens.clear()
            await asyncio.sleep(0.05)


class Rig:
    """All of it, in one folder."""

    def __init__(self, folder: Path, speed: float) -> None:
        self.mounted = False  # whether the sessions lie on a small disk of their own
        self.folder = folder
        self.sessions = folder / "sessions"
        self.config = folder / "chaos.toml"
        self.fired = folder / "fired"  # a line for each stimulus
        self.rang = folder / "rang"  # a line for each player of the alarm
        self._ahead_s = 0.0  # hours that were skipped
        self.begun = pylsl.local_clock()
        self.speed = speed
        self._logins = folder / "logins"
        self.output = Output(folder)  # of the engine
        options = f"password_file {self._logins}", f"acl_file {folder / 'rules'}"
        self.broker = Mosquitto(*options, anonymous=False)
        self._rules = folder / "rules"
        self._write_logins(ENGINE)
        self._write_rules(None)
        # A machine of its own: another chaos beside this one is no second engine.
        space = f"chaos-{os.getpid()}-{folder}"[-80:]
        self.where = where = {"LSLAPICFG": str(lsl_alone.write(folder)), SPACE: space}
        self.engine = Process(
            sys.executable,
            "-m",
            "tests.chaos.engine",
            str(self.config),
            environment={**where, USER: ENGINE, PASSWORD: ENGINE},
            output=self.output,
        )
        self.outlet = Process(*self._device(), environment=where)
        self.cable = Censor(self.broker.port)
        self.ear = Ear(self.broker.port)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; end everything."""
        self.mounted = _mount(self.sessions)
        self.output.mount()
        async with self.cable:
            config = CONFIG.format(
                sessions=self.sessions,
                port=self.cable.port,
                fired=self.fired,
                rang=self.rang,
                refractory_s=REFRACTORY_S,
            )
            self.config.write_text(config)
            ear = asyncio.create_task(self.ear.listen(), name="ear")
            with self.broker:  # nobody is held up yet by waiting for it
                try:
                    self.outlet.start()
                    await self.ear.listens.wait()
                    self.engine.start()
                    yield
                finally:
                    await self.engine.end()
                    await self.outlet.end()
                    ear.cancel()
                    await asyncio.wait([ear])

    def close(self) -> None:
        """Give the small disks back; what was on them is gone."""
        self.output.close()
        if self.mounted:
            subprocess.run(["umount", str(self.sessions)], check=True)

    def step_clock(self, seconds: float) -> None:
        """Set the engine's wall clock wrong by so much."""
        (self.folder / STEP_FILE).write_text(str(seconds))

    def skip(self, seconds: float) -> None:
        """Let so much time pass at once, on the engine's clocks and for the device, which is off."""
        self._ahead_s += seconds
        (self.folder / STEADY_FILE).write_text(str(self._ahead_s))
        self.outlet.command = self._device()

    def _device(self) -> tuple[str, ...]:
        numbers = (self.begun, self.speed, self._ahead_s)
        return (sys.executable, "-m", "tests.chaos.outlet", *map(str, numbers))

    def let_in(self, yes: bool) -> None:
        """Have the broker take the engine's password, or refuse it, from now on."""
        self._write_logins(ENGINE if yes else "another one")
        self.broker.reload()

    def deny(self, topic: str | None) -> None:
        """Have the broker deny the engine one topic from now on, or none."""
        self._write_rules(topic)
        self.broker.reload()

    def _write_rules(self, denied: str | None) -> None:
        rules = [f"user {EAR}", "topic readwrite #", f"user {ENGINE}", "topic readwrite #"]
        self._rules.write_text("\n".join(rules + [f"topic deny {denied}"] * (denied is not None)) + "\n")

    def _write_logins(self, password: str) -> None:
        """Who may log in; the ear always may."""
        assert MOSQUITTO_PASSWD
        made = self._logins.with_suffix(".new")
        for who, word in ((EAR, EAR), (ENGINE, password)):
            made.touch()
            subprocess.run([MOSQUITTO_PASSWD, "-b", str(made), who, word], check=True, capture_output=True)
        made.replace(self._logins)

    def sent(self, now: float) -> int:
        """How many samples the device has taken by a moment of LSL time."""
        return int(((now - self.begun) * self.speed + self._ahead_s) * 100)


def _mount(folder: Path) -> bool:
    """Make a small disk there, where that is permitted."""
    folder.mkdir()
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "chaos", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def until(condition: Callable[[], bool], seconds: float, look_s: float = LOOK_S) -> bool:
    """Wait until a callable says yes; whether it did in time.

    Time is counted in looks: on a machine that is too busy to look so often, patience lasts longer.
    """
    for _ in range(round(seconds / look_s)):
        if condition():
            return True
        await asyncio.sleep(look_s)
    return condition()
