"""A simulated device: a night of EEG from a seed, with known stages, artefacts and dropouts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamer.clock import Clock, SystemClock
from streamer.messages import EPOCH_S, RATE_HZ, Channel, Chunk, Gap, Item, Stage, StreamInfo
from streamer.sources.night import Figures, hypnogram, measurements
from streamer.sources.replay import MAX_SPEED_CHUNK_S, play
from streamer.sources.settings import SimulatedSettings
from streamer.sources.synthesis import DEFAULT, synthesise, varied

Signal = NDArray[np.float64]

TAPS = 32  # half length of the interpolator at 100 Hz and above, samples at 100 Hz
PHASES = 4096  # positions between two samples; the nearest is used, with an error below -70 dB
RAIL_UV = 1000.0


class SimulatedSource:
    """One channel of EEG over one night; two sources with equal settings give the same samples.

    `truth` holds the stage of every 30 s epoch, also before the source is entered; `info` is set on entering.
    Without `started` in the settings the night begins now. The samples do not depend on the size of the
    chunks or on the speed; artefacts and dropouts depend on the seed, not on the EEG's settings.
    """

    info: StreamInfo
    first = 0  # index at which to begin; set before iterating

    def __init__(self, settings: SimulatedSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self.remarks: deque[str] = deque()
        self._clock = clock or SystemClock()
        n_epochs = math.ceil(settings.hours * 3600 / EPOCH_S)
        self.truth: tuple[Stage, ...] = hypnogram(n_epochs, settings.seed)

    async def __aenter__(self) -> Self:
        """Set the time of the first sample."""
        started = self._settings.started
        self.info = StreamInfo(
            name=f"simulated-{self._settings.seed}",
            rate_hz=self._settings.rate_hz,
            channels=(Channel("EEG Fpz-Cz", "uV"),),
            started=self._clock.wall() if started is None else started.timestamp(),
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing is held open."""

    def __aiter__(self) -> AsyncIterator[Item]:
        """Chunks and gaps in order, each when its last sample would have been recorded."""
        return play(self.items(), self._settings.rate_hz, self._settings.speed, self._clock, self.first)

    def items(self) -> Iterator[Item]:
        """Yield the same items without waiting, with `arrived` 0. Memory does not grow with the night."""
        settings = self._settings
        chunk_s = MAX_SPEED_CHUNK_S if settings.speed == "max" else settings.chunk_s
        size = max(1, round(chunk_s * settings.rate_hz))
        gaps = self._dropouts()
        start = 0
        for samples in self._signal():
            yield from _cut(start, samples, gaps, size)
            start += len(samples)

    def _total(self) -> int:
        return round(self._settings.hours * 3600 * self._settings.rate_hz)

    def _signal(self) -> Iterator[Signal]:
        """Yield the whole night without gaps, µV, in pieces (n,)."""
        settings = self._settings
        measured = measurements(self.truth, settings.seed, Figures.load())
        eeg = synthesise(measured, settings.seed, varied(DEFAULT, settings.seed))
        artefacts = self._artefacts()
        start, total = 0, self._total()
        for piece in resample((part.astype(np.float64) for part in eeg), settings.rate_hz):
            out = settings.gain * piece[: total - start]
            for begin, artefact, railed in artefacts:
                _disturb(out, start, begin, artefact, railed)
            start += len(out)
            yield out

    def _artefacts(self) -> list[tuple[int, Signal, bool]]:
        """Draw the artefacts: first index, samples to add (µV), and whether the amplifier is at its rail."""
        settings = self._settings
        draw = np.random.default_rng([settings.seed, 4])
        found = []
        for at_s in _moments(draw, settings.artefacts_per_hour, settings.hours):
            n = round(draw.uniform(2, 10) * settings.rate_hz)
            railed = bool(draw.random() < 0.25)
            rise = np.hanning(n)
            sway = np.sin(
                2 * np.pi * (draw.uniform(0.3, 1.5) * np.arange(n) / settings.rate_hz + draw.random())
            )
            rough = np.random.default_rng(draw.integers(2**32)).standard_normal(n)
            shape = rise * (draw.uniform(100, 400) * sway + draw.uniform(10, 60) * rough)
            found.append((round(at_s * settings.rate_hz), shape, railed))
        return found

    def _dropouts(self) -> list[Gap]:
        """Draw the gaps of the night: in order and without overlap."""
        settings = self._settings
        draw = np.random.default_rng([settings.seed, 5])
        gaps: list[Gap] = []
        for at_s in _moments(draw, settings.dropouts_per_hour, settings.hours):
            start = round(at_s * settings.rate_hz)
            stop = start + max(1, round(draw.exponential(settings.dropout_s) * settings.rate_hz))
            if start > (gaps[-1].stop if gaps else 0) and start < self._total():
                gaps.append(Gap(start, min(stop, self._total()), "simulated dropout"))
        return gaps


