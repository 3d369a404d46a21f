"""From the arrival of a hop's last sample to its publication, through the whole engine."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from streamer.clock import SystemClock
from streamer.engine import Engine
from streamer.messages import StreamInfo
from streamer.payloads import EventPayload, StagePayload
from streamer.settings import validate
from streamer.sinks.mqtt import MqttStatus
from tools.bench.figures import Asked, Figures, percentiles
from tools.bench.signals import RATE_HZ
from tools.bench.triggers import trigger_latency

WANTED = {"trigger_mqtt_p99_ms": ("<=", 20.0)}


def measure(asked: Asked) -> Figures:
    """Measure at hop 1 s, with the embedded broker."""
    figures = asyncio.run(through_the_engine())
    for outlet, values_ms in asyncio.run(trigger_latency(18831)).items():
        figures |= percentiles(f"trigger_{outlet}", values_ms)
    return figures


class _Latencies:
    """Collects what the engine says of its own latency."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def started(self, stream: str, info: StreamInfo, channel: str, session: Path) -> None:
        """Nothing to note."""

    def staged(self, stream: str, payload: StagePayload) -> None:
        """Note the time from the last sample's arrival to this publication."""
        if payload.latency_ms is not None:
            self.ms.append(payload.latency_ms)

    def happened(self, stream: str, payload: EventPayload) -> None:
        """Nothing to note."""

    def broker(self, status: MqttStatus) -> None:
        """Nothing to note."""


async def through_the_engine() -> Figures:
    """Latency of the whole engine at hop 1 s and 20 times real time: source, journal, model, broker."""
    seen = _Latencies()
    with tempfile.TemporaryDirectory() as folder:
        settings = validate(
            {
                "session_dir": folder,
                "mqtt": {"embedded": True, "port": 18830},
                "stream": [
                    {
                        "hop_s": 1,
                        "source": {"kind": "simulated", "hours": 0.2, "rate_hz": RATE_HZ, "speed": 20},
                    }
                ],
            },
            "bench",
        )
        await Engine(settings, SystemClock(), seen).run()
    return percentiles("engine", seen.ms)
