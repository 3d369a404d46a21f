"""The stages before the network: raw chunks and gaps in, graded windows and losses out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.asks import Ask, alone
from streamer.conditioner import Conditioner
from streamer.fallback import make_derivation
from streamer.messages import RATE_HZ, Chunk, Doubt, Floats, Gap, Item, Quality, StreamInfo, Switch, Window
from streamer.quality import Plausibility, QualityMeter, grade_mixed, is_usable
from streamer.settings import SignalSettings
from streamer.window import Windows


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """A window and its quality."""

    window: Window
    quality: Quality
    fast_uv: tuple[float | None, ...]  # r.m.s. in 25-45 Hz of each of its seconds, in µV; see quality.py

    @property
    def usable(self) -> bool:
        """Whether the window is good enough to be scored."""
        return is_usable(self.quality)


class FrontEnd:
    """All stages of one stream before the network.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """

    def __init__(self, info: StreamInfo, signal: SignalSettings, hop_s: int) -> None:
        self._derivation = make_derivation(info, signal)
        self.label = self._derivation.label
        self._plausibility = Plausibility(info.rate_hz, self.label, self._derivation.unit)
        self._quality = QualityMeter(info.rate_hz, signal.mains_hz)
        self._conditioner = Conditioner(info.rate_hz, signal.bridge_s)
        self._windows = Windows(hop_s)
        self._rate_hz = info.rate_hz
        self._changed_s = float("-inf")  # when the present channel was taken, s

    def push(self, item: Item) -> Iterator[Graded | Gap | Doubt | Switch]:
        """Take the next item; yield windows, gaps (in device samples) and other outputs, in order.

        Lazy: iterate to the end before the next push.
        """
        return alone(self.steps(item))

    def flush(self) -> Iterator[Graded | Gap | Doubt | Switch]:
        """End of the stream: yield what the stages still held back."""
        return alone(self.steps(None))

    def steps(self, item: Item | None) -> Iterator[Graded | Gap | Doubt | Switch | Ask]:
        """As `push`, or `flush` (None); yield an `Ask` where several streams can share one call."""
        for derived in self._derivation.flush() if item is None else self._derivation.push(item):
            yield from self._advance(derived)
        if item is None:
            yield from self._graded(self._conditioner.flush())

    def _advance(self, derived: Item | Switch) -> Iterator[Graded | Gap | Doubt | Switch | Ask]:
        if isinstance(derived, Switch):
            yield from self._graded(self._conditioner.restart())
            self._changed_s = derived.at / self._rate_hz
            yield derived
            return
        if isinstance(derived, Gap):
            yield derived
        doubt = self._plausibility.push(derived)
        if doubt is not None:
            yield Doubt(doubt)
        yield from self._quality.steps(derived)
        yield from self._graded((yield from self._conditioner.steps(derived)))

    def _graded(self, conditioned: list[Item]) -> Iterator[Graded | Ask]:
        for item in conditioned:
            for window in self._windows.steps(item):
                if isinstance(window, Ask):
                    yield window
                    continue
                end_s = window.end // RATE_HZ
                quality = grade_mixed(self._quality.grade(end_s), end_s - self._changed_s)
                yield Graded(window, quality, self._quality.fast_uv(end_s))


def condition(items: Iterable[Item], info: StreamInfo, signal: SignalSettings) -> NDArray[np.float32]:
    """Return the signal that the network sees: (n,) µV at 100 Hz, filtered to 0.3-35 Hz, NaN where lost.

    Raises:
        UsageError: the channel asked for is not there, or is no voltage.
        SignalError: the stream's rate is outside 50 to 1024 Hz.

    """
    derived, conditioner = make_derivation(info, signal), Conditioner(info.rate_hz, signal.bridge_s)
    parts = [part for item in items for one in derived.push(item) for part in _conditioned(conditioner, one)]
    parts += [part for one in derived.flush() for part in _conditioned(conditioner, one)]
    parts += conditioner.flush()
    return join(parts).astype(np.float32)


def join(parts: Sequence[Item]) -> Floats:
    """Join the chunks and gaps of one channel, in order: (n,), NaN where lost."""
    out = np.full(parts[-1].stop if parts else 0, np.nan)
    for part in parts:
        if isinstance(part, Chunk):
            out[part.start : part.stop] = part.samples[0]
    return out


def _conditioned(conditioner: Conditioner, derived: Item | Switch) -> list[Item]:
    return conditioner.restart() if isinstance(derived, Switch) else conditioner.push(derived)
