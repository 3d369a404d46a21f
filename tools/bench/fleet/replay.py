"""Sleepers without engines: what a real one published, from many connections at once, at the real pace.

Bodies are those of the recording, but for `t_end`, which is the moment of sending, so that a subscriber can
tell how long a message took. Topics, QoS 1 and the retained flag are as the engine's; MQTT is 3.1.1.
"""

from __future__ import annotations

import multiprocessing
import random
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Self

from tools.bench.fleet.wire import connection, publish

KINDS = ("stage", "epoch", "summary")
RETAINED = ("stage", "summary")
CYCLE_S = 30  # in which an engine at hop 1 s says 30 stages, one epoch and one summary
LEAST_WAIT_S = 0.005  # what is due within it is sent at once: waking up costs, too
PATIENCE_S = 5.0  # for acknowledgements, when all is sent
SHARED = 2000  # connections of a process at most; beyond, several sleepers share one
_T_END = b'"t_end":"'


@dataclass
class Sent:
    """What one process has done."""

    messages: int
    acknowledged: int
    behind_s: float  # how late the latest message left: the process was too slow


class Replay:
    """`with Replay(port, newest, sleepers, processes) as replay:` sends until `sent` is asked for."""

    def __init__(
        self, port: int, newest: Mapping[str, bytes], sleepers: int, processes: int, seconds: float
    ) -> None:
        spawn = multiprocessing.get_context("spawn")
        bodies = [(kind, newest[kind]) for kind in KINDS]
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(processes):
            ours, theirs = spawn.Pipe()
            share = range(number, sleepers, processes)
            arguments = (port, bodies, share, seconds, theirs)
            self._pipes.append(ours)
            self._processes.append(spawn.Process(target=_send, args=arguments, name=f"replay {number}"))

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        for pipe in self._pipes:
            pipe.recv()  # it is connected
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def go(self) -> None:
        """Begin to send."""
        for pipe in self._pipes:
            pipe.send("go")

    def sent(self) -> list[Sent]:
        """Wait until all is sent and acknowledged, or clearly will not be."""
        return [pipe.recv() for pipe in self._pipes]


def _send(
    port: int, bodies: list[tuple[str, bytes]], sleepers: range, seconds: float, pipe: Connection
) -> None:
    links = [connection(port, f"bench-{sleepers.start}-{at}") for at in range(min(len(sleepers), SHARED))]
    acknowledgements = _Acknowledgements(links)
    draw = random.Random(sleepers.start)
    turns = sorted(  # when in its second each sleeper speaks, and in which second of the cycle of its epoch
        (
            (draw.random(), draw.randrange(CYCLE_S), links[at % len(links)], f"bench{one}".encode())
            for at, one in enumerate(sleepers)
        ),
        key=lambda turn: turn[0],
    )
    pipe.send("connected")
    pipe.recv()
    began = time.monotonic()
    count, behind_s = 0, 0.0
    for second in range(int(seconds)):
        for phase, epoch_at, link, name in turns:
            wait_s = began + second + phase - time.monotonic()
            if wait_s > LEAST_WAIT_S:
                acknowledgements.read(wait_s)
            behind_s = max(behind_s, -wait_s)
            for kind, body in bodies if second % CYCLE_S == epoch_at else bodies[:1]:
                topic = b"sleepstream/%b/sleeper/%b" % (name, kind.encode())
                _write(link, publish(topic, _now(body), count, kind in RETAINED))
                count += 1
    patience = time.monotonic() + PATIENCE_S
    while acknowledgements.count < count and time.monotonic() < patience:
        acknowledgements.read(0.05)
    pipe.send(Sent(count, acknowledgements.count, behind_s))


class _Acknowledgements:
    """Counts those of many connections; each is four bytes."""

    def __init__(self, links: Sequence[socket.socket]) -> None:
        self._links = {link.fileno(): link for link in links}
        self._ready = select.epoll()
        self._bytes = 0
        for link in links:
            link.setblocking(False)
            self._ready.register(link, select.EPOLLIN)

    @property
    def count(self) -> int:
        """How many have come."""
        return self._bytes // 4

    def read(self, wait_s: float) -> None:
        """Wait, then take what there is."""
        time.sleep(wait_s)
        for number, _ in self._ready.poll(0):
            self._bytes += len(self._links[number].recv(1 << 16))


def _now(body: bytes) -> bytes:
    """The same body, as if its 30 s ended now."""
    at = body.find(_T_END)
    if at < 0:
        return body
    at += len(_T_END)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00").encode()
    return body[:at] + now + b"Z" + body[body.index(b'"', at) :]


def _write(link: socket.socket, data: bytes) -> None:
    """Send all of it, waiting where the broker does not read."""
    while data:
        try:
            data = data[link.send(data) :]
        except BlockingIOError:
            select.select([], [link], [])
