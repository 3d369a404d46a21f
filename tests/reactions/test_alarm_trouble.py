"""What may go wrong around an alarm: listeners that raise, times that are none, spoilt files, full disks."""

import asyncio
import errno
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.payloads import EventPayload, utc
from streamer.reactions import memory as memory_file
from streamer.reactions.alarm_clock import RETRY_S, AlarmClock
from streamer.reactions.leash import Leash, end_marked
from streamer.reactions.memory import MOST_AHEAD_S, Memory, absurd, load_memory, write
from tests.reactions.test_alarm import HOUR, MIDNIGHT, Home, Sleeper, settings

ERRORS = [
    OSError(errno.ENOSPC, "no space"),
    ValueError("closed"),
    ExceptionGroup("bus", [KeyError("x"), OSError("y")]),
    asyncio.CancelledError(),
    MemoryError(),
    AssertionError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["change", "problem", "bell", "player"])
def test_it_rings_whatever_those_raise_whom_it_tells(tmp_path, error, where):
    async def scenario():
        home = Home(tmp_path)

        def fail(*_):
            home.told.append("failed")
            raise error

        if where == "bell":
            home.ring = fail
        command = {"command": ("/nonexistent/player",)} if where in ("problem", "player") else {}
        async with home.process(armed=True, ring_s=60, daily=True, **command) as alarm:
            if where in ("change", "problem"):
                alarm.hear(
                    fail if where == "change" else lambda *_: None, fail if where == "problem" else print
                )
            home.clock.now += 359
            for _ in range(20):  # programs that fail to start do so in real time
                await home.clock.advance(1)
                await asyncio.sleep(0.002)

            def rung():
                return home.bells or home.told.count("failed") >= (1 if isinstance(error, Exception) else 0)

            async with asyncio.timeout(60):
                while not rung():  # noqa: ASYNC110 - a program that cannot be started sets no event
                    await asyncio.sleep(0.01)
            await home.clock.advance(60)
            state = alarm.memory
            home.clock.now = 24.11 * HOUR  # a minute after the next deadline, which it has rung for
            await home.clock.advance(70)
            return state, alarm.memory.deadline

    state, later = asyncio.run(scenario())
    assert (state.state, state.deadline) == ("armed", MIDNIGHT + 31 * HOUR)  # and it goes on the next day
    assert later == MIDNIGHT + 55 * HOUR


def test_a_clock_that_cannot_be_read_for_a_moment_ends_nothing(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        async with home.process(armed=True):
            wall, home.clock.wall = home.clock.wall, lambda: 1 / 0
            await home.clock.advance(10)
            home.clock.wall = wall
            await home.clock.advance(360)
        return home.bells

    assert asyncio.run(scenario()) > 0


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59",
        "0001-01-01T00:00+14:00",
        "0001-01-01T00:00",
        "1969-12-31T23:59:59Z",
        "2100-01-01T00:00Z",
        "2026-02-03T00:00Z",  # next month
        "25:00",
        "T24:00",
        "2026-01-02T07:00+99:99",
        "nan",
        "inf",
        "٠٧:٠٠",
        "-07:00",
        "1e400",
        "W",
    ],
)
def test_absurd_times_are_refused_and_change_nothing(tmp_path, text):
    async def scenario():
        home = Home(tmp_path)
        async with home.process(armed=True) as alarm:
            await alarm.saved.wait()
            before, kept = alarm.memory, home.path.read_bytes()
            refused = alarm.obey("arm_alarm", text)
            assert refused
            assert refused.isprintable()
            assert alarm.memory == before
            await home.clock.advance(361)
            return kept, home.bells

    kept, bells = asyncio.run(scenario())
    assert b"armed" in kept
    assert bells > 0


@pytest.mark.slow
@given(st.text(max_size=30) | st.datetimes().map(str) | st.datetimes().map(lambda one: one.isoformat() + "Z"))
def test_no_text_at_all_raises_or_arms_beyond_reason(text):
    sleeper = Sleeper(at=HOUR)
    sleeper.arm(text)
    memory = sleeper.alarm.memory
    assert absurd(memory, sleeper.now) == ""
    assert memory.state == "disarmed" or 0 < memory.deadline - sleeper.now <= MOST_AHEAD_S
    sleeper.note(sleeper.alarm.tick(sleeper.now, sleeper.steady))


