"""The protocols of a source and of an open recording; cuts samples where something was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Protocol, Self

from streamer.messages import Channel, Chunk, Floats, Gap, Item, Marker, StreamInfo


class Given(Protocol):
    """A stream of chunks and gaps, in order, with markers among them."""

    info: StreamInfo

    def __aiter__(self) -> AsyncIterator[Item | Marker]:
        """Iterate the stream, once."""
        ...


class Source(Given, Protocol):
    """Where samples come from: an async context manager; `info` is there once it is entered.

    It appends what a person should know (what was left out, what is not believed) to `remarks`, one line
    each, from any thread. The live loop takes the lines out and publishes them.
    """

    remarks: deque[str]

    async def __aenter__(self) -> Self:
        """Open; may wait for the device."""
        ...

    async def __aexit__(self, *exception: object) -> None:
        """Close, however the stream ended."""
        ...


class Recording(Protocol):
    """A file of signals; opening it checked its header, reading it is lazy where the format allows."""

    name: str
    channels: tuple[Channel, ...]
    rates_hz: tuple[float, ...]  # of each channel
    started: float  # Unix time of sample 0; a time without a zone is taken as UTC
    duration_s: float | None  # gaps included; None: known only when it has been read
    remarks: list[str]  # what was left out, or is not believed, a line each; grows while it is read

    def together(self, index: int) -> tuple[int, ...]:
        """The channels that are sampled together with channel `index`, in file order."""
        ...

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Chunks of the picked channels (which are sampled together) and gaps, from index 0 to the end.

        Raises:
            RecordingError: what is read is damaged.

        """
        ...


def cut_at_losses(
    start: int, samples: Floats, losses: Iterable[tuple[int, int]], reason: str, arrived: float = 0.0
) -> list[Item]:
    """Chunks of consecutive samples, and gaps where something was lost between them.

    Args:
        start: index of the first sample.
        samples: (channels, n).
        losses: how many samples precede each loss, and its length; those of no length are left out.
        reason: of the gaps.
        arrived: of all, steady s.

    """
    out: list[Item] = []
    begun = 0
    for at, lost in [*losses, (samples.shape[1], 0)]:
        if at > begun and (lost > 0 or at == samples.shape[1]):
            out.append(Chunk(start, samples[:, begun:at], arrived))
            start += at - begun
            begun = at
        if lost > 0:
            out.append(Gap(start, start + lost, reason, arrived))
            start += lost
    return out
