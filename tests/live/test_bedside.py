"""Triggers and alarm around a whole engine: what outlives it, what a restart brings back."""

import asyncio
import json
import os
import subprocess
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from streamer.clock import SystemClock
from streamer.errors import ArtifactError
from streamer.journal import Journal, Meta
from streamer.live.bedside import Bedside
from streamer.live.engine import Engine
from streamer.live.resume import Rewarmed
from streamer.messages import Channel, StreamInfo
from streamer.payloads import CommandName, CommandPayload, EventPayload, utc
from streamer.reactions import bell
from streamer.reactions.firings import FiringLog
from streamer.reactions.reflexes import Reflexes
from streamer.reactions.settings import TriggerSettings
from streamer.settings import validate
from streamer.sinks.publisher import Publisher
from tests.fakes import FakeClock, FakeSource, Witness
from tests.mosquitto import needs_mosquitto, on_mosquitto
from tests.reactions.test_triggers import score
from tests.sinks.fakes import Subscriber
from tests.sinks.samples import NIGHT
from tests.test_cli import COMMAND

INFO = StreamInfo("test", 100, (Channel("Fpz-Cz", "uV"),), NIGHT)
ALARM = {"deadline": "07:00", "zone": "UTC", "armed": True, "ring_s": 60}


def ten_to_seven():
    return FakeClock(NIGHT + 7 * 3600 + 50 * 60)


async def until_done(task, clock, seconds):
    """Let time pass until a task is done; how long that took, by the fake clock."""
    began = clock.now
    while not task.done() and clock.now - began < seconds:
        await clock.advance(1)
        await asyncio.sleep(0.001)  # threads: the model, the alarm's file
        while bell._ringing.locked():  # noqa: ASYNC110 - by a thread, and a tick passes over one that is late
            await asyncio.sleep(0.001)
    return clock.now - began


def settings(folder, kind="lsl", **more):
    stream = {"name": "anna", "source": {"kind": kind}, "alarm": ALARM}
    return validate({"node": "n", "session_dir": str(folder), "stream": [stream], **more}, "test")


def test_the_alarm_rings_although_the_model_cannot_be_loaded(tmp_path, capsys, caplog):
    async def scenario():
        clock = ten_to_seven()
        (tmp_path / "bad.pt").write_bytes(b"not a model")
        ready = settings(tmp_path, model={"path": str(tmp_path / "bad.pt")})
        running = asyncio.create_task(Engine(ready, clock, Witness()).run())
        async with asyncio.timeout(60):
            while "stays armed" not in caplog.text:  # noqa: ASYNC110 - the model is loaded by a thread
                await asyncio.sleep(0.01)
        took = await until_done(running, clock, 60_000)
        with pytest.raises(ArtifactError):
            await running
        return took

    took = asyncio.run(scenario())
    assert took >= 655  # ten minutes to the deadline, one of ringing; then threads take what they take
    assert capsys.readouterr().err.count("\a") >= 30
    assert "stays armed" in caplog.text
    assert json.loads((tmp_path / "anna@n.alarm.json").read_text())["state"] == "disarmed"


def test_whoever_ends_it_is_told_that_an_armed_alarm_will_not_ring(tmp_path, caplog):
    async def scenario():
        async with Bedside(
            settings(tmp_path).stream[0], tmp_path, "n", ten_to_seven(), lambda: None
        ) as bedside:
            stop = asyncio.Event()
            stop.set()
            await bedside.outlast("every stream has ended", stop)

    asyncio.run(scenario())
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("WARNING", "the alarm of anna is armed; it rings again only while sleepstream runs")
    ]


def test_a_recording_is_not_held_up_and_a_stop_ends_all(tmp_path, capsys):
    async def scenario(kind):
        clock = ten_to_seven()
        (tmp_path / "bad.pt").write_bytes(b"not a model")
        engine = Engine(settings(tmp_path, kind, model={"path": str(tmp_path / "bad.pt")}), clock, Witness())
        running = asyncio.create_task(engine.run())
        if kind == "lsl":
            await until_done(running, clock, 30)
            assert not running.done()
            engine.stop()
        with pytest.raises(ArtifactError):
            await asyncio.wait_for(running, 60)

    asyncio.run(scenario("simulated"))
    asyncio.run(scenario("lsl"))
    assert "\a" not in capsys.readouterr().err


class Desk:
    """A journal with a publisher, and the triggers of one stream."""

    def __init__(self, path, *triggers):
        self.clock = FakeClock(NIGHT)
        self.journal = Journal.create(path, Meta("s", "n", "anna", INFO), self.clock, deliver=False)
        self.witness = Witness()
        self.publisher = Publisher("anna", "s", INFO, self.journal, [self.witness], self.clock, None)
        wanted = [TriggerSettings.model_validate(one) for one in triggers]
        firings = FiringLog(path.with_suffix(".firings"), False)
        self.reflexes = Reflexes(wanted, self.publisher, None, self.clock, False, path, firings)

    def close(self):
        self.journal.close()


