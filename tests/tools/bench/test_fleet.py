"""The load generator: what it sends arrives as engines send it, and what it measures is what came."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.payloads import to_json
from streamer.sinks.wire import Message, encoded
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.sinks.samples import epoch, stage, summary
from tools.bench.fleet import _from_last_sample_ms, _night
from tools.bench.fleet.traffic import KINDS, Heard, Listener, Packets, _now, connect, send

NEWEST = {kind: to_json(make(3)).encode() for kind, make in zip(KINDS, (stage, epoch, summary), strict=True)}


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=30), st.text(max_size=400)), max_size=8),
    st.lists(st.integers(1, 97), min_size=1),
)
def test_packets_come_out_of_any_cut_of_the_stream(said, cuts) -> None:
    whole = b"\x90\x03\x00\x01\x00" + b"".join(encoded(Message(*one), None, False) for one in said)
    packets, found, at = Packets(), [], 0
    while at < len(whole):
        size = cuts[at % len(cuts)]
        found += packets.feed(whole[at : at + size])
        at += size
    assert [(topic.decode(), body.decode()) for topic, body in found] == said


def test_a_replayed_body_is_the_recorded_one_but_for_its_time() -> None:
    recorded, before = NEWEST["stage"].decode(), datetime.now(UTC)
    body = json.loads(_now(recorded))
    assert abs((datetime.fromisoformat(body["t_end"]) - before).total_seconds()) < 60
    assert body | {"t_end": ""} == json.loads(recorded) | {"t_end": ""}
    assert _now('{"no":"time"}') == '{"no":"time"}'


@needs_mosquitto
def test_what_is_replayed_reaches_a_real_broker_and_is_counted() -> None:
    results: SimpleQueue = SimpleQueue()
    with Mosquitto() as broker, Listener(broker.port) as listener:
        for number in range(2):
            send(broker.port, NEWEST, range(number, 6, 2), 1, Barrier(1), results)
        sent = sum(results.get().messages for _ in range(2))
        heard, until = listener.take(), time.monotonic() + 60
        while sum(heard.messages.values()) < sent and time.monotonic() < until:
            more = listener.take()
            heard.messages += more.messages
            heard.sleepers |= more.sleepers
        late = connect(broker.port, "late", "sleepstream/+/+/stage")
        packets, retained = Packets(), set()
        while len(retained) < 6:
            retained |= {topic for topic, _ in packets.feed(late.recv(9999))}
        late.close()
    assert sum(heard.messages.values()) == sent
    assert heard.messages["stage"] == len(heard.sleepers) == 6
    assert retained == {b"sleepstream/bench%d/sleeper/stage" % at for at in range(6)}


def test_a_night_is_what_its_messages_add_up_to() -> None:
    heard = Heard()
    for kind, size in (("stage", 400), ("epoch", 500), ("summary", 600)):
        heard.messages[kind], heard.size[kind] = 3, 3 * size
    figures = _night(heard)
    assert figures["night_hop30_messages"] == 3 * 960
    assert figures["night_hop1_mb"] == pytest.approx((28_800 * 400 + 960 * 1100) / 1e6)


def test_what_a_simulated_night_claims_of_its_start_is_no_latency() -> None:
    heard = Heard(late_ms=[1003.0, 1010.0, 502.0], said_ms=[(b"a", 3.0), (b"a", 4.0), (b"b", 2.0)])
    assert _from_last_sample_ms(heard) == [3.0, 10.0, 2.0]
