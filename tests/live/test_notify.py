"""systemd hears that the service is ready, alive and stopping, and hears nothing while a stream is stuck."""

import asyncio
import socket

from streamer.clock import SystemClock
from streamer.live.engine import Engine
from streamer.live.notify import Heart
from streamer.settings import validate
from tests.fakes import FakeClock, Witness


def heard(listener):
    said = []
    listener.setblocking(False)
    while True:
        try:
            said.append(listener.recv(100).decode())
        except BlockingIOError:
            return said


def listening(address):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    return listener


def test_it_beats_only_while_there_is_progress(tmp_path):
    async def scenario(listener):
        clock, stuck = FakeClock(), 0.0
        where = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "10000000"}
        async with Heart(clock, lambda: stuck, where):
            await clock.advance(1)
            assert heard(listener) == ["READY=1", "WATCHDOG=1"]
            await clock.advance(10)
            assert heard(listener) == ["WATCHDOG=1"] * 2
            stuck = 11.0
            await clock.advance(60)
            assert heard(listener) == []
            stuck = 0.0
            await clock.advance(5)
            assert heard(listener) == ["WATCHDOG=1"]
        assert heard(listener) == ["STOPPING=1"]

    with listening(str(tmp_path / "notify")) as listener:
        asyncio.run(scenario(listener))


def test_an_abstract_socket_is_found_and_one_that_is_gone_does_no_harm(tmp_path):
    async def scenario(where):
        async with Heart(FakeClock(), lambda: 0.0, where):
            pass

    name = f"sleepstream-{tmp_path.name}"
    with listening("\0" + name) as listener:
        asyncio.run(scenario({"NOTIFY_SOCKET": "@" + name}))
        assert heard(listener) == ["READY=1", "STOPPING=1"]
    asyncio.run(scenario({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000000"}))
    asyncio.run(scenario({}))


def test_the_engine_says_when_it_is_ready_and_when_it_stops(tmp_path, monkeypatch):
    source = {"kind": "simulated", "hours": 0.02, "speed": "max"}
    data = {"session_dir": str(tmp_path), "stream": [{"name": "anna", "source": source}]}
    with listening(str(tmp_path / "notify")) as listener:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        asyncio.run(Engine(validate(data, "test"), SystemClock(), Witness()).run())
        assert heard(listener) == ["READY=1", "STOPPING=1"]


def test_another_process_s_watchdog_is_not_ours():
    heart = Heart(
        FakeClock(), lambda: 0.0, {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    )
    assert heart._period_s == 0