def fired(end, name="t"):
    return EventPayload(
        session="s", seq=0, t=utc(NIGHT), event="trigger", data={"trigger": name, "end": float(end)}
    )


def test_restored_triggers_know_their_firings_their_arming_and_the_night(tmp_path):
    desk = Desk(tmp_path / "a.sqlite", {"name": "t", "stages": ["N3"]}, {"name": "u", "stages": ["R"]})
    lights = EventPayload(session="s", seq=1, t=utc(NIGHT), event="lights_off", data={"epoch": 10})
    off = EventPayload(session="s", seq=2, t=utc(NIGHT), event="mark", data={"trigger": "u", "armed": False})
    stages = ["N2"] * 5 + ["W"] * 15 + ["N1"]
    heard = [score(30 * (number + 1), stage) for number, stage in enumerate(stages)]
    desk.reflexes.restore(heard, [lights, fired(100), fired(400), off, fired(1, "gone")])
    assert desk.reflexes.triggers["t"]._fired == [10_000, 40_000]
    assert desk.reflexes.triggers["t"].armed
    assert not desk.reflexes.triggers["u"].armed
    assert desk.reflexes._course.onset == 20 * 3000
    assert desk.reflexes._course.cycle == 1
    assert desk.witness.events == []
    desk.close()


@pytest.mark.parametrize(
    "command", ["arm_alarm", "snooze_alarm", "arm_trigger", "disarm_trigger", "test_alarm"]
)
def test_what_a_stream_does_not_have_is_refused(tmp_path, command):
    async def scenario():
        desk = Desk(tmp_path / "a.sqlite")
        stream = validate({"stream": [{"source": {"kind": "simulated"}}]}, "test").stream[0]
        async with Bedside(stream, tmp_path, "n", desk.clock, lambda: None) as bedside:
            bedside.obey(CommandPayload(command=command), desk.publisher)
        desk.close()
        return desk.witness.events

    (event,) = asyncio.run(scenario())
    assert event.event == "refused"
    assert event.text.startswith(command)


@pytest.mark.parametrize("step_s", [300, -300, 0])
def test_a_clock_that_is_set_makes_no_stage_late_for_the_alarm(tmp_path, step_s):
    async def scenario():
        desk = Desk(tmp_path / "a.sqlite")
        ready = settings(tmp_path).stream[0]
        ready = ready.model_copy(update={"alarm": ready.alarm.model_copy(update={"confirm_s": 0.0})})
        async with AsyncExitStack() as stack:
            bedside = await stack.enter_async_context(Bedside(ready, tmp_path, "n", desk.clock, print))
            await bedside.attach(desk.publisher, tmp_path / "a.sqlite", stack)
            desk.clock.now = 7 * 3600 + 45 * 60  # a quarter to seven
            desk.clock._wall += step_s
            end_s = int(desk.clock.now)
            desk.publisher.score(score(end_s - 120, "N2"))
            late = bedside.alarm.memory.state
            desk.publisher.score(score(end_s, "N2"))
            state = bedside.alarm.memory.state
        desk.close()
        return late, state

    assert asyncio.run(scenario()) == ("armed", "ringing")


class Fault(Exception):
    """Of a kind that nobody expects."""


COMMANDS = [*[(name, "") for name in get_args(CommandName)], ("arm_alarm", "06:58"), ("disarm_trigger", "t")]


@pytest.mark.parametrize("asked", COMMANDS, ids="-".join)
def test_a_command_that_fails_is_refused_and_has_changed_nothing(tmp_path, asked):
    async def scenario():
        desk = Desk(tmp_path / "a.sqlite", {"name": "t", "stages": ["N3"]})
        trigger = {"name": "t", "stages": ["N3"]}
        alarm = {"deadline": "07:00", "zone": "UTC", "armed": True}
        data = {"stream": [{"source": {"kind": "simulated"}, "trigger": [trigger], "alarm": alarm}]}

        def fail(*_args, **_more):
            raise Fault("odd\n\x1b[2J")

        async with AsyncExitStack() as stack:
            bedside = Bedside(validate(data, "x").stream[0], tmp_path, "n", desk.clock, fail)
            await stack.enter_async_context(bedside)
            await bedside.attach(desk.publisher, tmp_path / "a.sqlite", stack)
            before = bedside.alarm.memory, bedside.reflexes.armed, desk.publisher.night.statistics()
            for broken in ("arm", "disarm", "snooze", "dismiss", "set_time", "set_window"):
                setattr(bedside.alarm._alarm, broken, fail)
            bedside.alarm._test = fail
            said, desk.publisher._record = desk.publisher._record, fail
            called = desk.publisher.event
            desk.publisher.event = lambda name, *rest: (
                called(name, *rest) if name != "refused" else refused.append(rest)
            )
            refused = []
            reason = bedside.obey(CommandPayload(command=asked[0], text=asked[1], id="x1"), desk.publisher)
            desk.publisher._record = said
            after = bedside.alarm.memory, bedside.reflexes.armed, desk.publisher.night.statistics()
        desk.close()
        return before, after, reason, refused

    before, after, reason, refused = asyncio.run(scenario())
    assert before == after
    assert "nothing was changed: Fault: odd" in reason
    assert "\n" not in reason
    ((text, more),) = refused
    assert text.startswith(f"{asked[0]}: internal error")
    assert more == {"id": "x1"}


