"""Publishes stages, epochs, events and availability to an MQTT broker that may come and go.

One task holds the connection and renews it. Messages of which only the newest matters (`stage`, `summary`,
availability) have one slot per topic; those that must arrive (`epoch`, `event`) stay in the stream's outbox
until the broker has acknowledged them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import Self

from aiomqtt import MqttError, ProtocolVersion, Will

from streamer import __version__
from streamer.clock import Clock
from streamer.errors import SettingsError
from streamer.journal.outbox import Outbox
from streamer.news import MqttStatus
from streamer.payloads import EnginePayload, to_json, utc
from streamer.sinks.client import (
    MAYBE_OLD,
    Client,
    check_login,
    correlation_of,
    explain,
    failure,
    tls_context,
)
from streamer.sinks.commands import CommandInbox, OnCommand, OnRefused
from streamer.sinks.delivery import Books, Delivery
from streamer.sinks.homeassistant import HomeAssistant
from streamer.sinks.refusals import Refusals, Refused
from streamer.sinks.settings import MqttSettings
from streamer.sinks.standby import until_free
from streamer.sinks.topics import (
    OFFLINE,
    ONLINE,
    PREFIX,
    MqttStream,
    Slot,
    ask_topic,
    availability_topic,
    engine_topic,
)

DRAIN_S = 1.0  # at the stop, for messages that wait
GOODBYE_S = 0.4  # for `offline`, and again for the disconnection
STOP_S = 2.0  # for the whole stop

log = logging.getLogger(__name__)
_LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VERSIONS = {ProtocolVersion.V5: "5", ProtocolVersion.V311: "3.1.1"}


class _Stopped(Exception):
    """Ends a connection's task group from within."""


