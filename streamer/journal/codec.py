"""Lossless packing of samples: devices send whole numbers, which became float32.

The distinct values are listed once, in order, and each sample becomes its place in that list: the device's
whole number, whatever its scale and offset. If that takes more space, the bits of the floats are used, as
integers in the order of the floats. The integers are differenced as often as that makes them smaller, split
into planes of bytes, and compressed with bzip2. Nothing is computed in floating point, so every bit is
restored, also of NaNs.
"""

from __future__ import annotations

import bz2
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 64 << 20  # of samples in one piece; limits the memory that a damaged file can claim
ORDERS = 3  # the most times that differences are taken
_HEAD: Final = struct.Struct(
    "<BBII"
)  # how values became numbers, differences, values listed, bytes that follow
_BITS, _PLACES = 0, 1
_Words = NDArray[np.uint32]


def pack(samples: NDArray[np.float32]) -> bytes:
    """Pack (channels, n) float32, little-endian, into bytes for `unpack`."""
    return b"".join(_packed(channel) for channel in np.ascontiguousarray(samples, "<f4"))


def unpack(data: bytes, channels: int, n: int) -> NDArray[np.float32]:
    """Restore (channels, n) samples from the bytes of `pack`.

    Raises:
        ValueError: the bytes are something else, or damaged.

    """
    if channels * n * 4 > MOST_BYTES:
        raise ValueError(f"{channels} channels of {n} samples are more than one piece holds")
    out = np.empty((channels, n), "<f4")
    at = 0
    for channel in range(channels):
        out[channel], at = _unpacked(data, at, n)
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes too many")
    return out


def _packed(samples: NDArray[np.float32]) -> bytes:
    words = _rising(samples.view("<u4"))
    values, places = np.unique(words, return_inverse=True)
    ways = [(_BITS, values[:0], words), (_PLACES, values, places.astype(np.uint32))]
    _, method, order, listed, numbers = min(
        (
            (_size(listed, 1) + _size(numbers, order), method, order, listed, numbers)
            for method, listed, numbers in ways
            for order in range(ORDERS + 1)
        ),
        key=lambda way: way[0],
    )
    body = bz2.compress(_planes(_differences(listed, 1)) + _planes(_differences(numbers, order)))
    return _HEAD.pack(method, order, listed.size, len(body)) + body


def _unpacked(data: bytes, at: int, n: int) -> tuple[NDArray[np.float32], int]:
    try:
        method, order, listed, length = _HEAD.unpack_from(data, at)
        if method > _PLACES or order > ORDERS or listed > n:
            raise ValueError("not a packed channel")
        at += _HEAD.size
        size = 4 * (listed + n)
        stream = bz2.BZ2Decompressor()
        body = stream.decompress(data[at : at + length], size + 1)
        if len(body) != size or not stream.eof:
            raise ValueError("another length than was said")
    except (struct.error, OSError, EOFError) as error:
        raise ValueError(str(error)) from error
    values = _sums(_words(body[: 4 * listed]), 1)
    numbers = _sums(_words(body[4 * listed :]), order)
    if method == _PLACES:
        if n and int(numbers.max()) >= listed:
            raise ValueError("a value that was not listed")
        numbers = values[numbers]
    return _rising_back(numbers).view("<f4"), at + length


def _rising(bits: _Words) -> _Words:
    """Map bits of floats to integers in the order of the floats."""
    negative = bits >> np.uint32(31) == 1
    return np.where(negative, ~bits, bits | np.uint32(1 << 31))


def _rising_back(words: _Words) -> _Words:
    positive = words >> np.uint32(31) == 1
    return np.where(positive, words & np.uint32((1 << 31) - 1), ~words).astype("<u4")


def _differences(numbers: _Words, times: int) -> _Words:
    """Take differences of successive numbers `times` times, modulo 2**32."""
    for _ in range(times):
        numbers = np.diff(numbers, prepend=np.uint32(0))
    return numbers


def _sums(numbers: _Words, times: int) -> _Words:
    for _ in range(times):
        numbers = np.cumsum(numbers, dtype=np.uint32)
    return numbers


def _size(numbers: _Words, times: int) -> float:
    """Estimate how many bits the differences need, signs included."""
    found = _differences(numbers, times).view(np.int32).astype(np.float64)
    return float(np.log2(np.abs(found) + 1).sum()) + numbers.size


def _planes(numbers: _Words) -> bytes:
    """Return all highest bytes, then the next ones; zigzag coding keeps small negative numbers small."""
    signed = numbers.view(np.int32)
    folded = ((signed << 1) ^ (signed >> 31)).astype(">u4")
    return folded.view(np.uint8).reshape(-1, 4).T.tobytes()


def _words(planes: bytes) -> _Words:
    bytes_of = np.frombuffer(planes, np.uint8).reshape(4, -1).T
    folded = np.ascontiguousarray(bytes_of).view(">u4").reshape(-1).astype(np.uint32)
    return (folded >> np.uint32(1)) ^ (~(folded & np.uint32(1)) + np.uint32(1))
