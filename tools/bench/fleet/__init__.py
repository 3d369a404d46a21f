"""Many sleepers and one broker: real engines first, then what they said from ever more connections.

The engines are real (`sleepstream run`, simulated sources, real time), and so is mosquitto. What that carries
is more than the engines of one machine can say: from then on the newest message of each kind is replayed.
Everything shares the machine: the knee is that of broker, replay and subscriber together.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from streamer.errors import RunError
from tools.bench.figures import SLEEPSTREAM, Asked, Figures, percentiles
from tools.bench.fleet.traffic import CYCLE_S, Heard, Listener, send
from tools.mosquitto import mosquitto

PORT = 18843
SLEEPERS = 8  # of real engines
PROCESSES = 2  # of engines, and of replay
SECONDS = 31  # an epoch of each
SETTLE_S = 120.0  # for the engines to load, and 30 s of signal to pass
REPLAY_S = 10
FIRST = 250  # sleepers replayed; doubled from step to step
MOST = 64_000
LATE_MS = 100.0  # p99 beyond which a step counts as too much
LOST = 0.01  # likewise the share of messages that never came
BEHIND_S = 0.25  # beyond, it was the replay that could not keep up
TRIES = 3  # of a step: on a shared machine the first may be a neighbour's fault
NIGHT_S = 8 * 3600
STOP_S = 30.0  # for an engine to end by itself
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
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


def measure(asked: Asked) -> Figures:
    """Measure real engines, then replay ever more of their sleepers."""
    real = asked.fleet or SLEEPERS
    with mosquitto(PORT) as broker, Listener(PORT) as listener:
        _, figures = _real(broker, listener, real, 30)
        heard, at_most = _real(broker, listener, real, 1)
        figures |= at_most | percentiles("engines_hop1", _from_last_sample_ms(heard))
        figures |= _night(heard)
        sleepers, knee = FIRST, 0
        while sleepers <= MOST:
            for _ in range(TRIES):
                step = _replay(broker, listener, heard, sleepers)
                if step["verdict"] == "carried":
                    break
            figures |= {f"replay_{sleepers}_{name}": value for name, value in step.items()}
            if step["verdict"] != "carried":
                break
            sleepers, knee = 2 * sleepers, sleepers
    figures["replay_carried_sleepers"] = knee
    return figures


def _real(broker: int, listener: Listener, sleepers: int, hop_s: int) -> tuple[Heard, Figures]:
    """What real engines say and cost while they stage all sleepers at a hop."""
    listener.take()
    with tempfile.TemporaryDirectory() as folder, _engines(Path(folder), sleepers, hop_s) as pids:
        there: set[bytes] = set()
        patience = time.monotonic() + SETTLE_S
        while len(there) < sleepers:
            if time.monotonic() > patience:
                raise RunError(f"{sleepers} sleepers: not all were staged in {SETTLE_S:.0f} s; ask for fewer")
            time.sleep(0.5)
            there |= listener.take().sleepers
        listener.take()
        began, before = time.monotonic(), [sum(map(_cpu_s, pids)), _cpu_s(broker)]
        time.sleep(SECONDS)
        heard, seconds = listener.take(), time.monotonic() - began
        engines_s, broker_s = np.subtract([sum(map(_cpu_s, pids)), _cpu_s(broker)], before)
    share = float(engines_s) / seconds / sleepers
    name = f"engines_hop{hop_s}"
    return heard, {
        "engines_sleepers": sleepers,
        "engines_processes": len(pids),
        f"{name}_stages_lost_share": max(0.0, 1 - heard.messages["stage"] / (sleepers * (seconds // hop_s))),
        f"{name}_cpu_share_per_sleeper": share,
        f"{name}_cpu_s_per_sleeper_and_night": share * NIGHT_S,
        f"{name}_broker_cpu_share": float(broker_s) / seconds,
    }


@contextmanager
def _engines(folder: Path, sleepers: int, hop_s: int) -> Iterator[list[int]]:
    """Processes of `sleepstream run`, each with some simulated sleepers in real time; their ids."""
    processes = []
    try:
        for node in range(min(PROCESSES, sleepers)):
            config = folder / f"node{node}.toml"
            text = CONFIG.format(node=node, folder=folder / f"node{node}", port=PORT)
            for number in range(node, sleepers, PROCESSES):
                text += STREAM.format(number=number, hop_s=hop_s)
            config.write_text(text, encoding="utf-8")
            command = [*SLEEPSTREAM, "run", str(config), "--log", "json"]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _night(heard: Heard) -> Figures:
    """Messages and bytes of a sleeper's night of 8 h by hop, from what one says at hop 1 s."""
    size = {kind: heard.size[kind] / heard.messages[kind] for kind in ("stage", "epoch", "summary")}
    figures: Figures = {f"bytes_per_{kind}": value for kind, value in size.items()}
    epochs = NIGHT_S // CYCLE_S
    for hop_s in (1, 5, 30):
        stages = NIGHT_S // hop_s
        figures[f"night_hop{hop_s}_messages"] = stages + 2 * epochs
        said = stages * size["stage"] + epochs * (size["epoch"] + size["summary"])
        figures[f"night_hop{hop_s}_mb"] = said / 1e6
    return figures


def _replay(broker: int, listener: Listener, heard: Heard, sleepers: int) -> Figures:
    """One step: so many sleepers for a while."""
    spawn = get_context("spawn")
    ready, results = spawn.Barrier(PROCESSES + 1), spawn.SimpleQueue()
    for number in range(PROCESSES):
        arguments = (PORT, heard.newest, range(number, sleepers, PROCESSES), REPLAY_S, ready, results)
        spawn.Process(target=send, args=arguments, name=f"replay {number}", daemon=True).start()
    ready.wait(SETTLE_S)
    listener.take()
    before, began = _cpu_s(broker), time.monotonic()
    time.sleep(REPLAY_S)
    share = (_cpu_s(broker) - before) / (time.monotonic() - began)
    sent = [results.get() for _ in range(PROCESSES)]
    now = listener.take()
    messages = sum(one.messages for one in sent)
    lost = 1 - sum(now.messages.values()) / messages
    behind_s = max(one.behind_s for one in sent)
    figures: Figures = {
        "messages_per_s": messages / REPLAY_S,
        "lost_share": lost,
        "broker_cpu_share": share,
        "broker_cpu_us_per_message": share * REPLAY_S / messages * 1e6,
        "replay_behind_s": behind_s,
    }
    p99_ms = float(np.percentile(now.late_ms, 99))
    too_much = "too late" if p99_ms > LATE_MS else "lost" if lost > LOST else "carried"
    verdict = "the replay could not keep up" if behind_s > BEHIND_S else too_much
    return figures | percentiles("late", now.late_ms) | {"verdict": verdict}


def _from_last_sample_ms(heard: Heard) -> list[float]:
    """From the arrival of a stage's last sample at its engine to the subscriber.

    A simulated night begins a little after the time that its first sample claims, by something else for each
    sleeper. It is found from the message that took the least time beyond what its engine says of itself.
    """
    offsets: dict[bytes, float] = {}
    for late_ms, (sleeper, said_ms) in zip(heard.late_ms, heard.said_ms, strict=True):
        offsets[sleeper] = min(offsets.get(sleeper, float("inf")), late_ms - said_ms)
    return [
        late_ms - offsets[sleeper] for late_ms, (sleeper, _) in zip(heard.late_ms, heard.said_ms, strict=True)
    ]
