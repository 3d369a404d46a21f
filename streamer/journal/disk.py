"""Estimates whether a night fits on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from streamer.messages import StreamInfo

NIGHT_S = 12 * 3600
BYTES = 4  # of a recorded sample
SPARE = 1.2  # for rows, indices and the write-ahead log
USUAL_S = 8 * 3600
PACKED = 0.5  # share that is left after packing, for noisy channels; most devices need less
ENOUGH = 30  # nights; with less room there is a warning
LEAST = 50e6  # bytes left for other programs


def night_bytes(info: StreamInfo) -> float:
    """Return how many bytes a long night of this stream takes."""
    return NIGHT_S * info.rate_hz * len(info.channels) * BYTES * SPARE + LEAST


def too_small(folder: Path, info: StreamInfo) -> str:
    """Return why the night may not fit into `folder`, or ""."""
    free, needed = shutil.disk_usage(folder).free, night_bytes(info)
    if free >= needed:
        return ""
    return (
        f"only {free / 1e6:.0f} MB are free in {folder}; a night takes up to {needed / 1e6:.0f} MB: make room"
    )


def few_nights(folder: Path, info: StreamInfo, streams: int, packed: bool) -> str:
    """Return a warning if the disk holds only a few more nights, or "".

    Args:
        folder: of the sessions.
        info: of one stream; the others are assumed to be like it.
        streams: how many are recorded.
        packed: whether ended nights are packed.

    """
    free = shutil.disk_usage(folder).free
    night = streams * USUAL_S * info.rate_hz * len(info.channels) * BYTES * (PACKED if packed else 1.0)
    left = int(free / night)
    if left >= ENOUGH:
        return ""
    return (
        f"the disk holds about {left} more nights ({free / 1e9:.1f} GB free in {folder}): make room, or say "
        "in [storage] of how many nights the samples are kept"
    )
