"""Stages, epochs, events and availability to an MQTT broker that may come and go.

One task holds the connection and renews it for ever. What is only worth its newest value (`stage`, `summary`,
availability) is kept in one slot per topic; what must arrive (`epoch`, `event`) waits in the stream's outbox
until the broker has acknowledged it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import re
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiomqtt import MqttError, ProtocolVersion, Will

from streamer import __version__
from streamer.clock import Clock
from streamer.errors import SettingsError
from streamer.news import MqttStatus
from streamer.outbox import Outbox, Parcel
from streamer.payloads import EnginePayload, to_json, utc
from streamer.sinks.client import (
    Client,
    explain,
    refuses_login,
    speaks_only_3,
    tls_context,
    unanswered,
)
from streamer.sinks.commands import CommandInbox, OnCommand, OnRefused
from streamer.sinks.homeassistant import HomeAssistant
from streamer.sinks.settings import MqttSettings
from streamer.sinks.standby import until_free
from streamer.sinks.topics import OFFLINE, ONLINE, PREFIX, MqttStream, Slot, availability_topic, engine_topic

IN_FLIGHT = 8  # parcels; with the slots it stays below the 20 that brokers take before a message must wait
DRAIN_S = 1.0  # at the stop, for what is still on its way
GOODBYE_S = 0.4  # for `offline`, and again for the disconnection
STOP_S = 2.0  # for all of it

log = logging.getLogger(__name__)
_LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VERSIONS = {ProtocolVersion.V5: "5", ProtocolVersion.V311: "3.1.1"}


class _Stopped(Exception):
    """Ends a connection's task group from within."""


@dataclass(frozen=True, slots=True)
class _Connection:
    """What the tasks of one connection share."""

    client: Client
    tasks: asyncio.TaskGroup
    window: asyncio.Semaphore