def _moments(draw: np.random.Generator, per_hour: float, hours: float) -> list[float]:
    """Draw the sorted times, s, of events that occur `per_hour` times an hour on average."""
    count = draw.poisson(per_hour * hours)
    return sorted(draw.uniform(0, hours * 3600, count).tolist())


def _disturb(out: Signal, start: int, begin: int, artefact: Signal, railed: bool) -> None:
    """Add the part of an artefact that falls into `out`, whose first sample has the index `start`."""
    low, high = max(start, begin), min(start + len(out), begin + len(artefact))
    if low < high:
        part = out[low - start : high - start]
        part += artefact[low - begin : high - begin]
        if railed:
            part[:] = RAIL_UV


def _cut(start: int, samples: Signal, gaps: list[Gap], size: int) -> Iterator[Item]:
    """Cut samples at the multiples of `size`; samples in a gap are replaced by the gap, given at its end."""
    at, stop = start, start + len(samples)
    while at < stop:
        until = min(stop, (at // size + 1) * size)
        gap = next((gap for gap in gaps if gap.start < until and gap.stop > at), None)
        if gap is not None and gap.start <= at:
            at = min(stop, gap.stop)
            if at == gap.stop:
                yield gap
            continue
        until = until if gap is None else gap.start
        yield Chunk(at, samples[None, at - start : until - start])
        at = until


def resample(pieces: Iterator[Signal], rate_hz: float) -> Iterator[Signal]:
    """Resample consecutive pieces from 100 Hz to `rate_hz`; n samples become ceil(n * rate / 100).

    A windowed sinc without delay. Below 100 Hz it also removes frequencies above half the new rate.
    """
    if rate_hz == RATE_HZ:
        yield from pieces
        return
    ratio = RATE_HZ / rate_hz  # input samples per output sample
    half = math.ceil(TAPS * max(1.0, ratio))
    kernel = _kernel(half, 0.92 * min(1.0, 1 / ratio))
    held = np.zeros(half)  # the input from index `first` on
    first, written = -half, 0
    for piece in _and_then_silence(pieces, half):
        held = np.concatenate([held, piece])
        ready = max(written, math.ceil((first + len(held) - half) / ratio))
        position = np.arange(written, ready) * ratio
        whole = np.floor(position).astype(np.intp)
        phase = np.rint((position - whole) * PHASES).astype(np.intp)
        out = np.empty(ready - written)
        for part in range(0, len(out), 4096):  # bounds the temporary arrays
            of = slice(part, part + 4096)
            rows = (whole[of] - first - half + 1)[:, None] + np.arange(2 * half)
            out[of] = np.einsum("nk,nk->n", held[rows], kernel[phase[of]])
        yield out
        written = ready
        drop = max(0, math.floor(written * ratio) - half - first)
        held, first = held[drop:], first + drop


def _and_then_silence(pieces: Iterator[Signal], n: int) -> Iterator[Signal]:
    yield from pieces
    yield np.zeros(n)


@lru_cache(maxsize=4)
def _kernel(half: int, cutoff: float) -> Signal:
    """Return (PHASES + 1, 2 half) weights, a row for each position between the two samples in the middle."""
    offset = np.arange(1 - half, half + 1) - (np.arange(PHASES + 1) / PHASES)[:, None]
    weights = (
        cutoff * np.sinc(cutoff * offset) * np.i0(8.0 * np.sqrt(np.maximum(0, 1 - (offset / half) ** 2)))
    )
    kernel: Signal = weights / weights.sum(1, keepdims=True)
    return kernel
