"""Work on rows of samples that stages ask for, so that several streams' rows can be worked on in one call.

For one second of one stream, what numpy does before it begins takes longer than the work. So a stage does not
call, but yields an `Ask`, and goes on when it is answered: alone, or together with those of other streams.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Floats

T = TypeVar("T")
Results = Sequence[Any] | NDArray[Any]
Work = Callable[[Floats], Results]


class Ask:
    """Yielded by a stage that needs an answer before it goes on.

    Args:
        work: (n, samples) in, a result for each row out, the same to the bit however many rows there are.
        rows: (n, samples).

    Attributes:
        answer: the results, once it was answered.

    """

    __slots__ = "answer", "rows", "work"

    def __init__(self, work: Work, rows: Floats) -> None:
        self.work = work
        self.rows = rows
        self.answer: Results = ()

    def settle(self) -> None:
        """Answer it alone."""
        self.answer = self.work(self.rows)


def alone(steps: Iterable[T | Ask]) -> Iterator[T]:
    """Answer what one stream's stages ask, and yield everything else."""
    for step in steps:
        if isinstance(step, Ask):
            step.settle()
        else:
            yield step


def settle_together(asks: Iterable[Ask]) -> None:
    """Answer asks of several streams; rows of one length, with which the same is to be done, in one call."""
    alike: dict[tuple[Work, int], list[Ask]] = {}
    for ask in asks:
        alike.setdefault((ask.work, ask.rows.shape[1]), []).append(ask)
    for (work, _), group in alike.items():
        if len(group) == 1:
            group[0].settle()
            continue
        answers, at = work(np.concatenate([ask.rows for ask in group])), 0
        for ask in group:
            count = ask.rows.shape[0]
            ask.answer = answers[at : at + count]
            at += count


def finished(steps: Generator[Ask, None, T]) -> T:
    """Answer what one stream's stage asks; return its result."""
    while True:
        try:
            next(steps).settle()
        except StopIteration as end:
            result: T = end.value
            return result
