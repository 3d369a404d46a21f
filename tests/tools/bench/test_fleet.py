"""The load generator: what it sends arrives as engines send it, and what it measures is what came."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.payloads import to_json
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.sinks.samples import epoch, stage, summary
from tools.bench.fleet import _from_last_sample_ms, _night
from tools.bench.fleet.listener import Heard, Listener
from tools.bench.fleet.replay import Replay, _now
from tools.bench.fleet.wire import PUBLISH, Packets, connection, message, publish, subscribe

NEWEST = {
    kind: to_json(make(3)).encode()
    for kind, make in (("stage", stage), ("epoch", epoch), ("summary", summary))
}


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=30), st.binary(max_size=400)), max_size=8),
    st.lists(st.integers(1, 97), min_size=1),
)
def test_packets_come_out_of_any_cut_of_the_stream(said, cuts) -> None:
    whole = b"".join(publish(topic.encode(), body, at, False) for at, (topic, body) in enumerate(said))
    packets, found, at = Packets(), [], 0
    while at < len(whole):
        size = cuts[at % len(cuts)]
        found += packets.feed(whole[at : at + size])
        at += size
    for (topic, body), (kind, content) in zip(said, found, strict=True):
        encoded = topic.encode()
        assert kind == PUBLISH
        assert content[2:].startswith(encoded)
        assert content[2 + len(encoded) + 2 :] == body  # the number of the message lies between


def test_a_replayed_body_is_the_recorded_one_but_for_its_time() -> None:
    before = datetime.now(UTC)
    body = json.loads(_now(NEWEST["stage"]))
    assert abs((datetime.fromisoformat(body["t_end"]) - before).total_seconds()) < 60
    assert body | {"t_end": ""} == json.loads(NEWEST["stage"]) | {"t_end": ""}
    assert _now(b'{"no":"time"}') == b'{"no":"time"}'


@pytest.mark.slow
@needs_mosquitto
def test_what_is_replayed_reaches_a_real_broker_and_is_counted() -> None:
    with Mosquitto() as broker, Listener(broker.port) as listener:
        link = connection(broker.port, "late")
        with Replay(broker.port, NEWEST, sleepers=6, processes=2, seconds=1) as replay:
            listener.begin()
            replay.go()
            sent = replay.sent()
            heard = listener.heard()
        link.sendall(subscribe("sleepstream/+/+/stage"))
        packets, retained = Packets(), set()
        while len(retained) < 6:
            retained |= {
                message(content)[0] for kind, content in packets.feed(link.recv(9999)) if kind == PUBLISH
            }
        link.close()
    assert sum(one.messages for one in sent) == sum(one.acknowledged for one in sent)
    assert sum(heard.messages.values()) == sum(one.messages for one in sent)
    assert heard.messages["stage"] == heard.sleepers == 6
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
