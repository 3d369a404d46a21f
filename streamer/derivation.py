"""Derives one signal in µV from the device's channels; NaN becomes a gap."""

from __future__ import annotations

import numpy as np

from streamer.channels import Pick
from streamer.messages import Channel, Chunk, Floats, Gap, Item
from streamer.sources.units import microvolts_per


class Derivation:
    """One channel, or the difference of two, as (1, n) µV.

    Adjoining gaps are joined to one, which is returned with the first sample after it. So the gaps do not
    depend on how the input was cut into chunks.
    """

    def __init__(self, pick: Pick, channels: tuple[Channel, ...], unit: str | None = None) -> None:
        self.label = pick.label
        self.unit = unit or channels[pick.plus].unit
        self._plus, self._minus = pick.plus, pick.minus
        self._plus_uv = microvolts_per(unit or channels[pick.plus].unit)
        self._minus_uv = 0.0 if pick.minus is None else microvolts_per(unit or channels[pick.minus].unit)
        self.reset()

    def reset(self) -> None:
        """Forget a gap that was not returned yet."""
        self._lost: Gap | None = None

    def push(self, item: Item) -> list[Item]:
        """Take the next chunk or gap; return the output that it completes."""
        if isinstance(item, Gap):
            self._lose(item)
            return []
        return self._split(item.start, self._microvolts(item.samples), item.arrived)

    def flush(self) -> list[Item]:
        """End of the stream: return a gap that was held back."""
        lost, self._lost = self._lost, None
        return [] if lost is None else [lost]

    def _microvolts(self, samples: Floats) -> Floats:
        # As float32, like the session file, so that a resumed run computes the same values.
        one: Floats = samples[self._plus].astype(np.float32) * np.float64(self._plus_uv)
        if self._minus is not None:
            one -= samples[self._minus].astype(np.float32) * np.float64(self._minus_uv)
        return one

    def _lose(self, gap: Gap) -> None:
        before = self._lost
        if before is None:
            self._lost = gap
        else:
            self._lost = Gap(before.start, gap.stop, before.reason, gap.arrived)

    def _split(self, start: int, samples: Floats, arrived: float) -> list[Item]:
        """Cut a chunk into runs of finite samples, with gaps where samples are not finite."""
        real = np.isfinite(samples)
        if samples.shape[0] and real.all():
            return [*self.flush(), Chunk(start, samples[None], arrived)]
        out: list[Item] = []
        edges = np.flatnonzero(np.diff(real)) + 1
        for begin, end in zip([0, *edges], [*edges, samples.shape[0]], strict=True):
            if begin == end:
                continue
            if real[begin]:
                out += self.flush()
                out.append(Chunk(start + int(begin), samples[None, begin:end], arrived))
            else:
                self._lose(Gap(start + int(begin), start + int(end), "not a number", arrived))
        return out
