"""A thread for the calls of a library that blocks; they run one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """A thread that makes the calls of one device.

    Args:
        name: of the thread.

    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False

    async def call(self, work: Callable[[], T]) -> T:
        """Run a blocking call on the thread, after the earlier ones; return or raise what it does."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def close(self, last: Callable[[], None], within_s: float) -> asyncio.Future[None] | None:
        """Queue a last call and wait for it at most `within_s`.

        Returns:
            The future of that call, perhaps not done yet; None if the worker was closed before.

        """
        if self._closed:
            return None
        self._closed = True
        ended = asyncio.get_running_loop().run_in_executor(self._executor, last)
        self._executor.shutdown(wait=False)
        await asyncio.wait({ended}, timeout=within_s)
        return ended
