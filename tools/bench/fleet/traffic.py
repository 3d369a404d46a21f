"""MQTT at the bench's pace: a subscriber that counts and times, and a sender for thousands of sleepers.

Both read and write MQTT 3.1.1 themselves: a client library costs more per message than a broker does, and
would be what is measured.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import NamedTuple, Self

from streamer.sinks.wire import Message, encoded

CONNECT, CONNACK, SUBSCRIBE, PUBLISH = b"\x10", b"\x20\x02\x00\x00", b"\x82", 3
KINDS = ("stage", "epoch", "summary")
CYCLE_S = 30  # in which an engine at hop 1 s says 30 stages, one epoch and one summary
LEAST_WAIT_S = 0.005  # what is due within it is sent at once: waking up costs, too
PATIENCE_S = 5.0  # for acknowledgements, when all is sent
SHARED = 2000  # connections of a process at most; beyond, several sleepers share one
T_END, LATENCY = '"t_end":"', b'"latency_ms":'


def connect(port: int, client: str, topic: str | None = None) -> socket.socket:
    """Open a connection that the broker has accepted; with a topic it is subscribed, at QoS 0."""
    link = socket.create_connection(("127.0.0.1", port), 10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(_packet(CONNECT, b"\x00\x04MQTT\x04\x02\x00\x00" + _text(client)))  # a clean session
    if link.recv(4) != CONNACK:
        raise ConnectionError(f"the broker refuses {client}")
    if topic is not None:
        link.sendall(_packet(SUBSCRIBE, b"\x00\x01" + _text(topic) + b"\x00"))
        link.recv(5)
    return link


def _text(text: str) -> bytes:
    return len(text).to_bytes(2) + text.encode()


def _packet(head: bytes, content: bytes) -> bytes:
    return head + bytes([len(content)]) + content  # always shorter than 128 bytes


class Packets:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield topic and body of each message (QoS 0) that is complete."""
        data, at = self._rest + data, 0
        while True:
            length, shift, begin = 0, 0, at + 1
            while begin < len(data):
                byte = data[begin]
                length |= (byte & 0x7F) << shift
                shift, begin = shift + 7, begin + 1
                if byte < 0x80:
                    break
            else:
                break
            if begin + length > len(data):
                break
            if data[at] >> 4 == PUBLISH:
                body = begin + 2 + int.from_bytes(data[begin : begin + 2])
                yield data[begin + 2 : body], data[body : begin + length]
            at = begin + length
        self._rest = data[at:]


@dataclass
class Heard:
    """The messages of a span of time: how many, how large, how late."""

    sleepers: set[bytes] = field(default_factory=set)  # that a stage came from
    messages: Counter[str] = field(default_factory=Counter)  # by kind
    size: Counter[str] = field(default_factory=Counter)  # of topic and body, by kind
    late_ms: list[float] = field(default_factory=list)  # of each stage: from its `t_end` to here
    said_ms: list[tuple[bytes, float]] = field(default_factory=list)  # likewise: sleeper, its `latency_ms`
    newest: dict[str, bytes] = field(default_factory=dict)  # body by kind, to be replayed

    def note(self, now: float, topic: bytes, body: bytes) -> None:
        """Count a message that came now."""
        root, _, last = topic.rpartition(b"/")
        kind = last.decode()
        self.messages[kind] += 1
        self.size[kind] += len(topic) + len(body)
        self.newest[kind] = body
        if kind == "stage":
            ended = body.partition(T_END.encode())[2].partition(b'"')[0].decode()
            self.late_ms.append((now - datetime.fromisoformat(ended).timestamp()) * 1000)
            said = body.partition(LATENCY)[2].partition(b",")[0]
            self.said_ms.append((root, float(said.rstrip(b"}"))))
            self.sleepers.add(root)


class Listener:
    """`with Listener(port) as listener:` hears everything, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._link = connect(port, "bench-listener", "sleepstream/#")
        self._link.settimeout(None)
        self._heard, self._lock = Heard(), threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="bench listener")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()

    def take(self) -> Heard:
        """Return what came since the last call."""
        with self._lock:
            heard, self._heard = self._heard, Heard()
        return heard

    def _listen(self) -> None:
        packets = Packets()
        while data := self._link.recv(1 << 20):
            now = time.time()
            with self._lock:
                for topic, body in packets.feed(data):
                    self._heard.note(now, topic, body)


class Sent(NamedTuple):
    """What one process has sent."""

    messages: int
    behind_s: float  # how late the latest message left: the process was too slow


def send(
    port: int,
    newest: Mapping[str, bytes],
    sleepers: range,
    seconds: int,
    ready: Barrier,
    results: SimpleQueue[Sent],
) -> None:
    """Publish for so many sleepers what a real one published, each at its own moment of every second.

    Bodies are those of the recording, but for `t_end`, which is the moment of sending, so that a subscriber
    can tell how long a message took. Topics, QoS 1 and the retained flag are as the engine's. It begins when
    everybody is `ready`, and has a result when all is acknowledged, or clearly will not be.
    """
    with contextlib.ExitStack() as stack:
        names = [f"bench-{sleepers.start}-{number}" for number in range(min(len(sleepers), SHARED))]
        links = [stack.enter_context(connect(port, name)) for name in names]
        ready.wait()
        results.put(_send(links, {kind: newest[kind].decode() for kind in KINDS}, sleepers, seconds))


def _send(links: list[socket.socket], bodies: dict[str, str], sleepers: range, seconds: int) -> Sent:
    answers = _Answers(links)
    draw = random.Random(sleepers.start)
    turns = sorted(  # when in its second each sleeper speaks, and in which second of the cycle of its epoch
        (draw.random(), draw.randrange(CYCLE_S), at % len(links), f"sleepstream/bench{one}/sleeper/")
        for at, one in enumerate(sleepers)
    )
    began = time.monotonic()
    count, behind_s = 0, 0.0
    for second in range(seconds):
        for phase, epoch_at, link, root in turns:
            wait_s = began + second + phase - time.monotonic()
            if wait_s > LEAST_WAIT_S:
                answers.read(wait_s)
            behind_s = max(behind_s, -wait_s)
            for kind in KINDS if second % CYCLE_S == epoch_at else KINDS[:1]:
                message = Message(root + kind, _now(bodies[kind]), retain=kind != "epoch")
                links[link].sendall(encoded(message, count % 65535 + 1, five=False))
                count += 1
    until = time.monotonic() + PATIENCE_S
    while answers.count < count and time.monotonic() < until:
        answers.read(0.05)
    return Sent(count, behind_s)


class _Answers:
    """Counts the acknowledgements on many connections; each has four bytes."""

    def __init__(self, links: list[socket.socket]) -> None:
        self._links = {link.fileno(): link for link in links}
        self._ready = select.epoll()
        self._bytes = 0
        for number in self._links:
            self._ready.register(number, select.EPOLLIN)

    @property
    def count(self) -> int:
        """How many have come."""
        return self._bytes // 4

    def read(self, wait_s: float) -> None:
        """Wait, then take what there is."""
        time.sleep(wait_s)
        for number, _ in self._ready.poll(0):
            self._bytes += len(self._links[number].recv(1 << 16))


def _now(body: str) -> str:
    """The same body, as if its 30 s ended now."""
    before, mark, after = body.partition(T_END)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return before + mark + now + after[after.index('"') :] if mark else body