def test_what_is_asked_while_a_session_is_read_back_is_kept_or_refused(tmp_path):
    """Lights off then counts for triggers that are not there yet; arming them has to be asked for again."""

    async def scenario():
        desk = Desk(tmp_path / "a.sqlite")
        trigger = {"name": "t", "stages": ["N3"]}
        data = {"stream": [{"source": {"kind": "simulated"}, "trigger": [trigger]}]}
        bedside = Bedside(validate(data, "x").stream[0], tmp_path, "n", desk.clock, lambda: None)
        async with bedside, AsyncExitStack() as stack:
            bedside.obey(CommandPayload(command="disarm_trigger"), desk.publisher)
            past = Rewarmed(stop=6000, scores=[score(30, "N2"), score(60, "N2")])
            for one in past.scores:
                desk.publisher.commit(one)
            bedside.obey(CommandPayload(command="lights_off"), desk.publisher)
            await bedside.attach(desk.publisher, tmp_path / "a.sqlite", stack, past, ())
            assert bedside.reflexes._course.onset == 0
            bedside.reflexes.push(score(65, "W"), NIGHT + 65)
            desk.close()
            return bedside.reflexes, desk.witness.events

    reflexes, events = asyncio.run(scenario())
    assert "still being read back" in events[0].text
    assert reflexes.triggers["t"].armed
    assert reflexes._course.onset is None


def test_an_alarm_without_its_file_is_found_in_the_newest_session(tmp_path):
    async def scenario():
        path = tmp_path / "20260101T000000Z-anna-aaaaaa.sqlite"
        clock = ten_to_seven()
        with Journal.create(path, Meta("s", "n", "anna", INFO), clock, deliver=False) as journal:
            due = NIGHT + 8 * 3600
            data = {"what": "armed", "state": "armed", "deadline": due, "due": due, "snoozes": 0}
            data |= {"by_command": False, "configured": ""}
            journal.event(EventPayload(session="s", seq=0, t=utc(NIGHT), event="alarm", data=data))
        ready = settings(tmp_path).stream[0]
        ready = ready.model_copy(update={"alarm": ready.alarm.model_copy(update={"armed": False})})
        async with Bedside(ready, tmp_path, "n", clock, lambda: None) as bedside:
            return bedside.alarm.memory

    memory = asyncio.run(scenario())
    assert (memory.state, memory.deadline) == ("armed", NIGHT + 8 * 3600)


@needs_mosquitto
def test_the_alarm_is_armed_tested_and_disarmed_by_command(tmp_path):
    async def scenario(port):
        witness = Witness()
        source = {"kind": "simulated", "hours": 8, "speed": 60}
        alarm = {"deadline": "07:00", "zone": "UTC", "command": ["true"], "test_s": 0.1}
        data = {"node": "n", "session_dir": str(tmp_path), "mqtt": {"port": port}}
        data["stream"] = [{"name": "anna", "source": source, "alarm": alarm}]
        engine = Engine(validate(data, "test"), SystemClock(), witness)
        running = asyncio.create_task(engine.run())
        async with Subscriber(port) as client:
            await client.until(lambda _: any(one["session"] for one in client.of("alarm")))
            assert {one["state"] for one in client.of("alarm")} == {"disarmed"}

            async def tell(command, text=""):
                body = json.dumps({"command": command, "text": text})
                await client._client.publish("sleepstream/n/anna/command", body, qos=1)

            await tell("test_alarm")
            await client.until(
                lambda _: [one["state"] for one in client.of("alarm")][-2:] == ["ringing", "disarmed"]
            )
            for command, text in (("snooze_alarm", ""), ("arm_alarm", "25:00")):
                await tell(command, text)
            await tell("arm_alarm", "06:45")
            await client.until(lambda _: client.of("alarm")[-1]["state"] == "armed")
            await tell("disarm_alarm")
            await client.until(lambda _: client.of("alarm")[-1]["state"] == "disarmed")
            engine.stop()
            await running
            return client.of("alarm"), witness.events

    states, events = on_mosquitto(scenario)
    armed = next(one for one in states if one["state"] == "armed")
    assert armed["deadline"].endswith("T06:45:00Z")
    assert states[-1]["deadline"] is None
    assert [event.text.split(":")[0] for event in events if event.event == "refused"] == [
        "snooze_alarm",
        "arm_alarm",
    ]
    said = [(event.data["what"], event.data["test"]) for event in events if event.event == "alarm"]
    assert [what for what, test in said if not test] == ["armed", "disarmed"]
    assert [what for what, test in said if test] == ["ringing", "dismissed"]
    assert [one["state"] for one in states if one["test"]] == ["ringing"]


