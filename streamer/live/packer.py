"""Packs ended nights and prunes as `[storage]` says, at the lowest priority."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.clock import Clock
from streamer.errors import explain
from streamer.journal.packing import clear
from streamer.night.storage import find_stored, find_superfluous
from streamer.settings import Settings

FIRST_S = 600.0  # from the start to the first round
PERIOD_S = 3600.0  # between two rounds; files in use wait for the next one
log = logging.getLogger(__name__)


class Packer:
    """`async with Packer(settings, clock) as keeper:`; `keeper.night_ended()` starts a round at once.

    A session is packed once it has ended and its journal is closed, so that its lock is free. Sessions are
    packed one at a time in a separate process, because a busy thread would delay stages. A failure is logged,
    leaves the file unchanged, and is tried again in the next round.

    Args:
        settings: of the engine: folder, node, streams and `[storage]`.
        clock: time.

    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="storage")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def night_ended(self) -> None:
        """Start a round soon, because a session's journal was closed."""
        self._ended.set()

    async def _run(self) -> None:
        wait_s = FIRST_S
        while True:
            await self._woken(wait_s)
            wait_s = PERIOD_S
            try:
                await self.round()
            except Exception as error:  # of any kind: the night goes on
                log.warning("the nights that have ended were not packed: %s", explain(error), exc_info=error)

    async def _woken(self, wait_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(wait_s))
        called = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({sleeping, called}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            called.cancel()
        self._ended.clear()

    async def round(self) -> None:
        """Remove what killed processes left, pack all that can be packed, then prune."""
        settings, rule = self._settings, self._settings.storage
        names = {stream.name for stream in settings.stream}
        await asyncio.to_thread(clear, settings.session_dir)
        nights = await asyncio.to_thread(find_stored, settings.session_dir, settings.node, names)
        for one in reversed(nights):
            if rule.pack and one.loose:
                freed = await _apart(one.path)
                if freed:
                    log.info("%s is %.1f MB smaller: its samples are packed", one.path.name, freed / 1e6)
        if not rule.bounded:
            return
        nights = await asyncio.to_thread(find_stored, settings.session_dir, settings.node, names)
        for one, why in find_superfluous(nights, rule):
            freed = await _apart(one.path, "--prune")
            if freed:
                log.warning(
                    "%s: its raw samples were deleted (storage.%s), %.1f MB", one.path.name, why, freed / 1e6
                )


async def _apart(path: Path, *how: str) -> int:
    """Pack one session in a separate process; return by how many bytes it shrank, 0 if unchanged."""
    command = [sys.executable, "-m", "streamer.journal.packing", str(path), *how]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, "--parent", str(os.getpid()), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        said, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        log.warning("%s", complaint.decode(errors="replace").strip() or f"{path} could not be packed")
        return 0
    return int(said)
