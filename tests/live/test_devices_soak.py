"""Four sleepers in one process, in real time: two LSL streams, a BrainFlow board, a simulated night.

`python -m tests.live.test_devices_soak 600` runs it longer and prints the figures.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from streamer.clock import SystemClock
from streamer.live.engine import Engine
from streamer.payloads import EventPayload, StagePayload
from streamer.settings import validate
from tests.lsl_alone import keep_apart

STREAMS = ("lsl-a", "lsl-b", "board", "night")
HOP_S = 2
LEAST = 8  # stages of each
DEAD_S = 8.0  # for which one is away
PATIENCE_S = 120.0  # for them, after the time that was asked for
MINE = "soak"


class Recorder:
    """What each stream says, with how late it was and how large the process had grown."""

    def __init__(self):
        self.latencies = {name: [] for name in STREAMS}
        self.behind = {name: [] for name in STREAMS}  # end of the window to its stage, s
        self.events = {name: [] for name in STREAMS}
        self.lost_s = dict.fromkeys(STREAMS, 0.0)
        self.stages = {name: [] for name in STREAMS}
        self.resident = []

    name = "the recorder"
    wants = (StagePayload, EventPayload)
    prompt = True

    def hear(self, stream, news):
        (self.staged if isinstance(news, StagePayload) else self.happened)(stream, news)

    def enough(self):
        """Whether every stream has said something, and the one that died something since."""
        came_back = self.events["lsl-b"].count("reconnected") >= 2  # the first is of its first samples
        came_back = came_back and self.stages["lsl-b"][-1] != "no_signal"
        return came_back and all(len(self.latencies[name]) >= LEAST for name in STREAMS)

    def staged(self, stream, payload):
        self.stages[stream].append(payload.stage)
        if payload.latency_ms is not None:
            self.latencies[stream].append(payload.latency_ms)
            self.behind[stream].append(time.time() - payload.t_end.timestamp())
        self.resident.append(resident_mb())

    def happened(self, stream, payload):
        self.events[stream].append(payload.event)
        if payload.event == "gap":
            self.lost_s[stream] += payload.data["seconds"]


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Player:
    """`tools.replay` in a process of its own, that can be killed and born again."""

    def __init__(self, folder, name, rate_hz, seed):
        self.name = f"{MINE}-{name}"
        path = folder / f"{name}.csv"
        samples = np.random.default_rng(seed).normal(0, 20, (int(60 * rate_hz), 1))
        np.savetxt(path, samples, fmt="%.3f", header="Fpz-Cz", comments="")
        self._command = [sys.executable, "-m", "tools.replay", path, "--rate", str(rate_hz), "--loop"]
        self._command += ["--name", self.name]
        self.start()

    def start(self):
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def settings(folder, seconds):
    sources = {
        "lsl-a": {"kind": "lsl", "name": f"{MINE}-a", "resolve_s": 30},
        "lsl-b": {"kind": "lsl", "name": f"{MINE}-b", "resolve_s": 30},
        "board": {"kind": "brainflow", "board": "synthetic", "other_info": MINE},
        "night": {"kind": "simulated", "hours": 1 + seconds / 3600, "rate_hz": 256},
    }
    channels = {"board": "C3"}
    return validate(
        {
            "session_dir": str(folder),
            "stream": [
                {
                    "name": name,
                    "hop_s": HOP_S,
                    "silence_s": 4 if name == "lsl-b" else 40,  # only the one that dies is to be silent
                    "source": sources[name],
                    "signal": {"channel": channels[name]} if name in channels else {},
                }
                for name in STREAMS
            ],
        },
        "soak",
    )


async def soak(folder, seconds):
    """Run all four; half-way one LSL outlet is killed, and born again `DEAD_S` later."""
    recorder = Recorder()
    players = [Player(folder, "a", 100, 1), Player(folder, "b", 256, 2)]
    engine = Engine(settings(folder, seconds), SystemClock(), recorder)
    running = asyncio.create_task(engine.run())
    try:
        await asyncio.sleep(max(34, seconds / 2))
        players[1].kill()
        await asyncio.sleep(DEAD_S)
        players[1].start()
        await asyncio.sleep(seconds / 2)
        async with asyncio.timeout(PATIENCE_S):
            while not recorder.enough():  # noqa: ASYNC110 - a machine that does much else
                await asyncio.sleep(1)
        engine.stop()
        outcomes = await asyncio.wait_for(running, 60)
    finally:
        running.cancel()
        await asyncio.wait([running])
        for player in players:
            player.kill()
    return recorder, outcomes


def figures(recorder, outcomes):
    """What the run shows, in numbers."""
    out = {}
    for name in STREAMS:
        late = recorder.latencies[name]
        third = max(1, len(late) // 3)
        out[name] = {
            "stages": len(late),
            "latency_ms_first_third": round(median(late[:third]), 1),
            "latency_ms_last_third": round(median(late[-third:]), 1),
            "latency_ms_p99": round(float(np.percentile(late, 99)), 1),
            "behind_s": [
                round(median(part), 3)
                for part in (recorder.behind[name][:third], recorder.behind[name][-third:])
            ],
            "gaps": recorder.events[name].count("gap"),
            "lost_s": round(recorder.lost_s[name], 1),
            "no_signal": recorder.events[name].count("no_signal"),
            "error": next((str(o.error) for o in outcomes if o.stream == name and o.error), None),
        }
    resident = recorder.resident
    out["resident_mb"] = [round(value) for value in [*resident[:: max(1, len(resident) // 10)], resident[-1]]]
    return out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_streams_hold_and_one_that_dies_leaves_the_others_alone(tmp_path):
    recorder, outcomes = asyncio.run(soak(tmp_path, 0))
    found = figures(recorder, outcomes)
    for name in STREAMS:
        assert found[name]["error"] is None
        assert found[name]["stages"] >= LEAST
        # What grows with the stream is tens of seconds; less is the machine, which may do much else.
        assert found[name]["behind_s"][1] < found[name]["behind_s"][0] + 20
        assert found[name]["latency_ms_last_third"] < found[name]["latency_ms_first_third"] + 20_000
    for name in ("lsl-a", "board", "night"):
        # A machine that stands still loses samples of the board, but never for as long as the other is dead.
        assert found[name]["lost_s"] < DEAD_S / 2, found
        assert found[name]["no_signal"] == 0, found
    assert found["lsl-b"]["no_signal"] >= 1
    assert "gap" in recorder.events["lsl-b"]
    assert recorder.stages["lsl-b"][-1] != "no_signal"
    assert found["resident_mb"][-1] < found["resident_mb"][0] + 60


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        keep_apart(Path(scratch))
        begun, busy = time.monotonic(), time.process_time()
        result = figures(*asyncio.run(soak(Path(scratch), float(sys.argv[1]))))
        result["busy_fraction"] = round((time.process_time() - busy) / (time.monotonic() - begun), 3)
        print(json.dumps(result, indent=1))