GOOD = {"state": "armed", "deadline": MIDNIGHT + 5 * HOUR, "due": MIDNIGHT + 5 * HOUR, "snoozes": 0}
SPOILT = {
    "empty": "",
    "torn": json.dumps(GOOD)[:40],
    "another thing": "[1, 2]",
    "zeros": "\0" * 200,
    "not UTF-8": b"\xff\xfe{",
    "far": json.dumps({**GOOD, "deadline": 253402351199.0, "due": 253402351199.0}),
    "before all time": json.dumps({**GOOD, "deadline": -62135647200.0}),
    "NaN": json.dumps({**GOOD, "deadline": float("nan")}),
    "infinite": json.dumps({**GOOD, "due": float("inf")}),
    "due apart": json.dumps({**GOOD, "due": MIDNIGHT + 10**9}),
    "written, too": json.dumps({**GOOD, "deadline": 9e11, "due": 9e11, "written": 9e11 - 5}),
    "huge": '{"state": "armed", "deadline": 1e400, "due": 1}',
    "owed": json.dumps({**GOOD, "owed": -1e300}),
    "snoozes": json.dumps({**GOOD, "snoozes": 10**30}),
    "negative": json.dumps({**GOOD, "snoozes": -1}),
    "deep": "[" * 100_000,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_a_spoilt_file_is_the_settings_alarm_at_every_start(tmp_path, spoilt):
    async def scenario():
        home = Home(tmp_path)
        if callable(spoilt):
            spoilt(home.path)
        else:
            home.path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
        for _ in range(2):
            async with home.process(armed=True) as alarm:
                assert (alarm.memory.state, alarm.memory.deadline) == ("armed", MIDNIGHT + 7 * HOUR)
                if spoilt is not Path.mkdir:
                    await alarm.saved.wait()
        async with home.process(armed=True):
            await home.clock.advance(361)
        return home

    home = asyncio.run(scenario())
    assert home.bells > 0
    said = [problem for problem in home.problems if "is not used" in problem]
    assert len(said) == (3 if spoilt is Path.mkdir else 1)  # once mended it is as good as new
    assert all("as the settings say" in problem for problem in said)


def event(memory, number=0, **more):
    data = {"what": memory.state, **memory_file.asdict(memory), **more}
    return EventPayload(session="s", seq=number, t=utc(MIDNIGHT), event="alarm", data=data)


def armed(hour, serial):
    when = MIDNIGHT + hour * HOUR
    return Memory("armed", when, when, serial=serial, written=MIDNIGHT)


def test_the_newer_of_file_and_event_counts(tmp_path):
    path = tmp_path / "a.json"
    write(path, armed(7, serial=3))
    for past, hour in (
        ([event(armed(5, 4))], 5),
        ([event(armed(5, 2))], 7),
        ([event(armed(5, 3))], 7),
        ([event(armed(5, 4)), event(armed(6, 2), 1)], 5),
        ([event(armed(5, 4), test=True)], 7),
        ([event(armed(5, 4), due="x")], 7),
        ([event(armed(5, 4), deadline=1e15)], 7),
        ([event(armed(5, 4), serial=float("nan"))], 7),
    ):
        memory, said = load_memory(path, past, MIDNIGHT)
        assert memory.deadline == MIDNIGHT + hour * HOUR
        assert bool(said) == (hour == 5)
    path.write_text("{")
    memory, said = load_memory(path, [event(armed(5, 4))], MIDNIGHT)
    assert memory.deadline == MIDNIGHT + 5 * HOUR
    assert "as its last event says" in said


class FullDisk:
    """Refuses so many writes."""

    def __init__(self, monkeypatch, times):
        self.left, self._write = times, memory_file.write
        monkeypatch.setattr("streamer.reactions.alarm_clock.write", self)

    def __call__(self, path, memory):
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self._write(path, memory)


def test_a_full_disk_is_asked_until_it_has_taken_it(tmp_path, monkeypatch):
    async def scenario():
        home = Home(tmp_path)
        async with home.process() as alarm:
            await alarm.saved.wait()
            disk = FullDisk(monkeypatch, 3)
            alarm.obey("arm_alarm", "06:58")
            while disk.left or not alarm.saved.is_set():
                await home.clock.advance(RETRY_S)
                await asyncio.sleep(0.001)
            return home.problems, json.loads(home.path.read_text()), alarm.memory.deadline

    problems, kept, deadline = asyncio.run(scenario())
    assert kept["deadline"] == deadline == MIDNIGHT + 6 * HOUR + 58 * 60
    assert len(problems) == 1  # said once
    assert not (tmp_path / "anna@home.alarm.json.new").exists()


def test_a_file_is_its_owners_and_survives_a_failing_disk(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.json"
    write(path, armed(7, 1))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700

    def refuse(_descriptor):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="input/output"):
        write(path, armed(5, 2))
    assert json.loads(path.read_text())["serial"] == 1
    assert [one.name for one in path.parent.iterdir()] == ["a.json"]


def test_what_happened_before_anyone_listened_is_told_to_the_first_who_does(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        home.path.write_text("{")
        alarm = AlarmClock("anna", settings(armed=True), home.path, home.clock, (), home.ring)
        changes, problems = [], []
        async with alarm:
            alarm.hear(lambda change, _: changes.append(change.what), problems.append)
            return changes, problems

    changes, problems = asyncio.run(scenario())
    assert changes == ["armed"]
    assert len(problems) == 1
    assert "damaged" in problems[0]


def test_a_test_is_told_like_a_ring_and_can_be_ended(tmp_path):
    async def scenario():
        home = Home(tmp_path)
        told = []
        async with home.process(armed=True, test_s=60) as alarm:
            alarm.hear(lambda change, memory: told.append((change.what, change.test, memory.state)), print)
            assert alarm.obey("test_alarm") == ""
            assert alarm.testing
            assert alarm.obey("snooze_alarm") == "the alarm does not ring"
            await home.clock.advance(3)
            assert alarm.obey("dismiss_alarm") == ""
            assert not alarm.testing
            bells = home.bells
            await home.clock.advance(30)
            assert home.bells == bells > 0
            await home.clock.advance(300)
            assert alarm.obey("test_alarm") == ""
            await home.clock.advance(40)  # the deadline comes in the middle of a test
            return told, alarm.memory.state, alarm.testing

    told, state, testing = asyncio.run(scenario())
    assert told[:3:2] == [("ringing", True, "armed"), ("dismissed", True, "armed")]
    assert ("ringing", False, "ringing") in told
    assert (state, testing) == ("ringing", False)


# ---- kill -9 while it rings

PLAYER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
ENGINE = """
import asyncio, sys
from pathlib import Path
from streamer.clock import SystemClock
from streamer.reactions.alarm_clock import AlarmClock
from streamer.reactions.leash import Leash
from streamer.reactions.settings import AlarmSettings
hold = Leash.hold
def held(leash, group):
    hold(leash, group)
    print("held", flush=True)
Leash.hold = held
async def main():
    wanted = AlarmSettings(deadline="07:00", command=sys.argv[2:], test_s=60)
    async with AlarmClock("anna", wanted, Path(sys.argv[1]), SystemClock()) as alarm:
        alarm.obey("test_alarm")
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "spared", [True, False], ids=["alone", "with all that it had started but the player"]
)
def test_killed_while_it_rings_no_player_is_left(tmp_path, spared):
    """The leash ends it; where that died too, the next start finds it by its mark."""
    fifo, link = tmp_path / "playing", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(tmp_path)
    # In a session of its own, and in the background of a shell that ends: no group leads to it.
    background = f'setsid "{sys.executable}" -c "$1" "$2" & sleep 600'
    player = (
        [sys.executable, "-c", PLAYER, str(fifo)]
        if spared
        else ["sh", "-c", background, "sh", PLAYER, str(fifo)]
    )
    command = [sys.executable, "-c", ENGINE, str(tmp_path / "a.alarm.json"), *player]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as engine:
        sounds = int(fifo.read_text())
        assert engine.stdout.readline() == b"held\n"
        watch = os.pidfd_open(sounds)
        engine.kill()
    if not spared:

        async def restart():
            clock = AlarmClock("anna", settings(), link / "a.alarm.json", Home(tmp_path).clock)
            async with clock:
                pass

        asyncio.run(restart())
    assert select.select([watch], [], [], 60)[0]
    os.close(watch)


def test_a_leash_that_was_killed_is_made_anew(tmp_path):
    leash = Leash()
    first, second = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
    try:
        leash.hold(first.pid)
        leash._reaper.kill()
        leash._reaper.wait()
        leash.hold(second.pid)
        leash._reaper.stdin.close()  # as if we had died
        assert first.wait(60) == second.wait(60) == -9
    finally:
        leash.close()


def test_only_what_bears_the_mark_is_ended():
    marked, other = (
        subprocess.Popen(["sleep", "600"], env={**os.environ, "SLEEPSTREAM_ALARM": f"/x/{name}:1.0;"})
        for name in ("a", "b")
    )
    try:
        assert end_marked("SLEEPSTREAM_ALARM=/x/a:") == 1
        assert marked.wait(60) == -9
        assert other.poll() is None
    finally:
        for one in (marked, other):
            one.kill()
            one.wait()
