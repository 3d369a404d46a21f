"""Whoever collects a fleet: one subscriber to all of it, in a process of its own, that counts and times."""

from __future__ import annotations

import multiprocessing
import select
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, Self

from tools.bench.fleet.wire import PUBLISH, SUBACK, Packets, connection, message, subscribe

_T_END, _LATENCY = b'"t_end":"', b'"latency_ms":'


@dataclass
class Heard:
    """What came since the last `begin`."""

    seconds: float = 0.0
    sleepers: int = 0  # that a stage came from
    messages: Counter[str] = field(default_factory=Counter)  # by kind
    size: Counter[str] = field(default_factory=Counter)  # of topic and body, by kind
    late_ms: list[float] = field(default_factory=list)  # of each stage: from its `t_end` to here
    said_ms: list[tuple[bytes, float]] = field(default_factory=list)  # likewise: sleeper, its `latency_ms`
    newest: dict[str, bytes] = field(default_factory=dict)  # body by kind, to be replayed


class Listener:
    """`with Listener(port) as listener:`; then `listener.begin()`, and `listener.heard()` after a while."""

    def __init__(self, port: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_listen, args=(port, theirs), name="listener")

    def __enter__(self) -> Self:
        self._process.start()
        self._pipe.recv()  # it is subscribed
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def begin(self) -> None:
        """Forget what came so far."""
        self._ask("begin")

    def heard(self) -> Heard:
        """Return what came since."""
        return self._ask("heard")

    def _ask(self, what: str) -> Heard:
        self._pipe.send(what)
        answer: Heard = self._pipe.recv()
        return answer


def _listen(port: int, pipe: Connection) -> None:
    link, packets, heard = connection(port, "bench-listener"), Packets(), Heard()
    link.sendall(subscribe("sleepstream/#"))
    sleepers: set[bytes] = set()
    began = time.time()
    watched: list[Any] = [link, pipe]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if link in ready:
            data = link.recv(1 << 20)
            if not data:
                return
            now = time.time()
            for kind, content in packets.feed(data):
                if kind == PUBLISH:
                    _note(heard, sleepers, now, *message(content))
                elif kind == SUBACK:
                    pipe.send("subscribed")
        if pipe in ready:
            asked = pipe.recv()
            heard.seconds, heard.sleepers = time.time() - began, len(sleepers)
            pipe.send(heard)
            if asked == "begin":
                heard, sleepers, began = Heard(), set(), time.time()


def _note(heard: Heard, sleepers: set[bytes], now: float, topic: bytes, body: bytes) -> None:
    root, _, last = topic.rpartition(b"/")
    kind = last.decode()
    heard.messages[kind] += 1
    heard.size[kind] += len(topic) + len(body)
    if kind == "stage":
        at = body.find(_T_END) + len(_T_END)
        ended = datetime.fromisoformat(body[at : body.index(b'"', at)].decode()).timestamp()
        heard.late_ms.append((now - ended) * 1000)
        at = body.find(_LATENCY) + len(_LATENCY)
        heard.said_ms.append((root, float(body[at:].split(b",", 1)[0].rstrip(b"}"))))
        sleepers.add(root)
    heard.newest[kind] = body
