"""What chaos happens to: the engine, the device and the broker as real processes, a cable, a small disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pylsl

from tools.chaos_engine import STEP_FILE

ROOT = Path(__file__).parents[1]
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
LSL = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
ListenAddress = 127.0.0.1
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = sleepstream-chaos-{pid}
[log]
level = -3
"""
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
"""
DISK_MB = 48


class Process:
    """A program that is killed and started again."""

    def __init__(
        self, *command: str, environment: dict[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.command = command
        self.log = log
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.runs:
            return
        with open(self.log or os.devnull, "ab") as out:
            self._process = subprocess.Popen(
                self.command, cwd=ROOT, env=self._environment, stdout=out, stderr=subprocess.STDOUT
            )

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL, patience_s: float = 30.0) -> int | None:
        """Signal it, and wait until it has ended; its exit code."""
        self.send(number)
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return await asyncio.to_thread(self._process.wait, patience_s)
        self._process.kill()
        self._process.wait()
        return None


class Cable:
    """A TCP link from the engine to the broker that can be cut, held and throttled."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.open = True  # else new connections are cut at once
        self.pause_s = 0.0  # before each piece of 1 kB is passed on
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def lay(self) -> None:
        """Listen on a free loopback port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def remove(self) -> None:
        """Cut everything and stop listening."""
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut(self) -> None:
        """Both ends lose their connections without a goodbye."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def hold(self) -> None:
        """Packets are dropped, not refused: connections stay up, and nothing gets through."""
        self._flows.clear()

    def release(self) -> None:
        """Let everything through."""
        self._flows.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self.open:
                raise OSError
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(source, sink), name="cable")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1024):
                await asyncio.sleep(self.pause_s)
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            return  # cut
        finally:
            sink.close()


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
                async with aiomqtt.Client("127.0.0.1", self._port, identifier="ear", timeout=2) as client:
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

    def __init__(self, folder: Path, broker_port: int, speed: float) -> None:
        assert MOSQUITTO, "mosquitto is not installed"
        self.folder = folder
        self.sessions = folder / "sessions"
        self.config = folder / "chaos.toml"
        self.begun = pylsl.local_clock()
        self.speed = speed
        lsl = folder / "lsl_api.cfg"
        lsl.write_text(LSL.format(pid=os.getpid()))
        conf = folder / "mosquitto.conf"
        conf.write_text(
            f"listener {broker_port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n"
        )
        self.broker = Process(MOSQUITTO, "-c", str(conf))
        where = {"LSLAPICFG": str(lsl)}
        self.engine = Process(
            sys.executable,
            "-m",
            "tools.chaos_engine",
            str(self.config),
            environment=where,
            log=folder / "engine.log",
        )
        self.outlet = Process(
            sys.executable, "-m", "tools.chaos_outlet", str(self.begun), str(speed), environment=where
        )
        self.cable = Cable(broker_port)
        self.ear = Ear(broker_port)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; end everything."""
        self.mounted = _mount(self.sessions)
        await self.cable.lay()
        self.config.write_text(CONFIG.format(sessions=self.sessions, port=self.cable.port))
        ear = asyncio.create_task(self.ear.listen(), name="ear")
        try:
            self.broker.start()
            self.outlet.start()
            await self.ear.listens.wait()
            self.engine.start()
            yield
        finally:
            await self.engine.end()
            await self.outlet.end()
            ear.cancel()
            await asyncio.wait([ear])
            await self.broker.end()
            await self.cable.remove()

    def close(self) -> None:
        """Give the small disk back; what was on it is gone."""
        if self.mounted:
            subprocess.run(["umount", str(self.sessions)], check=True)

    def step_clock(self, seconds: float) -> None:
        """Set the engine's wall clock wrong by so much."""
        (self.folder / STEP_FILE).write_text(str(seconds))

    def sent(self, now: float) -> int:
        """How many samples the device has taken by a moment of LSL time."""
        return int((now - self.begun) * self.speed * 100)


def _mount(folder: Path) -> bool:
    """Make a small disk there, where that is permitted."""
    folder.mkdir()
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "chaos", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def until(condition: object, seconds: float, look_s: float = 0.1) -> bool:
    """Wait until a callable says yes; whether it did in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(look_s)
    return True
