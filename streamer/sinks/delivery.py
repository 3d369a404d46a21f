"""Publishes on one connection: the newest message of each slot, the outbox in order, urgent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field

from streamer.clock import Clock, retry_after_s
from streamer.journal.outbox import Parcel
from streamer.sinks.client import Client
from streamer.sinks.refusals import Refusals, Refused, Verdict
from streamer.sinks.settings import MqttSettings
from streamer.sinks.topics import MqttStream, Slot

IN_FLIGHT = 8  # unanswered parcels of all streams; brokers take 20 messages at once, slots included


@dataclass(frozen=True, slots=True)
class Books:
    """The state that outlives a connection."""

    settings: MqttSettings
    clock: Clock
    refusals: Refusals
    published: Counter[str] = field(default_factory=Counter)  # acknowledged messages by kind
    progress: asyncio.Event = field(default_factory=asyncio.Event)  # something was acknowledged

    def backoff_s(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, s."""
        return retry_after_s(failures, self.settings.retry_min_s, self.settings.retry_max_s)


class Delivery:
    """Runs the tasks of one connection; a message that the broker refuses ends none of them.

    Args:
        client: a connected client.
        tasks: the group that owns the tasks.
        books: the state that outlives the connection.

    """

    def __init__(self, client: Client, tasks: asyncio.TaskGroup, books: Books) -> None:
        self.client = client
        self._tasks = tasks
        self._books = books
        self._window = asyncio.Semaphore(IN_FLIGHT)

    def attach(self, stream: MqttStream) -> None:
        """Publish a stream's messages from now on."""
        for slot in stream.slots:
            self.keep(slot)
        self._tasks.create_task(self._deliver(stream), name=f"mqtt {stream.root} outbox")
        self._tasks.create_task(self._speak(stream), name=f"mqtt {stream.root} at once")
        if stream.commands:
            self._tasks.create_task(
                self.subscribe(f"{stream.root}/command", keep_asking=True),
                name=f"mqtt {stream.root} subscription",
            )

    def keep(self, slot: Slot) -> None:
        """Publish a slot's newest message from now on."""
        self._tasks.create_task(self._keep_current(slot), name=f"mqtt {slot.topic}")

    async def offer(
        self,
        topic: str,
        body: str,
        kind: str,
        *,
        retain: bool = False,
        expiry_s: float | None = None,
        correlation: bytes = b"",
    ) -> Verdict:
        """Publish one message, unless its topic is left out.

        Args:
            topic: full topic.
            body: of the message.
            kind: under which it is counted.
            retain: whether the broker keeps it.
            expiry_s: after which the broker drops it (MQTT 5).
            correlation: of the request that it answers (MQTT 5).

        Raises:
            MqttError: the connection broke.

        """
        refusals = self._books.refusals
        if not refusals.may_say(topic):
            return "left out"
        try:
            await self.client.say(topic, body, retain, expiry_s, correlation)
        except Refused as refusal:
            return refusals.refused(topic, refusal)
        refusals.accepted(topic)
        self._books.published[kind] += 1
        return "taken"

    async def subscribe(self, topic: str, qos: int = 1, *, keep_asking: bool = False) -> None:
        """Subscribe, unless the topic is left out; `keep_asking`: try again until the broker accepts.

        Raises:
            MqttError: the connection broke.

        """
        refusals = self._books.refusals
        while True:
            if refusals.may_say(topic):
                try:
                    await self.client.hear(topic, qos)
                except Refused as refusal:
                    refusals.deny(topic, refusal.reason)
                else:
                    refusals.accepted(topic)
                    return
            if not keep_asking:
                return
            await self._books.clock.sleep(refusals.rest_s(topic))

    async def _keep_current(self, slot: Slot) -> None:
        """Publish the newest message of one topic whenever there is a new one."""
        books, failures = self._books, 0
        slot.forget()
        while True:
            await slot.changed.wait()
            slot.changed.clear()
            version, remaining_s = slot.version, slot.remaining_s(books.clock.monotonic())
            verdict: Verdict = "taken"
            if slot.body is not None and (remaining_s is None or remaining_s > 0):
                verdict = await self.offer(
                    slot.topic, slot.body, slot.kind, retain=True, expiry_s=remaining_s
                )
            failures = failures + 1 if verdict == "later" else 0
            if verdict != "later":
                slot.said = version
                books.progress.set()
            if verdict in ("later", "left out"):
                rest_s = books.backoff_s(failures) if failures else books.refusals.rest_s(slot.topic)
                await books.clock.sleep(rest_s)
                slot.changed.set()

    async def _speak(self, stream: MqttStream) -> None:
        """Publish urgent messages before any backlog; those from before the connection are dropped."""
        while not stream.at_once.empty():
            stream.at_once.get_nowait()
        self._books.progress.set()
        while True:
            topic, body, correlation = await stream.at_once.get()
            stream.speaking = True
            try:
                kind = "answer" if topic == f"{stream.root}/answer" else "event"
                verdict = await self.offer(topic, body, kind, correlation=correlation)
            finally:
                stream.speaking = False
            if verdict == "taken" and topic == f"{stream.root}/event":
                stream.known.add(body)
            self._books.progress.set()

    async def _deliver(self, stream: MqttStream) -> None:
        """Publish the outbox, one parcel after the other.

        The order is kept even if the broker refuses a parcel for now. Parcels of a topic that it denies stay
        in the outbox, and later ones are published before them.
        """
        books, outbox = self._books, stream.outbox
        at, again = -1, math.inf  # the last parcel that was tried, and when to start over
        stream.left_out.clear()
        while True:
            parcel: Parcel | None = None
            rest_s = again - books.clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s if rest_s < math.inf else None):
                    parcel = await outbox.after(at) if rest_s > 0 else None
            if parcel is None:
                at, again = -1, math.inf
                stream.left_out.clear()
                continue
            if await self._hand_over(stream, parcel):
                outbox.acknowledge(parcel.id)
                at = parcel.id if stream.left_out else -1  # an earlier session may have added more
            else:
                stream.left_out.add(parcel.id)
                at = parcel.id
                rest_s = books.refusals.rest_s(f"{stream.root}/{parcel.kind}")
                again = min(again, books.clock.monotonic() + rest_s)
            books.progress.set()

    async def _hand_over(self, stream: MqttStream, parcel: Parcel) -> bool:
        """Publish one parcel until it is taken or put aside; return False if its topic is left out."""
        failures = 0
        while True:
            if parcel.body in stream.known:
                stream.known.remove(parcel.body)
                return True
            async with self._window:
                late = parcel.age_s(self._books.clock) > self._books.settings.late_after_s
                body = _as_historical(parcel.body) if late else parcel.body
                verdict = await self.offer(f"{stream.root}/{parcel.kind}", body, parcel.kind)
            if verdict != "later":
                return verdict != "left out"
            failures += 1
            await self._books.clock.sleep(self._books.backoff_s(failures))


def _as_historical(body: str) -> str:
    """Mark an epoch or event as delivered late; nothing else in it changes."""
    return json.dumps({**json.loads(body), "historical": True}, separators=(",", ":"), ensure_ascii=False)
