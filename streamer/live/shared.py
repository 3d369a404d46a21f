"""What all sleepers of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from streamer.clock import Clock
from streamer.network.stager import Model
from streamer.night.morning import Launch
from streamer.settings import Settings
from streamer.sinks.handover import Guard
from streamer.sinks.mqtt import MqttSink
from streamer.web.page import Page


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all sleepers of a process share."""

    settings: Settings
    model: Model
    clock: Clock
    watcher: Guard
    mqtt: MqttSink | None
    page: Page | None
    stack: AsyncExitStack  # owns what sessions hold open; outlives every session
    session_path: Callable[[str], Path]  # makes the path of a session's file from its identity
    resume_s: float | None  # see Engine
    worker: Executor  # the model's thread
    begun: Callable[[], object] = lambda: None  # called when a session has begun
    closed: Callable[[], None] = lambda: None  # called when the files of ended sessions were closed
    launch: Launch | None = None  # runs the process that writes a report; None: the usual one
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # one report at a time
