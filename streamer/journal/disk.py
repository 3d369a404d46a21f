"""Whether a night fits on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from streamer.messages import StreamInfo

NIGHT_S = 12 * 3600
BYTES = 4  # of a recorded sample
SPARE = 1.2  # for rows, indices and the write-ahead log
LEAST = 50e6  # bytes, for whatever else wants to write


def night_bytes(info: StreamInfo) -> float:
    """What a long night of this stream takes."""
    return NIGHT_S * info.rate_hz * len(info.channels) * BYTES * SPARE + LEAST


def too_small(folder: Path, info: StreamInfo) -> str:
    """Why the night may not fit into `folder`, or ""."""
    free, needed = shutil.disk_usage(folder).free, night_bytes(info)
    if free >= needed:
        return ""
    return (
        f"only {free / 1e6:.0f} MB are free in {folder}; a night takes up to {needed / 1e6:.0f} MB: make room"
    )