class Ends(FakeSource):
    """A device that is found, sends nothing, and ends; or one that is never found."""

    def __init__(self, found):
        super().__init__(INFO)
        self.found = found
        self.give(None)

    async def __aenter__(self):
        if not self.found:
            await asyncio.Event().wait()
        return self


@needs_mosquitto
@pytest.mark.parametrize("found", [True, False], ids=["its device has ended", "no device was found"])
def test_an_alarm_that_rings_alone_can_be_told_to_be_quiet(tmp_path, found):
    async def scenario(port):
        data = {"node": "n", "session_dir": str(tmp_path), "mqtt": {"port": port}}
        alarm = {**ALARM, "command": ["sleep", "60"], "armed": False}
        data["stream"] = [{"name": "anna", "source": {"kind": "lsl"}, "alarm": alarm}]
        settings, witness, heard = validate(data, "test"), Witness(), asyncio.Queue()
        engine = Engine(settings, SystemClock(), witness, sources=lambda *_: Ends(found))
        async with Bedside(settings.stream[0], tmp_path, "n", SystemClock(), lambda: None) as before:
            before.alarm.obey("arm_alarm", (datetime.now(UTC) + timedelta(seconds=2)).isoformat())
            await before.alarm.saved.wait()
        running = asyncio.create_task(engine.run())
        async with Subscriber(port) as client:
            if found:
                await client.until(lambda _: "ringing" in [one["state"] for one in client.of("alarm")])
                await client.until(lambda _: "session_ended" in [one["event"] for one in client.of("event")])
            else:
                await client.until_says("sleepstream/n/availability", b"online")
                alarm = engine._bedsides["anna"].alarm
                alarm.hear(lambda change, _: heard.put_nowait(change.what), lambda _: None)
                while alarm.memory.state != "ringing":
                    await heard.get()

            async def tell(command):
                body = json.dumps({"command": command})
                await client._client.publish("sleepstream/n/anna/command", body, qos=1)

            await tell("snooze_alarm")
            await tell("mark")
            await tell("dismiss_alarm")
            if found:
                await client.until(lambda _: client.of("alarm")[-1]["state"] == "disarmed")
            else:
                said = []  # that it rang, too, where it did before we listened
                while said[-2:] != ["snoozed", "dismissed"]:
                    said.append(await heard.get())
                engine.stop()
            await asyncio.wait_for(running, 60)
        return witness.events

    events = on_mosquitto(scenario)
    said = [event.data["what"] for event in events if event.event == "alarm"]
    assert said[-3:] == (["ringing", "snoozed", "dismissed"] if found else [])
    assert json.loads((tmp_path / "anna@n.alarm.json").read_text())["state"] == "disarmed"


CONFIG = """
session_dir = "{folder}"
[[stream]]
name = "anna"
[stream.source]
kind = "lsl"
name = "a stream that nobody sends"
[stream.alarm]
deadline = "{deadline}"
zone = "UTC"
armed = true
ring_s = 60
command = ["sh", "-c", "echo ringing > {fifo}"]
"""


@pytest.mark.slow
def test_killed_without_a_goodbye_and_started_again_it_rings_again(tmp_path):
    """Real processes and clocks, and no device at all; a pipe tells when it rings."""
    fifo = tmp_path / "rings"
    os.mkfifo(fifo)
    deadline = datetime.now(UTC) + timedelta(seconds=45)  # until when it has started
    config = tmp_path / "c.toml"
    config.write_text(CONFIG.format(folder=tmp_path / "sessions", deadline=f"{deadline:%H:%M:%S}", fifo=fifo))
    for _ in range(2):
        process = subprocess.Popen([*COMMAND, "run", str(config)], stdout=subprocess.DEVNULL)
        try:
            assert fifo.read_text() == "ringing\n"
        finally:
            process.kill()
            process.wait()
    assert datetime.now(UTC) >= deadline.replace(microsecond=0)
