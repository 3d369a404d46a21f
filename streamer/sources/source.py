"""The protocols of a source and of an open recording; `cut_at_losses` for those that find losses."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Protocol, Self, runtime_checkable

from streamer.messages import Channel, Chunk, Floats, Gap, Item, Marker, StreamInfo


class SampleStream(Protocol):
    """A stream of chunks and gaps, in order, with markers among them."""

    info: StreamInfo

    def __aiter__(self) -> AsyncIterator[Item | Marker]:
        """Iterate the stream, once."""
        ...


TOGETHER_S = 1.0  # the longest that samples wait for company, where nothing can come of a part of a second


@runtime_checkable
class Patient(Protocol):
    """A live source that keeps samples together while its reader could do nothing with them."""

    def wait_for(self, missing: Callable[[], int]) -> None:
        """Give samples as soon as so many are there, or after `TOGETHER_S`; 0: as soon as any are."""
        ...


def keep_together(given: SampleStream, missing: Callable[[], int]) -> None:
    """Tell a source, if it can wait, how many samples its reader is waiting for."""
    if isinstance(given, Patient):
        given.wait_for(missing)


class Source(SampleStream, Protocol):
    """A source of samples: an async context manager that sets `info` on entering.

    It appends remarks for the user (what was left out, which times are not believed) to `remarks`, one line
    each, from any thread. The live loop takes them out and publishes them.
    """

    remarks: deque[str]

    async def __aenter__(self) -> Self:
        """Open; may wait for the device."""
        ...

    async def __aexit__(self, *exception: object) -> None:
        """Close, however the stream ended."""
        ...


class Recording(Protocol):
    """An open file of signals. Its header has been checked; samples are read lazily if the format allows."""

    name: str
    channels: tuple[Channel, ...]
    rates_hz: tuple[float, ...]  # of each channel
    started: float  # Unix time of sample 0; a time without a zone is taken as UTC
    duration_s: float | None  # gaps included; None: unknown until the file has been read
    remarks: list[str]  # on what was left out or not believed, a line each; grows while the file is read

    def together(self, index: int) -> tuple[int, ...]:
        """Return the channels that are sampled together with channel `index`, in file order."""
        ...

    def items(self, picked: Sequence[int]) -> Iterator[Item]:
        """Yield chunks of the picked channels (sampled together) and gaps, from index 0 to the end.

        Raises:
            RecordingError: the file is damaged.

        """
        ...


def cut_at_losses(
    start: int, samples: Floats, losses: Iterable[tuple[int, int]], reason: str, arrived: float = 0.0
) -> list[Item]:
    """Make chunks of samples, with gaps where some were lost between them.

    Args:
        start: index of the first sample.
        samples: (channels, n).
        losses: for each loss, the number of samples before it, and of samples lost; 0 makes no gap.
        reason: of the gaps.
        arrived: when all of them arrived, steady s.

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
