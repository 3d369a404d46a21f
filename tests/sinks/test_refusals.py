"""What a broker refuses: nothing overtakes it, its topic alone is left out, and it is said once."""

import asyncio
import gc

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from streamer.clock import SystemClock
from streamer.settings import HomeAssistantSettings, StreamSettings
from streamer.sinks import refusals as rules
from streamer.sinks import standby
from streamer.sinks.homeassistant import HomeAssistant
from streamer.sinks.mqtt import MqttSink
from streamer.sinks.refusals import Refusals, Refused
from tests.outbox import MemoryOutbox
from tests.sinks.refusing import HANG_UP, SILENCE, Refusing
from tests.sinks.samples import epoch, event, stage, summary
from tests.sinks.test_mqtt import put, settings
from tests.sinks.test_mqtt_outage import Watch

ALL = list(range(12))


class HandClock(SystemClock):
    """Moved by the test."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(standby, "LOOK_S", 0.05)


def run(answer, talk, version=5, watch=None, home=None, largest=1 << 20, lacks=b"", curt=False, **more):
    """`talk(broker, sink)` with a sink at such a broker; the broker, for what it took."""

    async def main():
        async with (
            Refusing(answer, version, largest, lacks, curt) as broker,
            MqttSink(settings(broker.port, **more), "n", SystemClock(), watch, home) as sink,
        ):
            await talk(broker, sink)
        return broker

    return asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
def test_an_epoch_that_is_refused_for_now_is_overtaken_by_nothing(code):
    tries = []

    def answer(topic, body):
        if topic.endswith("/epoch") and body["seq"] == 2:
            tries.append(body)
            return code if len(tries) < 4 else 0
        return 0

    async def talk(broker, sink):
        put(outbox := MemoryOutbox(), *(epoch(seq) for seq in ALL))
        sink.stream("bed", outbox).hear("", stage(5))
        await sink.flush()
        assert len(outbox) == 0

    broker = run(answer, talk, watch=(watch := Watch()))
    assert broker.of("epoch") == ALL
    assert broker.of("stage") == [5]  # does not wait
    assert broker.connections == 1
    said = [status.last_error for status in watch.seen if status.last_error]
    assert len(said) == 1
    assert "n/bed/epoch" in said[0]
    assert f"0x{code:02x}" in said[0]


@pytest.mark.parametrize("large", [False, True])
def test_an_epoch_that_can_never_be_taken_is_put_aside_and_said(large):
    def answer(topic, body):
        return 0x99 if not large and topic.endswith("/epoch") and body["seq"] in (2, 3) else 0

    async def talk(broker, sink):
        epochs = [epoch(seq) for seq in ALL]
        if large:
            quality = epochs[2].quality.model_copy(update={"reasons": ("x" * 2000,)})
            epochs[2:4] = [one.model_copy(update={"quality": quality}) for one in epochs[2:4]]
        put(outbox := MemoryOutbox(), *epochs)
        sink.stream("bed", outbox)
        await sink.flush()

    broker = run(answer, talk, watch=(watch := Watch()), largest=2000)
    assert broker.of("epoch") == [0, 1, *ALL[4:]]
    assert sum("put aside" in status.last_error for status in watch.seen) >= 1
    assert broker.connections == 1


KINDS = "epoch", "event", "stage", "summary", "command", "engine", "availability"


@pytest.mark.parametrize(
    ("kind", "code", "version"),
    [
        *((kind, 0x87, 5) for kind in KINDS),
        *((kind, HANG_UP, 5) for kind in KINDS),
        ("epoch", 0x90, 5),
        ("epoch", HANG_UP, 4),
    ],
)
def test_a_topic_that_is_denied_is_left_out_alone(kind, code, version):
    denied = f"sleepstream/n/{kind}" if kind in ("engine", "availability") else f"sleepstream/n/bed/{kind}"
    watch = Watch()

    async def talk(broker, sink):
        put(outbox := MemoryOutbox(), epoch(0), event(0), epoch(1), event(1))
        stream = sink.stream("bed", outbox, lambda command: None)
        stream.hear("", stage(1))
        stream.hear("", summary(1))
        await watch.until(lambda status: status.left_out == (denied,))
        connections = broker.connections
        put(outbox, epoch(2), event(2))
        stream.hear("", stage(2))
        await sink.flush()
        assert broker.connections <= connections + 1  # for a broker that hung up: it comes back once
        assert len(outbox) == (3 if kind in ("epoch", "event") else 0)  # kept

    broker = run(lambda topic, body: code if topic == denied else 0, talk, version, watch)
    for other in {"epoch", "event"} - {kind}:
        assert list(dict.fromkeys(broker.of(other))) == [0, 1, 2]
    assert kind == "stage" or broker.of("stage")[-1] == 2
    assert broker.connections <= (1 if code > 0 else 4)
    said = [status.last_error for status in watch.seen if "is left out" in status.last_error]
    assert len(said) == 1
    assert denied in said[0]


def test_what_a_broker_without_a_right_to_announce_costs_is_the_announcement():
    settings_ = StreamSettings.model_validate({"name": "bed", "source": {"kind": "simulated"}})
    home = HomeAssistant(HomeAssistantSettings(), "n", [settings_], 120)

    async def talk(broker, sink):
        put(outbox := MemoryOutbox(), *(epoch(seq) for seq in ALL))
        sink.stream("bed", outbox)
        await sink.flush()
        await broker.until(lambda broker: any(topic.startswith("homeassistant/") for topic in broker.asked))

    house = "homeassistant/", "sleepstream/n/homeassistant/"
    broker = run(lambda topic, body: 0x87 if topic.startswith(house) else 0, talk, home=home)
    assert broker.of("epoch") == ALL
    assert broker.connections == 1


def test_a_topic_that_is_allowed_later_gets_all_that_it_has_missed_in_order(monkeypatch):
    monkeypatch.setattr(rules, "REST_S", 0.2)
    denied = [True]
    watch = Watch()

    async def talk(broker, sink):
        put(outbox := MemoryOutbox(), epoch(0), event(0), epoch(1))
        sink.stream("bed", outbox)
        await watch.until(lambda status: status.left_out)
        put(outbox, epoch(2), event(1))
        denied.clear()
        await broker.until(lambda broker: broker.of("epoch") == [0, 1, 2])
        assert sink.status.left_out == ()

    broker = run(lambda topic, _: 0x87 if denied and topic.endswith("/epoch") else 0, talk, watch=watch)
    assert broker.connections == 1
    assert broker.of("event") == [0, 1]


def test_a_topic_that_gets_no_answer_does_not_hold_up_the_others():
    watch = Watch()

    async def talk(broker, sink):
        put(outbox := MemoryOutbox(), epoch(0), event(0), epoch(1))
        sink.stream("bed", outbox)
        talking = asyncio.create_task(chat(sink.stream("sofa", MemoryOutbox())))
        await watch.until(lambda status: "it never answers there" in status.last_error)
        talking.cancel()
        await broker.until(lambda broker: broker.of("event") == [0])

    async def chat(stream):
        for seq in range(1000):
            stream.hear("", stage(seq))
            await asyncio.sleep(0.05)

    run(lambda topic, _: SILENCE if topic.endswith("bed/epoch") else 0, talk, watch=watch, timeout_s=0.2)


def refusal(name="Not authorized"):
    return Refused(ReasonCode(PacketTypes.PUBACK, name), "")


def test_a_broker_that_answers_and_hangs_up_is_asked_again_seldom():
    clock, said = HandClock(), []
    known = Refusals(clock, said.append)
    assert known.refused("a", refusal()) == "left out"
    assert known.rest_s("a") == rules.REST_S
    assert known.hung_up({"b", "c"})
    assert known.rest_s("a") == rules.HANG_UP_REST_S
    assert not known.in_doubt  # the others were not to blame
    assert known.may_say("b")
    assert len(said) == 1


def test_a_cut_network_denies_no_topic():
    clock, said = HandClock(), []
    known = Refusals(clock, said.append)
    assert not known.hung_up({"a", "b", "c"})
    assert known.in_doubt
    assert not known.hung_up({"a", "b"})  # not alone: nobody knows which
    known.accepted("a")
    assert not known.hung_up({"a"})  # it was taken in between
    assert known.left_out == ()
    clock.now += rules.DOUBT_S
    assert not known.in_doubt
    assert said == []


def test_a_suspected_topic_is_asked_alone_and_left_out_again_at_once():
    clock, said = HandClock(), []
    known = Refusals(clock, said.append)
    assert not known.hung_up({"a"})
    assert known.hung_up({"a"})
    assert not known.may_say("a")
    clock.now += rules.HANG_UP_REST_S
    assert known.may_say("a")
    assert known.in_doubt
    assert known.hung_up({"a"})
    assert len(said) == 1
    clock.now += rules.HANG_UP_REST_S
    known.accepted("a")
    assert known.left_out == ()
    assert known.refused("a", refusal("Quota exceeded")) == "later"
    assert len(said) == 2


@pytest.mark.parametrize(
    ("reason", "becomes"), [("Quota exceeded", "later"), ("Implementation specific error", "aside")]
)
def test_a_message_that_is_refused_for_an_hour_holds_up_the_others_no_longer(reason, becomes):
    clock = HandClock()
    known = Refusals(clock, lambda _: None)
    assert known.refused("a", refusal(reason)) == "later"
    clock.now += rules.LAST_S
    assert known.refused("a", refusal(reason)) == becomes  # a quota ends some day
    known.accepted("a")
    assert known.refused("a", refusal(reason)) == "later"


def test_a_broker_without_qos_1_and_retained_messages_gets_what_it_can_take():
    """It says so in its greeting, and hangs up at whoever asks for more, in a last will or a message."""
    watch = Watch()

    async def talk(broker, sink):
        outbox = MemoryOutbox()
        stream = sink.stream("s", outbox)
        for seq in ALL:
            put(outbox, epoch(seq))
        stream.hear("s", stage(0))
        await broker.until(lambda one: len(one.of("epoch")) == len(ALL) and one.of("stage"))

    broker = run(lambda topic, body: 0, talk, watch=watch, lacks=b"\x24\x00\x25\x00")
    assert broker.of("epoch") == ALL
    assert broker.connections == 1  # and one before, with a last will, that was refused
    said = [status.last_error for status in watch.seen if "takes no QoS 1" in status.last_error]
    assert len(said) == 1
    assert "retains nothing" in said[0]


def test_a_broker_that_hangs_up_once_it_has_greeted_is_one_that_does_not_answer(caplog):
    watch = Watch()

    async def talk(broker, sink):
        await broker.until(lambda one: one.connections >= 4)

    run(lambda topic, body: 0, talk, watch=watch, curt=True)
    assert {status.last_error for status in watch.seen} == {
        next(
            status.last_error
            for status in watch.seen
            if "closed the connection at the greeting" in status.last_error
        )
    }
    gc.collect()
    assert "never retrieved" not in caplog.text
