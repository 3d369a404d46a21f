"""The embedded broker: the sink falls back to 3.1.1 on it, strangers cannot hurt it, its port is its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess

import aiomqtt
import pytest

from streamer.cli import TALKATIVE
from streamer.clock import SystemClock
from streamer.errors import SinkError
from streamer.news import Online
from streamer.sinks import broker as broker_module
from streamer.sinks.broker import Broker
from streamer.sinks.mqtt import MqttSink
from tests.mosquitto import SUBSCRIBER, needs_mosquitto
from tests.outbox import MemoryOutbox
from tests.sinks.fakes import PATIENCE_S, Subscriber
from tests.sinks.samples import epoch, event, stage, summary
from tests.sinks.test_mqtt import assert_valid, put, settings
from tests.sinks.test_mqtt_outage import Watch

FILLS = 500  # messages of 30 kB, more than any socket holds


@pytest.mark.slow
def test_a_night_at_once_arrives_whole_in_order_over_3_1_1(caplog):
    caplog.set_level(logging.INFO)
    for library in TALKATIVE:
        caplog.set_level(logging.CRITICAL, library)

    async def main():
        outbox, watch = MemoryOutbox(), Watch()
        async with Broker() as broker, Subscriber(broker.port) as subscriber:
            async with MqttSink(settings(broker.port), "n", SystemClock(), watch) as sink:
                stream = sink.stream("bed", outbox)
                stream.hear("", Online(True))
                stream.hear("", stage(0))
                stream.hear("", summary(0))
                put(outbox, event(0), *(epoch(seq) for seq in range(960)))
                await subscriber.until_count("epoch", 960)
                await sink.flush()
                assert sink.status.protocol == "3.1.1"
                assert [status.last_error for status in watch.seen] == [""]  # the fallback is no trouble
                async with Subscriber(broker.port) as late:
                    await late.until(lambda heard: len(heard) >= 4)
                    assert all(item.retain for item in late.heard)
            await subscriber.until_says("sleepstream/n/availability", b"offline")
        return subscriber

    subscriber = asyncio.run(main())
    assert [item["seq"] for item in subscriber.of("epoch")] == list(range(960))
    for kind in ("stage", "epoch", "event", "summary"):
        assert_valid(kind, subscriber.of(kind)[0])
    assert caplog.text == ""


def test_the_last_will_works_and_the_broker_may_be_restarted_on_its_port():
    async def main():
        outbox, watch = MemoryOutbox(), Watch()
        async with Broker() as first, Subscriber(first.port) as subscriber:
            port = first.port
            sink = MqttSink(settings(port), "n", SystemClock(), watch)
            await sink.__aenter__()
            sink.stream("bed", outbox)
            put(outbox, epoch(0))
            await subscriber.until_count("epoch", 1)
        await watch.until(lambda status: status.last_error)
        put(outbox, epoch(1))
        async with Broker(port) as second, Subscriber(second.port) as subscriber:
            await sink.flush()
            await sink.__aexit__(None, None, None)
            return sink.status.reconnects

    assert asyncio.run(main()) == 1


def test_a_port_that_is_taken_is_said_in_one_line():
    async def main():
        async with Broker() as first, Broker(first.port):
            pass

    with pytest.raises(SinkError, match="cannot listen on port") as caught:
        asyncio.run(main())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_anything_but_loopback_is_refused(host):
    with pytest.raises(SinkError, match="loopback only"):
        Broker(host=host)


def test_it_listens_on_loopback_only():
    async def main():
        async with Broker() as broker:
            return broker._server.sockets[0].getsockname()[0]

    assert asyncio.run(main()) == "127.0.0.1"


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x10",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\x7f" + b"x" * 100,  # a greeting of 256 MB
        b"\x10\xff\xff\xff\xff\xff",
        bytes(200),
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00" + b"\x30\xff\xff\xff\x7f\x00\x01a" + b"x" * 100,
    ],
)
def test_junk_from_a_stranger_ends_only_its_own_connection(junk):
    async def main():
        async with Broker() as broker:
            for end in (True, False):
                reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
                writer.write(junk)
                if end and junk:
                    writer.write_eof()
                    async with asyncio.timeout(PATIENCE_S):
                        with contextlib.suppress(ConnectionResetError):
                            await reader.read()
                writer.close()
            sink = MqttSink(settings(broker.port), "n", SystemClock())
            async with Subscriber(broker.port) as subscriber, sink:
                sink.stream("bed", MemoryOutbox()).hear("", stage(1))
                await subscriber.until_count("stage", 1)

    asyncio.run(main())


@pytest.mark.slow
def test_a_client_that_stops_reading_is_cut_off_and_leaves_nothing_behind(monkeypatch):
    async def main():
        async with Broker() as broker:
            with socket.socket() as sleeper:
                sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sleeper.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sleeper, ("127.0.0.1", broker.port))
                await loop.sock_sendall(sleeper, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01z")
                await loop.sock_sendall(sleeper, b"\x82\x06\x00\x01\x00\x01#\x00")  # SUBSCRIBE # at QoS 0
                async with (
                    Subscriber(broker.port) as other,
                    aiomqtt.Client("127.0.0.1", broker.port) as talker,
                ):
                    # The others read at once, but a slow machine may need a while for that.
                    monkeypatch.setattr(broker_module, "STALLED_S", 3.0)
                    async with asyncio.timeout(PATIENCE_S):
                        for seq in range(FILLS):
                            body = b'{"seq": %d, "fill": "%s"}' % (seq, b"x" * 30_000)
                            await talker.publish("sleepstream/n/bed/epoch", body, qos=1)
                        while len(broker._clients) > 2:  # noqa: ASYNC110 - it tells nobody
                            await asyncio.sleep(0.01)
                        await other.until_count("epoch", FILLS)

    asyncio.run(main())


def test_more_clients_than_it_takes_are_turned_away(monkeypatch):
    monkeypatch.setattr(broker_module, "MAX_CLIENTS", 1)

    async def main():
        async with Broker() as broker, Subscriber(broker.port):
            with pytest.raises(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", broker.port, timeout=0.3):
                    pass

    asyncio.run(main())


def test_stopping_does_not_wait_for_its_clients():
    async def main():
        async with Broker() as broker:
            _, silent = await asyncio.open_connection("127.0.0.1", broker.port)
            async with Subscriber(broker.port):
                await broker.__aexit__(None, None, None)
            silent.close()
            await broker.__aenter__()  # so that the outer exit has something to leave

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@needs_mosquitto
@pytest.mark.parametrize("version", ["5", "311"])
def test_mosquitto_sub_as_documented(version):
    async def main():
        async with Broker() as broker, MqttSink(settings(broker.port), "n", SystemClock()) as sink:
            sink.stream("bed", MemoryOutbox()).hear("", stage(3))
            await sink.flush()
            command = [
                SUBSCRIBER,
                "-p",
                str(broker.port),
                "-V",
                version,
                "-v",
                "-C",
                "3",
                "-t",
                "sleepstream/#",
            ]
            process = await asyncio.create_subprocess_exec(
                *command, "-t", "sleepstream/#", stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            async with asyncio.timeout(PATIENCE_S):
                return await process.communicate()

    out, err = asyncio.run(main())
    if version == "5":
        assert b"rotocol" in err  # mosquitto_sub does not fall back; its default is 3.1.1
    else:
        assert {line.split()[0] for line in out.splitlines()} == {
            b"sleepstream/n/availability",
            b"sleepstream/n/engine",
            b"sleepstream/n/bed/stage",
        }


def test_a_thousand_who_say_nothing_neither_keep_clients_out_nor_stay():
    async def main():
        async with Broker() as broker, Subscriber(broker.port) as subscriber:
            idle = []
            for _ in range(10):  # sixteen at once, as many as the loop takes
                come = (asyncio.open_connection("127.0.0.1", broker.port) for _ in range(16))
                idle += await asyncio.gather(*come)
            while len(broker._clients) > 2 + broker_module.MAX_NEWCOMERS:  # noqa: ASYNC110 - those that are put out end
                await asyncio.sleep(0)
            async with MqttSink(settings(broker.port), "n", SystemClock()) as sink:
                sink.stream("bed", MemoryOutbox()).hear("", stage(1))
                await subscriber.until_count("stage", 1)
                idle += [await asyncio.open_connection("127.0.0.1", broker.port) for _ in range(50)]
                assert sink.status.connected
            for _, writer in idle:
                writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_an_engine_gets_in_beside_as_many_clients_as_there_may_be(monkeypatch):
    monkeypatch.setattr(broker_module, "MAX_CLIENTS", 3)

    async def main():
        async with Broker() as broker, contextlib.AsyncExitStack() as crowd:
            for _ in range(3):
                client = aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V311)
                await crowd.enter_async_context(client)
            one_more = aiomqtt.Client(
                "127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V311, timeout=0.5
            )
            with pytest.raises(aiomqtt.MqttError):
                await one_more.__aenter__()
            watch = Watch()
            async with MqttSink(settings(broker.port), "n", SystemClock(), watch):
                await watch.until(lambda status: status.connected)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_client_that_never_says_a_word_again_is_cut_off(monkeypatch):
    async def main():
        async with Broker() as broker:
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc")  # keepalive 0: for ever
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
            monkeypatch.setattr(broker_module, "IDLE_S", 0.1)
            writer.write(b"\xc0\x00")  # a ping, after which it waits so long
            assert await reader.read() in (b"\xd0\x00", b"")
            writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))