class MqttSink:
    """The connection to one broker: `async with MqttSink(...) as sink: stream = sink.stream(name, outbox)`.

    Entering never waits for the broker. Leaving waits at most `STOP_S` seconds; messages that are not
    delivered by then stay in their outbox. `on_change` is called on the event loop when `status` changes in
    more than its counts. A bug here breaks the connection and is reported like any other error, never raised.

    Raises:
        SettingsError: a node or stream name is not a plain topic level, or the login cannot be sent.
        SinkError: a certificate or key cannot be read.

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
        check_login()
        self._tls = tls_context(settings)  # made once, so that a wrong file is found before the night
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
        self._connection: Delivery | None = None  # None while there is no connection
        self._connections = 0
        self._protocol = ""
        self._wills = True  # the broker takes our last will
        self._lacking = ""  # what the broker cannot do, as last reported
        self._explained = False  # the reason for the end of the last connection was reported already
        self._last_error = ""
        self._books = Books(settings, clock, Refusals(clock, self._refused))
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> MqttStatus:
        """The state of the connection now."""
        return MqttStatus(
            connected=self._connection is not None,
            protocol=self._protocol,
            reconnects=max(0, self._connections - 1),
            last_error=self._last_error,
            published=dict(self._books.published),
            backlog=sum(len(stream.outbox) for stream in self._streams.values()),
            left_out=self._books.refusals.left_out,
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
            self._connection.attach(stream)
        return stream

    async def flush(self) -> None:
        """Wait until the broker has everything; limit the wait with `asyncio.timeout`."""
        while self._pending():
            self._books.progress.clear()
            await self._books.progress.wait()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="mqtt")
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._task is not None
        self._stopping.set()
        try:
            await asyncio.wait({self._task}, timeout=STOP_S)
        finally:
            self._task.cancel()
        await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Report a bug that ended the task."""
        if not task.cancelled() and (error := task.exception()):
            self._changed(f"internal error, MQTT has stopped: {error!r}")

    def _refused(self, what: str) -> None:
        self._changed(f"broker {self._settings.host}:{self._settings.port} {what}")

    def _changed(self, last_error: str) -> None:
        self._last_error = last_error
        if self._on_change:
            self._on_change(self.status)

    # ---- the connection

    async def _run(self) -> None:
        """Connect, serve until the connection breaks, pause, and repeat until the stop."""
        failures = 0
        while not self._stopping.is_set():
            connections, started = self._connections, self._clock.monotonic()
            error = await self._session(ProtocolVersion.V5)
            never_met = self._connections == connections and self._protocol != "5"
            if error is not None and failure(error) in (MAYBE_OLD if never_met else ("version",)):
                error = await self._session(ProtocolVersion.V311)
            if error is None:
                return
            self._wills = self._wills and failure(error) != "will"
            if not self._explained:  # reported already
                self._changed(explain(error, self._settings))
            stood = self._connections > connections
            held_s = self._clock.monotonic() - started if stood else 0.0
            failures = 1 if held_s > self._settings.retry_max_s or self._explained else failures + 1
            refused = failure(error) == "login"  # then the longest pause
            await self._rest(self._settings.retry_max_s if refused else self._books.backoff_s(failures))
            if stood and not self._explained:  # perhaps another engine took the name
                await self._stand_by(failure(error) == "taken over")

    async def _stand_by(self, ousted: bool) -> None:
        """Wait while another process uses our node name; `ousted`: it has just taken that over."""
        protocol = next(one for one, name in _VERSIONS.items() if name == self._protocol)
        with contextlib.suppress(MqttError):
            await until_free(
                self._settings,
                self._tls,
                self._node,
                self._us,
                protocol,
                self._report_taken,
                self._stopping,
                ousted,
            )

    def _report_taken(self, other: EnginePayload) -> None:
        self._changed(
            f"node name {self._node!r} was taken by another process, on {other.host} since "
            f"{other.started:%Y-%m-%d %H:%M} UTC; this one waits until it is gone: give each its own `node`"
        )

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _session(self, protocol: ProtocolVersion) -> MqttError | None:
        """Run one connection; return why it ended, or None after a stop."""
        will = Will(self._availability.topic, OFFLINE, qos=1, retain=True) if self._wills else None
        refusals = self._books.refusals
        client = Client(self._settings, self._tls, self._node, will, protocol, lambda: refusals.in_doubt)
        ended: MqttError | None = None
        self._explained = False
        try:
            # Not `async with`: that disconnects cleanly after a failure too, and `online` would stay
            # retained.
            await client.__aenter__()
            await self._serve(client)
            await client.__aexit__(None, None, None)
        except* MqttError as group:
            ended = next(error for error in group.exceptions if isinstance(error, MqttError))
            for topic in client.ignored:
                refusals.ignored(topic)
            if failure(ended) not in ("taken over", "silent"):
                self._explained = refusals.hung_up(client.unanswered)
        except* Exception as group:  # a bug: reported, and the connection is renewed as after any error
            log.error("internal error in MQTT", exc_info=group)
            ended = ended or MqttError(f"internal error: {group.exceptions[0]!r}")
        finally:
            client.abandon()
        return ended

    async def _serve(self, client: Client) -> None:
        """Run the tasks of one connection until it breaks or the sink stops."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._begin(client, tasks)
                await self._stopping.wait()
                with contextlib.suppress(TimeoutError):  # undelivered messages stay in their outbox
                    async with asyncio.timeout(DRAIN_S):
                        await self.flush()
                raise _Stopped
        except* _Stopped:
            pass
        finally:
            self._connection = None
        client.timeout = GOODBYE_S
        refusals = self._books.refusals
        for slot in (*(stream.availability for stream in self._streams.values()), self._availability):
            if slot.body == ONLINE and refusals.may_say(slot.topic):
                with contextlib.suppress(Refused):
                    await client.say(slot.topic, OFFLINE, retain=True)

    def _begin(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        self._connection = delivery = Delivery(client, tasks, self._books)
        self._connections += 1
        self._protocol = _VERSIONS[client.protocol]
        self._availability.put(ONLINE, self._clock.monotonic())
        tasks.create_task(self._listen(delivery), name="mqtt commands")
        asked = delivery.subscribe(ask_topic(self._node), keep_asking=True)
        tasks.create_task(asked, name="mqtt who has the name")
        for slot in (self._note, self._availability):
            delivery.keep(slot)
        if self._home is not None:
            tasks.create_task(self._home.announce(delivery), name="mqtt home assistant")
        for stream in self._streams.values():
            delivery.attach(stream)
        self._changed("")
        if client.lacks and client.lacks != self._lacking:
            self._refused(client.lacks)
        self._lacking = client.lacks

    async def _listen(self, delivery: Delivery) -> None:
        """Pass commands on.

        Raises:
            MqttError: the connection broke.

        """
        async for message in delivery.client.messages:
            name = str(message.topic).removeprefix(f"{PREFIX}/{self._node}/").removesuffix("/command")
            stream = self._streams.get(name)
            if not isinstance(message.payload, bytes):
                continue
            if message.topic.matches(ask_topic(self._node)):
                self._note.forget()  # published again, as the proof that this engine is alive
                continue
            if stream and stream.commands:
                answer = partial(stream.answer, correlation=correlation_of(message))
                stream.commands.receive(message.payload, message.retain, answer)
            elif self._home is not None:
                await self._home.heard(delivery, str(message.topic), message.payload, message.retain)

    def _pending(self) -> bool:
        streams = self._streams.values()
        slots = [slot for stream in streams for slot in stream.slots]
        resting = self._books.refusals.rest_s
        unsaid = any(slot.said != slot.version and not resting(slot.topic) for slot in slots)
        return (
            unsaid
            or any(len(stream.outbox) > len(stream.left_out) for stream in streams)
            or any(not stream.at_once.empty() or stream.speaking for stream in streams)
        )


def _level(what: str, name: str) -> str:
    """Check that a name is one MQTT topic level, without wildcards and slashes."""
    if not _LEVEL.fullmatch(name):
        raise SettingsError(f"{what} name {name!r} cannot be an MQTT topic level; use letters, digits, _ . -")
    return name
