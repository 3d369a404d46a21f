"""The mosquitto of the tests: a real one, that never drops what a slow subscriber has not read yet."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from tools import mosquitto
from tools.mosquitto import PROGRAM, free_port

__all__ = ["SUBSCRIBER", "Mosquitto", "free_port", "needs_mosquitto", "on_mosquitto"]

T = TypeVar("T")
SUBSCRIBER = shutil.which("mosquitto_sub")

needs_mosquitto = pytest.mark.skipif(
    PROGRAM is None or SUBSCRIBER is None, reason="mosquitto and mosquitto-clients are not installed"
)


class Mosquitto(mosquitto.Mosquitto):
    """`with Mosquitto() as broker:` serves `broker.port`; `options` are further lines of mosquitto.conf."""

    def __init__(self, *options: str, anonymous: bool = True) -> None:
        super().__init__("max_queued_messages 0", *options, anonymous=anonymous)


def on_mosquitto(main: Callable[[int], Awaitable[T]]) -> T:
    """What a scenario returns that is given the port of a broker of its own."""

    async def scenario(port: int) -> T:
        return await main(port)

    with Mosquitto() as broker:
        return asyncio.run(scenario(broker.port))
