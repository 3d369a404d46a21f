"""Ways to cut a stream, for the property every stage must have: the result does not depend on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import strategies as st

from streamer.messages import Chunk, Gap, Item

# Odd primes, single samples and nothing at all: whatever divides the stages' own blocks is left out.
SIZES = st.lists(st.sampled_from([0, 1, 2, 3, 7, 13, 97, 101, 331, 2999, 7919]), min_size=1, max_size=12)


def cut(items: Sequence[Item], sizes: Sequence[int]) -> Iterator[Item]:
    """The same stream with its chunks cut anew: the sizes in turn, over and over."""
    if not any(sizes):
        sizes = [*sizes, 1009]
    turn = 0
    for item in items:
        if isinstance(item, Gap):
            yield item
            continue
        at = 0
        while at < item.samples.shape[1]:
            size = sizes[turn % len(sizes)]
            turn += 1
            yield Chunk(item.start + at, item.samples[:, at : at + size], item.arrived)
            at += size


def stream(samples: np.ndarray, gaps: Sequence[tuple[int, int]] = ()) -> list[Item]:
    """(channels, n) samples as one stream; each (start, stop) of `gaps` is lost."""
    items: list[Item] = []
    at = 0
    for start, stop in sorted(gaps):
        if start > at:
            items.append(Chunk(at, samples[:, at:start]))
        items.append(Gap(start, stop, "lost"))
        at = stop
    items.append(Chunk(at, samples[:, at:]))
    return items


def joined(items: Sequence[Item]) -> list[tuple[str, int, int, bytes]]:
    """What a stream says, however it was cut: runs of samples (to the bit) and gaps."""
    out: list[tuple[str, int, int, bytes]] = []
    for item in items:
        if isinstance(item, Gap):
            out.append(("gap", item.start, item.stop, b""))
        elif item.stop > item.start:
            data = np.ascontiguousarray(item.samples[0]).tobytes()
            if out and out[-1][0] == "samples" and out[-1][2] == item.start:
                _, start, _, before = out.pop()
                out.append(("samples", start, item.stop, before + data))
            else:
                out.append(("samples", item.start, item.stop, data))
    return out
