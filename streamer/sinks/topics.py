"""The MQTT topics of one sleeper, and the messages that wait to be published on them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel

from streamer.clock import Clock
from streamer.journal.outbox import Outbox
from streamer.news import News, Online, Urgent
from streamer.payloads import (
    AlarmPayload,
    AnswerPayload,
    HealthPayload,
    NightPayload,
    SignalPayload,
    StagePayload,
    SummaryPayload,
    to_json,
)
from streamer.sinks.commands import CommandInbox

PREFIX = "sleepstream"
ONLINE, OFFLINE = "online", "offline"
NEWEST: Mapping[type[BaseModel], str] = {  # retained: only the newest message of each topic counts
    StagePayload: "stage",
    SummaryPayload: "summary",
    NightPayload: "night",
    AlarmPayload: "alarm",
    HealthPayload: "health",
    SignalPayload: "signal",
}
URGENT = 64  # urgent messages that may wait; if more come, the oldest is left to the outbox


def availability_topic(node: str) -> str:
    """Return the topic of whether an engine with this node name is connected."""
    return f"{PREFIX}/{node}/availability"


def engine_topic(node: str) -> str:
    """Return the topic of the note of the engine with this node name."""
    return f"{PREFIX}/{node}/engine"


def ask_topic(node: str) -> str:
    """Return the topic on which an engine is asked to publish its note again."""
    return f"{engine_topic(node)}/ask"


class Slot:
    """The newest message of one retained topic; published again on every new connection."""

    def __init__(self, topic: str, kind: str, expiry_s: float | None = None) -> None:
        self.topic = topic
        self.kind = kind
        self.expiry_s = expiry_s
        self.body: str | None = None
        self.version = 0  # of the body
        self.said = 0  # the version that the broker has
        self.set_at = 0.0  # monotonic seconds
        self.changed = asyncio.Event()

    def put(self, body: str, now: float) -> None:
        """Set the newest message; `now` in monotonic seconds."""
        self.body, self.set_at = body, now
        self.version += 1
        self.changed.set()

    def forget(self) -> None:
        """Publish the message again: the broker of a new connection may have lost it."""
        self.said = 0
        self.changed.set()

    def remaining_s(self, now: float) -> float | None:
        """Return how long the message stays valid, s; None: for ever."""
        return None if self.expiry_s is None else self.expiry_s - (now - self.set_at)


class Saying(NamedTuple):
    """A message to be published once, at once."""

    topic: str
    body: str
    correlation: bytes = b""  # of the command that it answers, in MQTT 5


class MqttStream:
    """One sleeper's topics, a sink. Made by `MqttSink.stream`."""

    name = "MQTT"
    wants: tuple[type, ...] = (*NEWEST, Online, Urgent)
    prompt = True  # `hear` only fills a slot or a queue

    def __init__(self, root: str, outbox: Outbox, stage_expiry_s: float, clock: Clock) -> None:
        self.root = root
        self.outbox = outbox
        self.commands: CommandInbox | None = None
        self.availability = Slot(f"{root}/availability", "availability")
        self._newest: dict[type, Slot] = {
            kind: Slot(f"{root}/{name}", name, stage_expiry_s if kind is StagePayload else None)
            for kind, name in NEWEST.items()
        }
        self.slots = (self.availability, *self._newest.values())
        self.at_once: asyncio.Queue[Saying] = asyncio.Queue(URGENT)
        self.speaking = False  # one of them is sent and not yet acknowledged
        self.known: set[str] = set()  # bodies of urgent events that the broker has; the outbox has them too
        self.left_out: set[int] = set()  # parcels of topics that the broker does not take
        self._clock = clock

    def hear(self, stream: str, news: News) -> None:
        """Take news that go straight to the broker; epochs and events come through the outbox."""
        slot = self._newest.get(type(news))
        if slot is not None and isinstance(news, BaseModel):
            slot.put(to_json(news), self._clock.monotonic())
        elif isinstance(news, Online):
            self.availability.put(ONLINE if news.online else OFFLINE, self._clock.monotonic())
        elif isinstance(news, Urgent):  # the outbox has it too; the first acknowledgement counts for both
            self.say(f"{self.root}/event", to_json(news.event))

    def answer(self, payload: AnswerPayload, correlation: bytes = b"") -> None:
        """Answer a command, always on this stream's topic, not on one that a client names."""
        self.say(f"{self.root}/answer", to_json(payload), correlation)

    def say(self, topic: str, body: str, correlation: bytes = b"") -> None:
        """Publish a message once, at once, not retained; without a connection it is dropped."""
        if self.at_once.full():
            self.at_once.get_nowait()
        self.at_once.put_nowait(Saying(topic, body, correlation))
