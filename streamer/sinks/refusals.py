"""Handles a broker's refusals: which messages are repeated or put aside, which topics are left out.

A broker refuses a message in three ways. For the moment (it is full, or has a quota): the message is sent
again and later ones of its order wait. For good (too large, malformed): the message is put aside and stays in
the session file. By its access rules: the whole topic is left out and tried again from time to time, and all
others go on. If a broker hangs up instead of refusing, the unanswered messages show which topic it denies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from aiomqtt import MqttCodeError

from streamer.clock import Clock

REST_S = 300.0  # until a denied topic is tried again
HANG_UP_REST_S = 3600.0  # likewise if the broker hangs up at it
AT_ONCE_S = 1.0  # a broker that hangs up so soon after a denial does so because of it
LAST_S = 3600.0  # a message that is refused for so long, other than for a quota, is put aside
DOUBT_S = 60.0  # messages are sent one at a time for so long after a hang-up
STRIKES = 2  # hang-ups at one topic until it counts as denied

NOT_AUTHORIZED, BAD_TOPIC = 0x87, 0x90
TOO_LARGE, QUOTA, MALFORMED = 0x95, 0x97, 0x99

Verdict = Literal["taken", "later", "aside", "left out"]


class Refused(MqttCodeError):
    """The broker refused a message or subscription; the connection stays."""

    @property
    def code(self) -> int:
        """The reason code of MQTT 5; 3.1.1 has only 0x80, for a subscription."""
        return self.rc if isinstance(self.rc, int) else int(getattr(self.rc, "value", 0x80))

    @property
    def reason(self) -> str:
        """The reason as the protocol names it."""
        return f"{self.rc} (0x{self.code:02x})".lower()


class Refusals:
    """The refusals of one broker, over all connections to it.

    Args:
        clock: time.
        tell: gets one line when something new is refused.

    """

    def __init__(self, clock: Clock, tell: Callable[[str], None]) -> None:
        self._clock = clock
        self._tell = tell
        self._until: dict[str, float] = {}  # topics that are left out, and until when; monotonic s
        self._denied: dict[str, float] = {}  # topics that were denied by name, and when; monotonic s
        self._suspected: set[str] = set()  # topics at which the broker hangs up
        self._strikes: Counter[str] = Counter()
        self._doubt_until = 0.0  # monotonic s
        self._refused_since: dict[str, float] = {}  # topics that took nothing since; monotonic s
        self._told: set[tuple[str, Verdict]] = set()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Topics that the broker denies."""
        return tuple(sorted(self._until))

    @property
    def in_doubt(self) -> bool:
        """Whether the broker hung up for an unknown reason, so that messages must be sent one at a time."""
        return bool(self._strikes) and self._clock.monotonic() < self._doubt_until

    def may_say(self, topic: str) -> bool:
        """Whether to publish on a topic: it is not denied, or it is time to try again."""
        if self.rest_s(topic) > 0:
            return False
        if topic in self._suspected:
            self._strikes[topic] = STRIKES - 1  # sent alone, so that no other topic is suspected
            self._doubt_until = self._clock.monotonic() + DOUBT_S
        return True

    def rest_s(self, topic: str) -> float:
        """Return how long a topic is still left out, in s."""
        if not self._until:  # the usual case
            return 0.0
        return max(0.0, self._until.get(topic, 0.0) - self._clock.monotonic())

    def accepted(self, topic: str) -> None:
        """Note that the broker took a message: its topic is no longer suspect."""
        if topic in self._strikes:
            del self._strikes[topic]
        if self._told:
            self._told = {(told, verdict) for told, verdict in self._told if told != topic}
        self._until.pop(topic, None)
        self._denied.pop(topic, None)
        self._refused_since.pop(topic, None)
        self._suspected.discard(topic)

    def refused(self, topic: str, refusal: Refused) -> Verdict:
        """Decide on a refused message; reported once until its topic is accepted again."""
        self._strikes.pop(topic, None)  # the broker answered and did not hang up
        if refusal.code in (NOT_AUTHORIZED, BAD_TOPIC):
            self.deny(topic, refusal.reason)
            return "left out"
        now = self._clock.monotonic()
        lasted_s = now - self._refused_since.setdefault(topic, now)
        if refusal.code in (TOO_LARGE, MALFORMED) or (refusal.code != QUOTA and lasted_s >= LAST_S):
            del self._refused_since[topic]
            self._say(topic, "aside", f"refuses a message on {topic} for good: {refusal.reason}; put aside")
            return "aside"
        self._say(
            topic, "later", f"refuses a message on {topic}: {refusal.reason}; it is sent again, in its order"
        )
        return "later"

    def deny(self, topic: str, reason: str) -> None:
        """Leave a denied topic out for a while."""
        self._denied[topic] = self._clock.monotonic()
        self._leave_out(topic, reason, REST_S)

    def _leave_out(self, topic: str, reason: str, rest_s: float) -> None:
        self._until[topic] = self._clock.monotonic() + rest_s
        text = f"refuses a message on {topic}: {reason}; that topic is left out and the rest goes on"
        self._say(topic, "left out", f"{text}: check what this user may publish")

    def hung_up(self, unanswered: set[str]) -> bool:
        """Note that the broker hung up while these topics waited; return whether the cause is known.

        Some brokers deny a topic and then hang up (mosquitto 2.0 does): such a topic is tried again seldom.
        Others hang up without an answer: a topic that was the only one waiting, twice, counts as denied.
        """
        now = self._clock.monotonic()
        denied = [topic for topic, at in self._denied.items() if now - at < AT_ONCE_S]
        self._denied.clear()
        for topic in denied:
            self._until[topic] = now + HANG_UP_REST_S
        if denied:
            return True
        self._strikes.update(unanswered)
        self._doubt_until = now + DOUBT_S
        if len(unanswered) != 1:
            return False
        (topic,) = unanswered
        if self._strikes[topic] < STRIKES:
            return False
        del self._strikes[topic]
        self._suspected.add(topic)
        self._leave_out(topic, "it hangs up at every message there", HANG_UP_REST_S)
        return True

    def ignored(self, topic: str) -> None:
        """Note that the broker answered later messages, but not one on this topic."""
        self._strikes[topic] += 1
        if self._strikes[topic] >= STRIKES:
            del self._strikes[topic]
            self._leave_out(topic, "it never answers there", REST_S)

    def _say(self, topic: str, verdict: Verdict, text: str) -> None:
        if (topic, verdict) not in self._told:
            self._told.add((topic, verdict))
            self._tell(text)
