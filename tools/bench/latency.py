"""From the arrival of a hop's last sample to its publication and its receipt, through the whole engine.

`published` is when the engine has said it, `received` when a subscriber of the embedded broker has it; the
source is simulated, at hop 1 s and five times real time.
"""

from __future__ import annotations

import asyncio

from tools.bench.figures import Asked, Figures, percentiles
from tools.bench.triggers import outlet_latency

PORT = 18831
WANTED = {"received_p99_ms": ("<=", 20.0), "trigger_mqtt_p99_ms": ("<=", 20.0)}


def measure(asked: Asked) -> Figures:
    """Measure six minutes of night with the packaged model, and every outlet at once."""
    figures: Figures = {}
    for outlet, values_ms in asyncio.run(outlet_latency(PORT)).items():
        figures |= percentiles(outlet, values_ms)
    return figures
