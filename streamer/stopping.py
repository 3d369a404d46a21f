"""Waits for something, or until asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def unless_stopped(stop: asyncio.Event, work: Awaitable[T]) -> asyncio.Future[T]:
    """Wait for `work`, or until `stop` is set: then it is cancelled, and has ended when this returns.

    Returns:
        The future of the work: done with its result or error, or cancelled.

    """
    working = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait([working])
    return working
