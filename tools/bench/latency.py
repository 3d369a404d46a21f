"""From the arrival of a hop's last sample to its publication, its receipt, and what a trigger does, in ms.

`published` is when the engine has published the stage, `received` when a subscriber of the embedded broker
has it. A trigger fires at every hop: `trigger_mqtt` is when the subscriber has its event, `trigger_marker`
when an LSL inlet has its marker, `trigger_ttl` how late its byte has left for a serial port, for which a
pseudo-terminal stands. The source is simulated, at hop 1 s and five times real time. All is one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import threading
import time
import tty
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiomqtt

from streamer.clock import SystemClock
from streamer.commands.driving import spare_garbage
from streamer.live.engine import Engine
from streamer.messages import STAGES
from streamer.news import News, Opened
from streamer.payloads import StagePayload
from streamer.settings import Settings, validate
from tools.bench.figures import Asked, Figures, percentiles

PORT = 18831
HOURS, SPEED = 0.1, 5.0  # of signal; times real time
WANTED = {"received_p99_ms": ("<=", 20.0), "trigger_mqtt_p99_ms": ("<=", 20.0)}
PREFIX = "sleepstream-bench"
LOOPBACK = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
ListenAddress = 127.0.0.1
[lab]
KnownPeers = {127.0.0.1}
[log]
level = -3
"""


def measure(asked: Asked) -> Figures:
    """Measure six minutes of night with the packaged model, and every outlet at once."""
    figures: Figures = {}
    for outlet, values_ms in asyncio.run(_latencies()).items():
        figures |= percentiles(outlet, values_ms)
    return figures


class _Watcher:
    """Waits for the outlets to be there, and notes when the last sample of each stage came."""

    name = "the bench"
    wants: tuple[type, ...] = (Opened, StagePayload)
    prompt = True

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.published_ms: list[float] = []  # after the arrival
        self.arrived: dict[int, float] = {}  # number of the stage -> Unix s

    def hear(self, stream: str, news: News) -> None:
        """They are there; or note what the engine says of its own latency."""
        if isinstance(news, Opened):
            self.ready.set()
        elif isinstance(news, StagePayload) and news.latency_ms is not None:
            self.published_ms.append(news.latency_ms)
            self.arrived[news.seq] = time.time() - news.latency_ms / 1000


def _record(opened: threading.Event, ended: threading.Event) -> dict[str, float]:
    """A real inlet, as LabRecorder has one: when each marker came, in Unix s."""
    import pylsl

    came: dict[str, float] = {}
    found: list[Any] = pylsl.resolve_byprop("name", f"{PREFIX}-sleeper-markers", timeout=20)
    inlet = pylsl.StreamInlet(found[0])
    inlet.open_stream(timeout=20)
    opened.set()
    while not ended.is_set():
        values, _ = inlet.pull_sample(timeout=0.5)
        if values is not None:
            came[values[0]] = time.time()
    return came


def _settings(folder: Path, terminal: str) -> Settings:
    trigger = {"name": "any", "stages": STAGES, "min_probability": 0, "quality": "off", "warmup": True}
    stream = {
        "hop_s": 1,
        "source": {"kind": "simulated", "hours": HOURS, "rate_hz": 256, "speed": SPEED},
        "trigger": [{**trigger, "arousal": None}],
        "ttl": {"port": terminal, "pulse_ms": 0, "file": str(folder / "ttl.jsonl")},
    }
    mqtt, lsl = {"port": PORT, "embedded": True}, {"prefix": PREFIX}
    return validate({"session_dir": str(folder), "mqtt": mqtt, "lsl": lsl, "stream": [stream]}, "bench")


async def _latencies() -> dict[str, list[float]]:
    """Milliseconds from the last sample's arrival to each outlet, of every hop.

    `published` and `trigger_marker_pushed` are what the engine records itself; the others are taken where
    they arrive and add up to 1 ms of rounding.
    """
    with tempfile.TemporaryDirectory() as made, _terminal() as terminal:
        folder = Path(made)
        (folder / "lsl_api.cfg").write_text(LOOPBACK, encoding="utf-8")
        os.environ.setdefault("LSLAPICFG", str(folder / "lsl_api.cfg"))  # liblsl reads it at its first call
        watcher = _Watcher()
        engine = Engine(_settings(folder, terminal), SystemClock(), watcher, begun=spare_garbage)
        running = asyncio.create_task(engine.run(), name="bench engine")
        await watcher.ready.wait()
        heard: list[tuple[float, dict[str, Any]]] = []
        opened, ended = threading.Event(), threading.Event()
        recording = asyncio.create_task(asyncio.to_thread(_record, opened, ended), name="bench recorder")
        listening = asyncio.create_task(_listen(heard), name="bench subscriber")
        await asyncio.to_thread(opened.wait, 20)
        await running
        ended.set()
        came = await recording
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):  # its broker may be gone
            await listening
        ttl = (folder / "ttl.jsonl").read_text(encoding="utf-8").splitlines()
    received = [
        (now - watcher.arrived[message["seq"]]) * 1000
        for now, message in heard
        if message["schema"] == "sleepstream/stage/1" and message["seq"] in watcher.arrived
    ]
    found = {"published": watcher.published_ms, "received": received}
    found["trigger_ttl"] = [json.loads(line)["late_ms"] for line in ttl]
    return found | _of_triggers([one for one in heard if "event" in one[1]], came)


@contextlib.contextmanager
def _terminal() -> Iterator[str]:
    """A pseudo-terminal that takes bytes as they are; its name."""
    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs)
        yield os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


async def _listen(heard: list[tuple[float, dict[str, Any]]]) -> None:
    async with aiomqtt.Client("127.0.0.1", PORT) as client:
        for kind in ("event", "stage"):
            await client.subscribe(f"sleepstream/+/+/{kind}", qos=0)
        async for message in client.messages:
            now = time.time()
            assert isinstance(message.payload, bytes)
            heard.append((now, json.loads(message.payload)))


def _of_triggers(heard: list[tuple[float, dict[str, Any]]], came: dict[str, float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"trigger_marker_pushed": [], "trigger_marker": [], "trigger_mqtt": []}
    first = {event["seq"]: (now, event) for now, event in reversed(heard)}  # an event may come twice
    for now, event in first.values():
        if "latency_ms" not in event["data"]:  # the end of the night has no arrival
            continue
        pushed_ms = float(event["data"]["latency_ms"])
        arrived = datetime.fromisoformat(event["t"]).timestamp() - pushed_ms / 1000
        found["trigger_marker_pushed"].append(pushed_ms)
        found["trigger_mqtt"].append((now - arrived) * 1000)
        if (at := came.get(f"Trigger: {event['text']}")) is not None:
            found["trigger_marker"].append((at - arrived) * 1000)
    return found
