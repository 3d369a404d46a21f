"""The local actions of triggers and alarms: a program, a datagram, an OSC message."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Self

from streamer.errors import explain
from streamer.reactions.leash import Leash, end
from streamer.reactions.settings import ActionSettings

AT_ONCE = 8  # programs that may run at the same time; further ones are refused, with a complaint

Value = str | int | float


class Actions:
    """Starts actions without waiting for them; leaving ends the programs that still run.

    Args:
        complain: gets one line about what failed; called on the event loop.

    """

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._due: set[asyncio.Task[None]] = set()  # actions that wait for their time
        self._running: set[asyncio.Task[None]] = set()
        self._sockets: dict[int, socket.socket] = {}  # by address family
        self._leash = Leash()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        left = self._running | self._due
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self._leash.close()
        for used in self._sockets.values():
            used.close()

    def carry_out(self, action: ActionSettings, facts: Mapping[str, Value]) -> None:
        """Send the datagrams now and start the program.

        Args:
            action: what to do.
            facts: at least `name`, `stage` and `probability`; a program finds each in its environment, as
                SLEEPSTREAM_NAME and so on.

        """
        if action.udp is not None:
            text = action.udp
            for key, value in facts.items():
                text = text.replace("{" + key + "}", str(value))
            self._send(action, text.encode())
        if action.osc is not None:
            arguments = facts["name"], facts["stage"], float(facts["probability"])
            self._send(action, osc_message(action.osc, arguments))
        if action.command is not None:
            self._start(action.command, action.timeout_s, facts)

    def later(self, wait: Coroutine[None, None, None], work: Callable[[], None]) -> None:
        """Call `work` once `wait` is done, unless the context is left before."""

        async def attend() -> None:
            await wait
            work()

        task = asyncio.create_task(attend(), name="action that is due")
        self._due.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._due.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complain(f"an action failed: {explain(error)}")

    def _send(self, action: ActionSettings, data: bytes) -> None:
        family = socket.AF_INET6 if ":" in action.host else socket.AF_INET
        try:
            if family not in self._sockets:
                self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sockets[family].sendto(data, (action.host, action.port or 0))
        except OSError as error:
            self._complain(f"cannot send to {action.host}:{action.port}: {error.strerror}")

    def _start(self, command: Sequence[str], timeout_s: float, facts: Mapping[str, Value]) -> None:
        if len(self._running) >= AT_ONCE:
            self._complain(f"{command[0]} was not started: {AT_ONCE} programs are still running")
            return
        task = asyncio.create_task(self._attend(command, timeout_s, facts), name=f"action {command[0]}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _attend(self, command: Sequence[str], timeout_s: float, facts: Mapping[str, Value]) -> None:
        problem = await run(command, timeout_s, facts, self._leash)
        if problem:
            self._complain(problem)


async def run(
    command: Sequence[str], timeout_s: float, facts: Mapping[str, Value], leash: Leash | None = None
) -> str:
    """Run a program; return what went wrong in one line, or "". Cancelling ends the program.

    With a leash the program and its children end when this process does.
    """
    environment = {f"SLEEPSTREAM_{key.upper()}": str(value) for key, value in facts.items()}
    quiet = asyncio.subprocess.DEVNULL
    made = asyncio.create_subprocess_exec(
        *command,
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C must not reach it, and its children are ended with it
    )
    making = asyncio.create_task(made, name=f"start of {command[0]}")
    try:
        process = await asyncio.shield(making)
    except (OSError, ValueError) as error:
        return f"cannot run {command[0]}: {getattr(error, 'strerror', None) or error}"
    except asyncio.CancelledError:  # asyncio would end the program, but not its children
        with contextlib.suppress(OSError, ValueError):
            process = await making
            end(process.pid)
            await process.wait()
        raise
    try:
        if leash is not None:
            with contextlib.suppress(OSError):  # better a program without a leash than none
                leash.hold(process.pid)
        async with asyncio.timeout(timeout_s):
            code = await process.wait()
    except TimeoutError:
        return f"{command[0]} did not end within {timeout_s:g} s"
    finally:
        if process.returncode is None:
            end(process.pid)
            await process.wait()
        if leash is not None:
            leash.let_go(process.pid)
    return f"{command[0]} ended with exit code {code}" if code else ""


def osc_message(address: str, arguments: Sequence[Value]) -> bytes:
    """Encode an OSC 1.0 message: strings (s), 32-bit integers (i), 32-bit floats (f), padded to 4 bytes."""
    tags, body = ",", b""
    for argument in arguments:
        if isinstance(argument, str):
            tags += "s"
            body += _padded(argument)
        elif isinstance(argument, int):
            tags += "i"
            body += struct.pack(">i", argument)
        else:
            tags += "f"
            body += struct.pack(">f", argument)
    return _padded(address) + _padded(tags) + body


def _padded(text: str) -> bytes:
    data = text.encode() + b"\0"
    return data + b"\0" * (-len(data) % 4)
