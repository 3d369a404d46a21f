"""What the engine weighs: on the disk, in memory, on the way to a phone, and on the card that it records to.

`installed_mb` is a fresh environment after `pip install .`, less what an empty one holds. `run_mb` and
`run_most_mb` are the resident memory of `sleepstream run` with one stream, a broker and the page of its own,
at the end of a simulated night and at most. `script_kb` is what the page loads, not compressed. `written_mb`
is what the kernel sent to the disk for a night of four channels at 256 Hz, by /proc/PID/io: transactions as
the journal makes them, with their log, its way into the file, and everything that is synchronised.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from streamer.journal import Meta
from streamer.journal import file as session_file
from streamer.journal.file import Batch, Block
from streamer.journal.writer import COMMIT_S
from streamer.messages import EPOCH_S, Channel, StreamInfo
from streamer.web.server import STATIC
from tools.bench.figures import SLEEPSTREAM, Asked, Figures, Wanted
from tools.bench.signals import RATE_HZ

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = tuple(Channel(label, "uV") for label in ("TP9", "AF7", "AF8", "TP10"))
BODY = "x" * 420  # as long as an epoch's payload
WRITTEN_H = 1.0  # that is written; a night has so many times that
LOOK_S = 0.05
WANTED: Wanted = {"installed_mb": ("<=", 550.0), "run_most_mb": ("<=", 170.0), "script_kb": ("<=", 300.0)}
SETTINGS = """
session_dir = "nights"
[mqtt]
embedded = true
port = 18842
[web]
port = 0
[[stream]]
hop_s = 5
[stream.source]
kind = "simulated"
rate_hz = 256
hours = {hours}
speed = "max"
"""


def measure(asked: Asked) -> Figures:
    """Measure all four; the journal's share first, while this process has written nothing else."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as made:  # /tmp may be memory, where nothing is written
        folder = Path(made)
        written = write_night(folder / "night.sqlite")
        figures: Figures = {"installed_mb": installed_mb(folder / "fresh")}
        figures |= memory(folder / "run", asked.hours)
    figures["script_kb"] = script_bytes() / 1000
    return figures | {name: value * asked.hours / WRITTEN_H for name, value in written.items()}


def installed_mb(folder: Path) -> float:
    """What `pip install .` adds to an empty environment, in MB of files."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    empty = size_of(folder)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(ROOT)], check=True, cwd=folder)
    return (size_of(folder) - empty) / 1e6


def size_of(folder: Path) -> int:
    """Of all files in a folder, in bytes."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def memory(folder: Path, hours: float) -> Figures:
    """Resident memory of the command over a simulated night, MB."""
    folder.mkdir()
    (folder / "settings.toml").write_text(SETTINGS.format(hours=hours), encoding="utf-8")
    command = [*SLEEPSTREAM, "run", "settings.toml", "--log", "text"]
    found = [0.0]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        while running.poll() is None:
            with contextlib.suppress(OSError):  # it may be gone
                status = Path(f"/proc/{running.pid}/status").read_text(encoding="utf-8")
                found += [int(kib) / 1024 for kib in re.findall(r"VmRSS:\s+(\d+)", status)]
            time.sleep(LOOK_S)
    if running.returncode:
        raise SystemExit((folder / "log").read_text(encoding="utf-8"))
    return {"run_mb": found[-1], "run_most_mb": max(found)}


def script_bytes() -> int:
    """Of every script that the page names."""
    named = re.findall(r'<script src="([^"]+)"', (STATIC / "index.html").read_text(encoding="utf-8"))
    return sum((STATIC / name).stat().st_size for name in named)


def write_night(path: Path) -> dict[str, float]:
    """Write WRITTEN_H hours as the journal does, without waiting for them; MB, and what is recorded."""
    info = StreamInfo("bench", RATE_HZ, CHANNELS, 0.0)
    rng = np.random.default_rng(0)
    before = _written()
    db = session_file.create(path, Meta("bench", "bench", "bench", info))
    pen = db.cursor()
    n, stop, epoch = int(COMMIT_S * RATE_HZ), int(WRITTEN_H * 3600 * RATE_HZ), 0
    for start in range(0, stop, n):
        samples = rng.standard_normal((len(CHANNELS), n)).astype("<f4")
        batch = Batch(blocks=[Block(start, 0.0, 0.0, samples)])
        if (start + n) // (EPOCH_S * RATE_HZ) > epoch:  # the epoch that ended, its message, and its receipt
            values = (epoch, epoch, "", "", "N2", "N2", 0.9, BODY)
            batch.rows.append(("INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values))
            batch.rows.append(("INSERT INTO outbox VALUES (?, 'epoch', ?, 0)", (epoch, BODY)))
            batch.rows.append(("DELETE FROM outbox WHERE id = ?", (epoch - 1,)))
            epoch += 1
        session_file.write(pen, batch)
    db.close()
    return {"written_mb": (_written() - before) / 1e6, "recorded_mb": path.stat().st_size / 1e6}


def _written() -> int:
    """Bytes that this process has had sent to the disk."""
    text = Path("/proc/self/io").read_text(encoding="utf-8")
    return int(dict(line.split(": ") for line in text.splitlines())["write_bytes"])