class MqttSink:
    """A broker that may be away: `async with MqttSink(...) as sink: stream = sink.stream(name, outbox)`.

    Entering never waits for the broker. Leaving waits at most `STOP_S` seconds; what is not delivered by then
    stays in its outbox. `on_change` is called on the event loop whenever `status` says something new, counts
    aside. A fault in the program breaks the connection, is reported like any other error, and never raised.

    Raises:
        SettingsError: a node or stream name that is not one plain topic level.
        SinkError: a certificate or key that cannot be read.

    """

    def __init__(
        self,
        settings: MqttSettings,
        node: str,
        clock: Clock,
        on_change: Callable[[MqttStatus], None] | None = None,
        home: HomeAssistant | None = None,
    ) -> None:
        self._settings = settings
        self._node = _level("node", node)
        self._clock = clock
        self._on_change = on_change
        self._home = home
        self._tls = tls_context(settings)  # once: a wrong file is found now and not in the night
        self._streams: dict[str, MqttStream] = {}
        self._availability = Slot(availability_topic(node), "availability")
        self._us = EnginePayload(
            instance=secrets.token_hex(4),
            host=socket.gethostname(),
            version=__version__,
            started=utc(clock.wall()),
        )
        self._note = Slot(engine_topic(node), "engine")
        self._note.put(to_json(self._us), clock.monotonic())
        self._connection: _Connection | None = None
        self._connections = 0
        self._protocol = ""
        self._last_error = ""
        self._published: Counter[str] = Counter()
        self._progress = asyncio.Event()  # something was acknowledged
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> MqttStatus:
        """A snapshot."""
        return MqttStatus(
            connected=self._connection is not None,
            protocol=self._protocol,
            reconnects=max(0, self._connections - 1),
            last_error=self._last_error,
            published=dict(self._published),
            backlog=sum(len(stream.outbox) for stream in self._streams.values()),
        )

    def stream(
        self,
        name: str,
        outbox: Outbox,
        on_command: OnCommand | None = None,
        on_refused: OnRefused | None = None,
    ) -> MqttStream:
        """Register one sleeper's stream, at any time; with `on_command` its command topic is subscribed."""
        if name in self._streams:
            raise SettingsError(f"two streams are named {name!r}; give each [[stream]] its own name")
        root = f"{PREFIX}/{self._node}/{_level('stream', name)}"
        stream = MqttStream(root, outbox, self._settings.stage_expiry_s, self._clock)
        if on_command is not None:
            stream.commands = CommandInbox(on_command, on_refused or (lambda _reason: None), self._clock)
        self._streams[name] = stream
        if self._connection is not None:
            self._attach(self._connection, stream)
        return stream

    async def flush(self) -> None:
        """Wait until the broker has everything; give it a deadline with `asyncio.timeout`."""
        while self._pending():
            self._progress.clear()
            await self._progress.wait()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="mqtt")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._stopping.set()
        try:
            await asyncio.wait({self._task}, timeout=STOP_S)
        finally:
            self._task.cancel()
        await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A programming error must not go unnoticed until the morning."""
        if not task.cancelled() and (error := task.exception()):
            self._changed(f"internal error, MQTT has stopped: {error!r}")

    def _changed(self, last_error: str) -> None:
        self._last_error = last_error
        if self._on_change:
            self._on_change(self.status)

    # ---- the connection

    async def _run(self) -> None:
        """Connect, serve until it breaks, rest, for ever."""
        failures = 0
        while not self._stopping.is_set():
            connections, started = self._connections, self._clock.monotonic()
            error = await self._session(ProtocolVersion.V5)
            never_met = self._connections == connections and self._protocol != "5"
            if speaks_only_3(error) or (never_met and unanswered(error)):  # some old ones just hang up
                error = await self._session(ProtocolVersion.V311)
            if error is None:
                return
            self._changed(explain(error, self._settings))
            held_s = self._clock.monotonic() - started if self._connections > connections else 0.0
            failures = 1 if held_s > self._settings.retry_max_s else failures + 1
            await self._rest(
                self._settings.retry_max_s if refuses_login(error) else self._backoff_s(failures)
            )
            if self._connections > connections:  # we have lost one that stood: perhaps to a namesake
                await self._stand_by()

    async def _stand_by(self) -> None:
        """Leave our name to the process that has taken it, if one has, until it is gone."""
        protocol = next(one for one, name in _VERSIONS.items() if name == self._protocol)
        with contextlib.suppress(MqttError):
            await until_free(
                self._settings, self._tls, self._node, self._us, protocol, self._say_taken, self._stopping
            )

    def _say_taken(self, other: EnginePayload) -> None:
        self._changed(
            f"node name {self._node!r} was taken by another process, on {other.host} since "
            f"{other.started:%Y-%m-%d %H:%M} UTC; this one waits until that is gone: give each its own `node`"
        )

    def _backoff_s(self, failures: int) -> float:
        """Exponential, with jitter so that a house full of clients does not return at the same moment."""
        longest = min(self._settings.retry_max_s, self._settings.retry_min_s * 2.0 ** min(failures - 1, 30))
        return random.uniform(longest / 2, longest)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _session(self, protocol: ProtocolVersion) -> MqttError | None:
        """One connection from start to end; why it ended, or None after a stop."""
        will = Will(self._availability.topic, OFFLINE, qos=1, retain=True)
        client = Client(self._settings, self._tls, self._node, will, protocol)
        failure: MqttError | None = None
        try:
            # Not `async with`: that says goodbye after a failure too, and our `online` would stay behind.
            await client.__aenter__()
            await self._serve(client)
            await client.__aexit__(None, None, None)
        except* MqttError as group:
            failure = next(error for error in group.exceptions if isinstance(error, MqttError))
        except* Exception as group:  # a fault of ours: said, and begun again like any other
            log.error("internal error in MQTT", exc_info=group)
            failure = failure or MqttError(f"internal error: {group.exceptions[0]!r}")
        finally:
            client.abandon()
        return failure

    async def _serve(self, client: Client) -> None:
        """Run the tasks of one connection until it breaks, or until we are told to stop."""
        try:
            async with asyncio.TaskGroup() as tasks:
                connection = _Connection(client, tasks, asyncio.Semaphore(IN_FLIGHT))
                self._begin(connection)
                await self._stopping.wait()
                with contextlib.suppress(TimeoutError):  # what is left stays in its outbox
                    async with asyncio.timeout(DRAIN_S):
                        await self.flush()
                raise _Stopped
        except* _Stopped:
            pass
        finally:
            self._connection = None
        client.timeout = GOODBYE_S
        for slot in (*(stream.availability for stream in self._streams.values()), self._availability):
            if slot.body == ONLINE:
                await client.say(slot.topic, OFFLINE, retain=True)

    def _begin(self, connection: _Connection) -> None:
        client, tasks = connection.client, connection.tasks
        self._connection = connection
        self._connections += 1
        self._protocol = _VERSIONS[client.protocol]
        self._availability.put(ONLINE, self._clock.monotonic())
        tasks.create_task(client.refused(), name="mqtt refusals")
        tasks.create_task(self._listen(client), name="mqtt commands")
        for slot in (self._note, self._availability):
            tasks.create_task(self._keep_current(client, slot), name=f"mqtt {slot.topic}")
        if self._home is not None:
            tasks.create_task(self._home.announce(client), name="mqtt home assistant")
        for stream in self._streams.values():
            self._attach(connection, stream)
        self._changed("")

    def _attach(self, connection: _Connection, stream: MqttStream) -> None:
        client, tasks = connection.client, connection.tasks
        for slot in stream.slots:
            tasks.create_task(self._keep_current(client, slot), name=f"mqtt {slot.topic}")
        tasks.create_task(self._deliver(connection, stream), name=f"mqtt {stream.root} outbox")
        tasks.create_task(self._speak(client, stream), name=f"mqtt {stream.root} at once")
        if stream.commands:
            tasks.create_task(self._subscribe(client, stream), name=f"mqtt {stream.root} subscription")

    # ---- what its tasks do

    async def _keep_current(self, client: Client, slot: Slot) -> None:
        """Publish the newest value of one topic, whenever there is a newer one."""
        slot.forget()
        while True:
            await slot.changed.wait()
            slot.changed.clear()
            version, remaining_s = slot.version, slot.remaining_s(self._clock.monotonic())
            if slot.body is not None and (remaining_s is None or remaining_s > 0):
                await client.say(slot.topic, slot.body, retain=True, expiry_s=remaining_s)
                self._published[slot.kind] += 1
            slot.said = version
            self._progress.set()

    async def _speak(self, client: Client, stream: MqttStream) -> None:
        """Publish what cannot wait for the disk, before any backlog; what predates the connection is late."""
        while not stream.at_once.empty():
            stream.at_once.get_nowait()
        self._progress.set()
        while True:
            topic, body = await stream.at_once.get()
            stream.speaking = True
            try:
                await client.say(topic, body)
            finally:
                stream.speaking = False
            if topic == f"{stream.root}/event":
                stream.known.add(body)
            self._published["event"] += 1
            self._progress.set()

    async def _deliver(self, connection: _Connection, stream: MqttStream) -> None:
        """Hand over the outbox in order, a few at a time, starting with what was never acknowledged."""
        last_id = -1
        while True:
            parcel = await stream.outbox.after(last_id)
            await connection.window.acquire()
            last_id = parcel.id
            delivery = self._hand_over(connection, stream, parcel)
            connection.tasks.create_task(delivery, name=f"mqtt {stream.root} parcel {parcel.id}")

    async def _hand_over(self, connection: _Connection, stream: MqttStream, parcel: Parcel) -> None:
        """Publish one parcel and, only when the broker has it, forget it."""
        if parcel.body in stream.known:
            stream.known.remove(parcel.body)
        else:
            late = self._clock.wall() - parcel.created > self._settings.late_after_s
            body = _as_historical(parcel.body) if late else parcel.body
            await connection.client.say(f"{stream.root}/{parcel.kind}", body)
            self._published[parcel.kind] += 1
        connection.window.release()
        stream.outbox.acknowledge(parcel.id)
        self._progress.set()

    async def _subscribe(self, client: Client, stream: MqttStream) -> None:
        results = await client.subscribe(f"{stream.root}/command", qos=1)
        if any((code if isinstance(code, int) else code.value) >= 0x80 for code in results):
            self._changed(f"the broker does not let this user subscribe to {stream.root}/command")

    async def _listen(self, client: Client) -> None:
        """Pass commands on; ends, with MqttError, when the connection breaks."""
        async for message in client.messages:
            name = str(message.topic).removeprefix(f"{PREFIX}/{self._node}/").removesuffix("/command")
            stream = self._streams.get(name)
            if not isinstance(message.payload, bytes):
                continue
            if stream and stream.commands:
                stream.commands.receive(message.payload, message.retain)
            elif self._home is not None:
                await self._home.heard(client, str(message.topic), message.payload, message.retain)

    def _pending(self) -> bool:
        streams = self._streams.values()
        slots = [slot for stream in streams for slot in stream.slots]
        unsaid = any(slot.said != slot.version for slot in slots)
        return (
            unsaid
            or self.status.backlog > 0
            or any(not stream.at_once.empty() or stream.speaking for stream in streams)
        )


def _as_historical(body: str) -> str:
    """The same epoch or event, marked as delivered late: nothing else in it changes."""
    return json.dumps({**json.loads(body), "historical": True}, separators=(",", ":"), ensure_ascii=False)


def _level(what: str, name: str) -> str:
    """A name that is one MQTT topic level, free of wildcards and slashes."""
    if not _LEVEL.fullmatch(name):
        raise SettingsError(f"{what} name {name!r} cannot be an MQTT topic level; use letters, digits, _ . -")
    return name
