"""An LSL outlet for chaos: the same device before and after it was killed; every sample tells its number."""

from __future__ import annotations

import sys
import time

import numpy as np
import pylsl

NAME = "chaos"
RATE_HZ = 100.0
LOOP_S = 600  # the EEG repeats after that; the counter does not
TICK_S = 0.02
BUFFER_S = (
    6 * 3600
)  # of the night, which is fast, as liblsl counts: six minutes of this machine, as for the engine


def signal() -> np.ndarray:
    """(n,) µV of something like EEG, in turns with and without slow waves; the same each time."""
    n = int(LOOP_S * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(n))
    noise = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(n, 1 / RATE_HZ), 0.5), n)
    t = np.arange(n) / RATE_HZ
    return noise / noise.std() * 12 + 40 * np.sin(2 * np.pi * 0.9 * t) * (np.sin(2 * np.pi * t / 240) > 0.3)


def play(begun: float, speed: float, skipped_s: float) -> None:
    """Send from now on what a device that was switched on at `begun` (LSL time) takes, `speed` times as fast.

    Times run ahead of the clock, as those of a night that lasts minutes must; by now, hours may have been
    skipped in no time.
    """
    info = pylsl.StreamInfo(NAME, "EEG", 2, RATE_HZ, pylsl.cf_double64, "chaos-1")
    channels = info.desc().append_child("channels")
    for label, unit in (("Fpz-Cz", "microvolts"), ("count", "")):
        entry = channels.append_child("channel")
        entry.append_child_value("label", label)
        entry.append_child_value("unit", unit)
    outlet, wave = pylsl.StreamOutlet(info, max_buffered=BUFFER_S), signal()
    skipped = round(skipped_s * RATE_HZ)
    at = skipped + int((pylsl.local_clock() - begun) * speed * RATE_HZ)
    while True:
        ready = skipped + int((pylsl.local_clock() - begun) * speed * RATE_HZ)
        if ready > at:
            numbers = np.arange(at, ready)
            rows = np.stack([wave[numbers % len(wave)], numbers.astype(float)], axis=1)
            outlet.push_chunk(np.ascontiguousarray(rows), list(begun + numbers / RATE_HZ))
            at = ready
        time.sleep(TICK_S)


if __name__ == "__main__":
    play(*map(float, sys.argv[1:4]))
