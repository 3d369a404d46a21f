"""Converts rows of table `samples` to rows of table `packed`, and back."""

from __future__ import annotations

import bz2
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from streamer.journal.codec import MOST_BYTES, pack, unpack
from streamer.journal.rows import Row, whole
from streamer.messages import StreamInfo

PIECE_SAMPLES = 1 << 16  # of a channel: four minutes at 256 Hz, which one bad byte destroys
PIECE_BYTES = 8 << 20  # likewise of all channels together
_PLACE: Final = np.dtype([("start", "<i8"), ("n", "<i8"), ("wall", "<f8"), ("monotonic", "<f8")])


def packed(rows: Iterable[Row], info: StreamInfo) -> Iterator[Row]:
    """Convert rows of `samples`, for which `fits` is true, in order, to rows of `packed`."""
    piece: list[Row] = []
    n = 0
    for row in rows:
        more = n + row[1]
        if piece and (more > PIECE_SAMPLES or 4 * len(info.channels) * more > PIECE_BYTES):
            yield _packed(piece, info)
            piece, more = [], row[1]
        piece.append(row)
        n = more
    if piece:
        yield _packed(piece, info)


def fits(row: Row, info: StreamInfo) -> bool:
    """Whether a row of `samples` can be packed: it is whole and not too large."""
    return whole("samples", row, info) and len(row[4]) <= MOST_BYTES


def unpacked(row: Row, info: StreamInfo) -> list[Row]:
    """Return the rows of `samples` in a row of `packed`.

    Raises:
        ValueError: the row is damaged.

    """
    places = spans(row)
    channels = len(info.channels)
    samples = unpack(row[5], channels, sum(n for _, n, _, _ in places))
    out: list[Row] = []
    at = 0
    for start, n, wall, monotonic in places:
        out.append((start, n, wall, monotonic, samples[:, at : at + n].tobytes()))
        at += n
    if not all(whole("samples", one, info) for one in out):
        raise ValueError("rows that no journal writes")
    return out


def spans(row: Row) -> list[tuple[int, int, float, float]]:
    """Return start, length and both times of each row of `samples` in a row of `packed`.

    Raises:
        ValueError: the row is damaged.

    """
    stream = bz2.BZ2Decompressor()
    try:
        data = stream.decompress(row[4], _PLACE.itemsize * PIECE_SAMPLES + 1)
    except (OSError, EOFError) as error:
        raise ValueError(str(error)) from error
    if not stream.eof or len(data) % _PLACE.itemsize or not data:
        raise ValueError("not where its rows lay")
    columns = np.frombuffer(data, np.uint8).reshape(_PLACE.itemsize, -1)
    found = np.ascontiguousarray(columns.T).view(_PLACE).reshape(-1).tolist()
    if any(n < 1 for _, n, _, _ in found):
        raise ValueError("rows without samples")
    return [(int(start), int(n), float(wall), float(monotonic)) for start, n, wall, monotonic in found]


def _packed(piece: list[Row], info: StreamInfo) -> Row:
    places = np.array([tuple(row[:4]) for row in piece], _PLACE)
    columns = np.ascontiguousarray(places.view(np.uint8).reshape(len(piece), -1).T)
    shape = len(info.channels), -1
    samples = np.concatenate([np.frombuffer(row[4], "<f4").reshape(shape) for row in piece], axis=1)
    last = max(piece, key=lambda row: row[0] + row[1])
    stop = last[0] + last[1]
    return piece[0][0], stop, last[2], last[3], bz2.compress(columns.tobytes()), pack(samples)
