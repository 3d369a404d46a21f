"""The network on a server: what a window costs in time and bytes, and what a client saves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from streamer.errors import RunError
from streamer.messages import EPOCH_SAMPLES, Window
from streamer.network.stager import Model
from streamer.network.staging import Stager, opened
from streamer.remote import stateless
from streamer.remote.kserve import DATATYPES, pack_request, pack_response
from streamer.remote.settings import RemoteSettings
from streamer.settings import ModelSettings
from streamer.spectrogram import BINS
from streamer.window import COLUMNS
from tools.bench.figures import Asked, Figures, percentiles
from tools.mosquitto import free_port

WINDOWS = 300
WARM = 30
NIGHT_EPOCHS = 960
CLIENT = """
import sys
from pathlib import Path
import streamer.live.engine
from streamer.settings import ModelSettings
from streamer.network.staging import opened
model = opened(ModelSettings(**({"remote": {"url": "http://127.0.0.1:9"}} if sys.argv[1] == "thin" else {})))
import streamer.pipeline, streamer.sinks.mqtt, streamer.sources.lsl
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
"""


def measure(asked: Asked) -> Figures:
    """Measure one client of `tools.serve` beside the same network in this process, in turn."""
    figures: Figures = {
        f"{kind}_engine_resident_mb": int(_python("-c", CLIENT, kind)) / 1024 for kind in ("thin", "whole")
    }
    with _server() as url:
        here, there = (
            opened(ModelSettings()),
            opened(ModelSettings(remote=RemoteSettings(url=url, timeout_s=30))),
        )
        took: dict[str, list[float]] = {"here": [], "there": []}
        for name, model in (("here", here), ("there", there)):
            before = time.process_time()
            took[name] = _window_ms(model)
            figures[f"{name}_client_cpu_ms"] = (time.process_time() - before) / WINDOWS * 1000
            figures |= percentiles(f"{name}_window", took[name][WARM:])
        there.close()
    return figures | _bytes(Model.load())


def _window_ms(model: Stager) -> list[float]:
    """Stage epochs, one after the other."""
    rng = np.random.default_rng(0)
    session, took = model.session(), []
    for epoch in range(WINDOWS):
        samples = rng.normal(0, 20, EPOCH_SAMPLES).astype(np.float32)
        spectrogram = rng.normal(35, 10, (COLUMNS, BINS)).astype(np.float32)
        window = Window(EPOCH_SAMPLES * (epoch + 1), epoch, samples, spectrogram)
        began = time.perf_counter()
        staged = session.score(window, usable=True)
        took.append((time.perf_counter() - began) * 1000)
        if staged.trouble:
            raise RunError(staged.trouble)
    return took


def _bytes(model: Model) -> Figures:
    """Bodies of what goes there and comes back, and both over a night."""
    memory = stateless.memory_shape(model)
    there, back = (
        {name: np.zeros((1, *kind.shape), DATATYPES[kind.datatype]) for name, kind in kinds(memory).items()}
        for kinds in (stateless.inputs, stateless.outputs)
    )
    few = {name: back[name] for name in (stateless.LOGITS, stateless.WEIGHTS)}
    asked_kb = len(pack_request(there, list(back)).body) / 1000
    told_kb, provisional_kb = (len(pack_response(one, "").body) / 1000 for one in (back, few))
    return {
        "asked_kb": asked_kb,
        "told_kb": told_kb,
        "told_provisional_kb": provisional_kb,
        "night_hop30_mb": NIGHT_EPOCHS * (asked_kb + told_kb) / 1000,
        "night_hop1_mb": NIGHT_EPOCHS * (30 * asked_kb + told_kb + 29 * provisional_kb) / 1000,
    }


@contextmanager
def _server() -> Iterator[str]:
    """Run `tools.serve`; its address."""
    port = free_port()
    command = [sys.executable, "-m", "tools.serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as server:
        try:
            assert server.stdout
            if not any(line.startswith("serving") for line in server.stdout):
                raise RunError("tools.serve did not start; run it to see why")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True).stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
