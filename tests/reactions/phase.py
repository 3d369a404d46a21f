"""How well the phase of slow waves is met: `python -m tests.reactions.phase [EDF ...]`.

Simulated slow waves, and recordings if any are named, pass through the engine's own staging, trigger and
prediction, 50 ms at a time. The phase at each predicted moment is then read from the whole signal, filtered
to 0.5-2 Hz forwards and backwards, which no live system can do. No scorer's labels are looked at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.signal import butter, hilbert, sosfiltfilt

from streamer.errors import SleepstreamError
from streamer.fallback import make_derivation
from streamer.messages import RATE_HZ, Channel, Chunk, Floats, Score, StreamInfo
from streamer.network.stager import open_model
from streamer.pipeline import Pipeline
from streamer.reactions.phase import UpStates
from streamer.reactions.settings import PhaseSettings, TriggerSettings
from streamer.reactions.triggers import Course, Trigger
from streamer.settings import ModelSettings, SignalSettings
from streamer.sources.recordings import open_recording
from streamer.sources.replay import pick

PIECE_S = 0.05  # as a device sends it
HOP_S = 2
SEED, MINUTES = 1, 20  # of simulated slow waves
WAVE_HZ, WAVE_UV, NOISE_UV = 0.85, 40.0, 15.0  # middle of their frequencies, their amplitudes; the rest


def simulated(rate_hz: float, minutes: float, seed: int) -> Floats:
    """Slow waves whose frequency and height wander, in 1/f noise: (n,) µV."""
    rng = np.random.default_rng(seed)
    count = round(minutes * 60 * rate_hz)

    def wander(span_s: float, spread: float) -> Floats:
        window = np.hanning(round(span_s * rate_hz))
        noise = rng.standard_normal(count + window.size - 1)
        return np.exp(spread * np.convolve(noise, window / np.sqrt((window**2).sum()), "valid"))

    phase = 2 * np.pi * np.cumsum(WAVE_HZ * wander(4, 0.2)) / rate_hz
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum[1:] /= np.fft.rfftfreq(count, 1 / rate_hz)[1:] ** 0.75
    spectrum[0] = 0
    pink = np.fft.irfft(spectrum, count)
    waves: Floats = WAVE_UV * wander(8, 0.4) * np.cos(phase) + NOISE_UV * pink / pink.std()
    return waves


def met(samples: Floats, info: StreamInfo, signal: SignalSettings, trigger: TriggerSettings | None) -> Floats:
    """Phase errors in degrees at each moment that was chosen: negative is too early.

    Args:
        samples: (channels, n) in the units of `info`.
        info: of the recording.
        signal: which channel.
        trigger: its rules; None: any moment will do, without stages.

    """
    wants = PhaseSettings() if trigger is None or trigger.phase is None else trigger.phase
    upstates = UpStates(info, signal, wants)
    gate = None if trigger is None else Trigger(trigger, "bench")
    model = None if gate is None else Pipeline(info, signal, HOP_S, open_model(ModelSettings()))
    course, last = Course(), -np.inf
    chosen: list[float] = []
    for chunk in _pieces(samples, info.rate_hz):
        if model is not None and gate is not None:
            for output in model.push(chunk):
                if isinstance(output, Score):
                    course.push(output)
                    gate.push(output, 0.0, course)
        for due in upstates.push(chunk, gate is None or gate.ready):
            if gate is not None:
                if gate.strike(round(due.at)) is None:
                    continue
            elif due.at - last < 2.5 * RATE_HZ:
                continue
            last = due.at
            chosen.append(due.at)
    return _errors(_one(samples, info, signal), info.rate_hz, np.array(chosen), wants.target_deg)


def _pieces(samples: Floats, rate_hz: float) -> Iterator[Chunk]:
    size = max(1, round(PIECE_S * rate_hz))
    for start in range(0, samples.shape[1], size):
        yield Chunk(start, samples[:, start : start + size])


def _one(samples: Floats, info: StreamInfo, signal: SignalSettings) -> Floats:
    """The one channel that was staged."""
    out = np.zeros(samples.shape[1])
    for item in make_derivation(info, signal).push(Chunk(0, samples)):
        if isinstance(item, Chunk):
            out[item.start : item.stop] = item.samples[0]
    return out


def _errors(samples: Floats, rate_hz: float, at: Floats, target_deg: float) -> Floats:
    """By a filter that looks both ways."""
    band = butter(2, (0.5, 2.0), "bandpass", fs=rate_hz, output="sos")
    wave = hilbert(sosfiltfilt(band, samples - np.median(samples)))
    place = np.round(at / RATE_HZ * rate_hz).astype(int)
    place = place[place < samples.shape[0]]
    return np.degrees(np.angle(wave[place] * np.exp(-1j * np.radians(target_deg))))


def summed(errors_deg: Floats) -> str:
    """Circular mean and s.d., and how many met the half of the wave that was meant."""
    if errors_deg.size < 2:
        return f"{errors_deg.size:5d} stimuli"
    mean = np.exp(1j * np.radians(errors_deg)).mean()
    spread = np.degrees(np.sqrt(-2 * np.log(abs(mean))))
    half = 100 * np.mean(np.abs(errors_deg) < 90)
    return (
        f"{errors_deg.size:5d} stimuli, phase error {np.degrees(np.angle(mean)):+6.1f} ± {spread:4.1f}°, "
        f"{half:3.0f} % within 90°"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each signal, and one for all recordings."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reactions.phase",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recordings", nargs="*", type=Path, metavar="EDF")
    parser.add_argument("--channel", help="to look at; default: what the engine would stage")
    parser.add_argument("--stages", default="N2,N3", help="in which to fire (default: %(default)s)")
    asked = parser.parse_args(arguments)
    signal = SignalSettings(channel=asked.channel)
    rules = {"name": "phase", "stages": asked.stages.split(","), "refractory_s": 2.5, "warmup": True}
    trigger = TriggerSettings.model_validate({**rules, "phase": {}})
    info = StreamInfo("simulated", 256.0, (Channel("C3", "uV"),), 0.0)
    errors = met(simulated(256.0, MINUTES, SEED)[None], info, SignalSettings(), None)
    print(f"{'simulated slow waves':24}{summed(errors)}")
    found = []
    try:
        for path in asked.recordings:
            recording = open_recording(path)
            picked, info = pick(recording, signal.channel)
            whole = [item.samples for item in recording.items(picked) if isinstance(item, Chunk)]
            found.append(met(np.concatenate(whole, axis=1), info, signal, trigger))
            print(f"{path.name:24}{summed(found[-1])}", flush=True)
    except SleepstreamError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if len(found) > 1:
        print(f"{'all recordings':24}{summed(np.concatenate(found))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
