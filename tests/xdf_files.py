"""XDF files of several streams, written chunk by chunk as LabRecorder does, to be damaged in any place."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")


@dataclass(frozen=True)
class Outlet:
    """One stream: `samples` are (channels, n)."""

    times: np.ndarray
    samples: np.ndarray
    rate_hz: float = 100.0
    labels: Sequence[str] = ("AF7",)
    name: str = "Muse"
    source_id: str = "Muse-1"
    stamped: bool = True  # else only the first sample of each chunk says its time
    kind: str = "EEG"


def write_outlets(path: Path, outlets: Sequence[Outlet], per_chunk: int = 50) -> list[tuple[int, int]]:
    """Write the file; (start, stop) of every chunk in it, in bytes."""
    chunks = [_chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")]
    chunks += [_chunk(2, struct.pack("<I", n) + _about(one)) for n, one in enumerate(outlets, 1)]
    for number, one in enumerate(outlets, 1):
        for begun in range(0, len(one.times), per_chunk):
            chunks.append(_samples(number, one, slice(begun, begun + per_chunk)))
            if begun // per_chunk % 4 == 3:
                chunks.append(_chunk(5, BOUNDARY))
        chunks.append(_chunk(4, struct.pack("<Idd", number, one.times[0], 0.0)))
        chunks.append(_chunk(4, struct.pack("<Idd", number, one.times[-1], 0.0)))
    path.write_bytes(b"XDF:" + b"".join(chunks))
    ends = np.cumsum([4, *map(len, chunks)])
    return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def _samples(number: int, one: Outlet, part: slice) -> bytes:
    rows = []
    for place, (time, row) in enumerate(zip(one.times[part], one.samples.T[part], strict=True)):
        stamp = b"\x08" + struct.pack("<d", time) if one.stamped or place == 0 else b"\x00"
        rows.append(stamp + struct.pack(f"<{len(row)}f", *row))
    return _chunk(3, struct.pack("<IBI", number, 4, len(rows)) + b"".join(rows))


def _about(one: Outlet) -> bytes:
    entries = "".join(f"<channel><label>{label}</label><unit>uV</unit></channel>" for label in one.labels)
    return (
        f"<?xml version='1.0'?><info><name>{one.name}</name><type>{one.kind}</type>"
        f"<source_id>{one.source_id}</source_id><channel_count>{len(one.labels)}</channel_count>"
        f"<nominal_srate>{one.rate_hz:g}</nominal_srate><channel_format>float32</channel_format>"
        f"<desc><channels>{entries}</channels></desc></info>"
    ).encode()


def _chunk(tag: int, content: bytes) -> bytes:
    return struct.pack("<BIH", 4, len(content) + 2, tag) + content
