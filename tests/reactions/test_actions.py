"""What happens on this machine: datagrams that arrive, programs that run, end, fail or hang."""

import asyncio
import os
import socket
import struct
from contextlib import asynccontextmanager, contextmanager

import pytest

from streamer.reactions.actions import AT_ONCE, Actions, osc_message, run
from streamer.reactions.settings import ActionSettings

FACTS = {"name": "tmr", "stage": "N3", "probability": 0.91}


@contextmanager
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(60)
        yield listening, listening.getsockname()[1]


@asynccontextmanager
async def actions():
    problems = []
    async with Actions(problems.append) as made:
        yield made, problems


def carry_out(action, facts=FACTS):
    async def scenario():
        async with actions() as (made, problems):
            made.carry_out(action, facts)
            await asyncio.gather(*made._running)
            return problems

    return asyncio.run(scenario())


def test_a_datagram_says_what_was_asked_for():
    with receiver() as (listening, port):
        assert carry_out(ActionSettings(udp="{name}/{stage}/{probability}/{x}", port=port)) == []
        assert listening.recv(1024) == b"tmr/N3/0.91/{x}"


def test_an_osc_message_can_be_read_by_its_rules():
    with receiver() as (listening, port):
        assert carry_out(ActionSettings(osc="/sleep/cue", port=port)) == []
        data = listening.recv(1024)
    assert len(data) % 4 == 0
    assert data[:12] == b"/sleep/cue\0\0"
    assert data[12:20] == b",ssf\0\0\0\0"
    assert data[20:28] == b"tmr\0N3\0\0"
    assert struct.unpack(">f", data[28:])[0] == pytest.approx(0.91)


def test_osc_integers_and_padding():
    assert osc_message("/a", [1]) == b"/a\0\0,i\0\0\0\0\0\x01"
    assert osc_message("/abc", []) == b"/abc\0\0\0\0,\0\0\0"


def test_a_program_finds_the_facts_in_its_environment(tmp_path):
    out = tmp_path / "out"
    script = f'echo "$SLEEPSTREAM_NAME $SLEEPSTREAM_STAGE $SLEEPSTREAM_PROBABILITY $1" > {out}'
    assert carry_out(ActionSettings(command=("sh", "-c", script, "sh", "$HOME; no shell of ours"))) == []
    assert out.read_text() == "tmr N3 0.91 $HOME; no shell of ours\n"


@pytest.mark.parametrize(
    ("command", "timeout_s", "problem"),
    [
        (("sh", "-c", "exit 3"), 60, "exit code 3"),
        (("/nonexistent/player",), 60, "cannot run /nonexistent/player: No such file"),
        (("a\0b",), 60, "cannot run"),
        (("sleep", "600"), 0.2, "did not end within 0.2 s"),
    ],
)
def test_what_goes_wrong_is_one_line(command, timeout_s, problem):
    (said,) = carry_out(ActionSettings(command=command, timeout_s=timeout_s))
    assert problem in said
    assert "\n" not in said


def test_leaving_ends_the_programs_and_what_they_started(tmp_path):
    async def scenario():
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        async with actions() as (made, problems):
            made.carry_out(ActionSettings(command=("sh", "-c", f"sleep 600 > {fifo} & wait")), FACTS)
            reading = await asyncio.to_thread(os.open, fifo, os.O_RDONLY)  # until the grandchild writes
        end = await asyncio.wait_for(asyncio.to_thread(os.read, reading, 1), 60)  # end of file: it is gone
        os.close(reading)
        return end, problems

    assert asyncio.run(scenario()) == (b"", [])


def test_leaving_while_a_program_is_being_started_ends_what_that_has_started(tmp_path, monkeypatch):
    start = asyncio.create_subprocess_exec

    async def scenario():
        fifo, seen = tmp_path / "fifo", asyncio.Event()
        os.mkfifo(fifo)

        async def slow_start(*command, **more):
            process = await start(*command, **more)
            await seen.wait()  # a machine that is busy: the program runs, and we do not know it yet
            return process

        monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_start)
        async with actions() as (made, problems):
            made.carry_out(ActionSettings(command=("sh", "-c", f"sleep 600 > {fifo} & wait")), FACTS)
            reading = await asyncio.to_thread(os.open, fifo, os.O_RDONLY)
            seen.set()
        end = await asyncio.wait_for(asyncio.to_thread(os.read, reading, 1), 60)
        os.close(reading)
        return end, problems

    assert asyncio.run(scenario()) == (b"", [])


def test_too_many_programs_are_refused_and_said():
    async def scenario():
        async with actions() as (made, problems):
            for _ in range(AT_ONCE + 2):
                made.carry_out(ActionSettings(command=("sleep", "60")), FACTS)
            return problems

    problems = asyncio.run(scenario())
    assert len(problems) == 2
    assert "still running" in problems[0]


def test_an_address_that_cannot_be_reached_is_said():
    (said,) = carry_out(ActionSettings(udp="x", host="255.255.255.255", port=9))
    assert "cannot send to 255.255.255.255:9" in said


def test_run_gives_back_nothing_when_all_is_well():
    assert asyncio.run(run(("true",), 60, {})) == ""
