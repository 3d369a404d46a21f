"""A simulated night as a laboratory records it: EOG and EMG beside the EEG, and triggers of an amplifier."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

import numpy as np

from streamer.channels import Wanted
from streamer.clock import Clock
from streamer.messages import EPOCH_S, Channel, Chunk, Floats, Item, Marker, Stage, StreamInfo
from streamer.sources.settings import SimulatedSettings, SourceSettings
from streamer.sources.simulated import SimulatedSource

CHANNELS = (Channel("EOG L", "uV"), Channel("EOG R", "uV"), Channel("EMG chin", "uV"))
EYES_PER_S: dict[Stage, float] = {"W": 0.3, "R": 0.35}  # rapid movements
CHIN_UV: dict[Stage, float] = {"W": 18.0, "N1": 9.0, "N2": 7.0, "N3": 6.0, "R": 2.0}
FADING_S = 0.5  # time constant of a saccade
DRIFT_UV = 15_000.0  # an amplifier's direct-current offset
MARKER_EVERY_S = 40


class Montage:
    """A `SimulatedSource` with three channels more; all of it from the seed, like the EEG.

    Args:
        settings: of the EEG.
        clock: as a source takes it.

    """

    info: StreamInfo

    def __init__(self, settings: SimulatedSettings, clock: Clock) -> None:
        self.remarks: deque[str] = deque()
        self._source = SimulatedSource(settings, clock)
        self._draw = np.random.default_rng([settings.seed, 6])
        self._gaze_uv = 0.0  # what is left of the last saccade

    async def __aenter__(self) -> Self:
        """As the source."""
        await self._source.__aenter__()
        info = self._source.info
        self.info = StreamInfo(info.name, info.rate_hz, (*info.channels, *CHANNELS), info.started)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Nothing is held open."""

    async def __aiter__(self) -> AsyncIterator[Item | Marker]:
        """The source's items, each with its channels; a trigger every so often."""
        said = 0
        async for item in self._source:
            due = int(item.stop / self.info.rate_hz) // MARKER_EVERY_S
            if due > said:
                said = due
                yield Marker(int(due * MARKER_EVERY_S * self.info.rate_hz), "Stimulus", f"S {due % 16:2d}")
            yield self._montage(item) if isinstance(item, Chunk) else item

    def _montage(self, chunk: Chunk) -> Chunk:
        epoch = int(chunk.start / self.info.rate_hz) // EPOCH_S
        stage = self._source.truth[min(epoch, len(self._source.truth) - 1)]
        eyes = self._eyes(stage, chunk.samples.shape[1])
        noise = self._draw.standard_normal((3, chunk.samples.shape[1]))
        chin = CHIN_UV.get(stage, 7.0) * noise[2]
        left = eyes + 0.4 * chunk.samples[0] + 3 * noise[0] + DRIFT_UV
        right = -0.9 * eyes + 0.4 * chunk.samples[0] + 3 * noise[1] - DRIFT_UV
        return Chunk(chunk.start, np.vstack([chunk.samples, left, right, chin + DRIFT_UV]), chunk.arrived)

    def _eyes(self, stage: Stage, count: int) -> Floats:
        """Where the eyes look, µV: saccades that the amplifier's coupling lets decay."""
        rate_hz = self.info.rate_hz
        fading: Floats = np.exp(-np.arange(count + 1) / (FADING_S * rate_hz))
        out = self._gaze_uv * fading
        rapid = EYES_PER_S.get(stage, 0.0)
        for at in np.flatnonzero(self._draw.random(count) < rapid / rate_hz):
            size = self._draw.uniform(60, 220) * self._draw.choice([-1.0, 1.0])
            out[at:] += size * fading[: count + 1 - at]
        self._gaze_uv = float(out[-1])
        return out[:-1]


def opened(settings: SourceSettings, channel: Wanted, clock: Clock) -> Montage:
    """For an engine's `sources`."""
    assert isinstance(settings, SimulatedSettings)
    return Montage(settings, clock)
