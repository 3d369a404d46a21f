"""A whole engine whose terminal is stopped, whose log has no reader or no room, whose sinks fail or hang.

The night goes on, and an armed alarm rings.
"""

import asyncio
import fcntl
import os
import pty
import signal
import termios
import threading
from functools import partial

import pytest
from rich.console import Console

from streamer import cli
from streamer.clock import SystemClock
from streamer.commands.driving import STRAY
from streamer.errors import RunError, SinkError, SleepstreamError, explain
from streamer.host.standard import Unbuffered
from streamer.journal import JournalReader
from streamer.live import engine as engine_module
from streamer.live import sleeper
from streamer.live.engine import Engine
from streamer.live.supervisor import Supervisor
from streamer.messages import Chunk
from streamer.news import Opened
from streamer.payloads import EventPayload, StagePayload
from streamer.settings import validate
from streamer.sinks import handover
from streamer.sinks.handover import Aside
from streamer.sinks.logbook import Logbook
from streamer.sinks.terminal import Terminal
from tests.fakes import FakeSource, Witness, held
from tests.mosquitto import free_port
from tests.paths import eeg, info
from tests.test_cli import write_edf

HOURS = 0.1


def settings(folder, **more):
    source = {"kind": "simulated", "hours": HOURS, "speed": "max"}
    stream = {"name": "anna", "hop_s": 10, "source": source, **more.pop("stream", {})}
    return validate({"node": "n", "session_dir": str(folder), "stream": [stream], **more}, "test")


def events(outcome):
    with JournalReader(outcome.session) as session:
        return [(event.event, event.data.get("sink")) for event in session.events()]


def whole(outcome):
    return outcome.error is None and len(outcome.labels) == round(HOURS * 120)


class Bad(Witness):
    """Does to each message what a test wants done."""

    name, wants = "the bad one", (Opened, StagePayload, EventPayload)

    def __init__(self, does, prompt):
        super().__init__()
        self.does, self.prompt = does, prompt

    def hear(self, stream, news):
        self.does()


def broken():
    raise SystemExit("as a library may")


@pytest.mark.parametrize("prompt", [True, False])
def test_a_watcher_that_raises_ends_nothing_and_is_said_once(tmp_path, prompt):
    source = held(lambda: engine._watcher.failures)
    engine = Engine(settings(tmp_path), SystemClock(), Bad(broken, prompt), sources=source)
    (outcome,) = asyncio.run(engine.run())
    assert whole(outcome)
    assert events(outcome).count(("error", "the bad one")) == 1


def test_a_watcher_that_hangs_holds_up_neither_the_night_nor_its_end(tmp_path, monkeypatch):
    over = threading.Event()
    engine = Engine(settings(tmp_path), SystemClock(), Bad(lambda: over.wait(60), False))
    monkeypatch.setattr(handover, "DRAIN_S", 0.01)
    (outcome,) = asyncio.run(engine.run())
    over.set()
    assert whole(outcome)


def test_a_stopped_terminal_stops_nothing_else(tmp_path, monkeypatch):
    """Ctrl-S: a write to it waits until Ctrl-Q."""
    ours, theirs = pty.openpty()
    console = Console(file=Unbuffered(theirs, "utf-8"), force_terminal=True)
    aside = Aside(Terminal(console), SystemClock()).__enter__()
    os.read(ours, 1 << 16)  # it has begun
    termios.tcflow(theirs, termios.TCOOFF)
    (outcome,) = asyncio.run(Engine(settings(tmp_path), SystemClock(), aside).run())
    assert whole(outcome)
    with monkeypatch.context() as hasty:
        hasty.setattr(handover, "DRAIN_S", 0.01)
        assert not aside.close()
    termios.tcflow(theirs, termios.TCOON)
    assert aside.close()
    assert b"anna" in os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)


def stalled_pipe():
    """A small pipe that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, bytes(4096))
    return writer, lambda: os.close(reader)


def dead_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer, lambda: None


def full_disk():
    return os.open("/dev/full", os.O_WRONLY), lambda: None


def closed_terminal():
    ours, theirs = pty.openpty()
    os.close(ours)
    return theirs, lambda: None


@pytest.mark.parametrize("style", ["text", "screen"])
@pytest.mark.parametrize("make", [dead_pipe, full_disk, closed_terminal, stalled_pipe])
def test_an_output_that_takes_nothing_takes_nothing_from_the_night(tmp_path, monkeypatch, make, style):
    descriptor, free = make()
    out = Unbuffered(descriptor, "utf-8")
    sink = Logbook(out, "text") if style == "text" else Terminal(Console(file=out))
    aside = Aside(sink, SystemClock()).__enter__()
    source = held(lambda: aside.failures or make is stalled_pipe)
    (outcome,) = asyncio.run(Engine(settings(tmp_path), SystemClock(), aside, sources=source).run())
    with monkeypatch.context() as hasty:
        hasty.setattr(handover, "DRAIN_S", 0.05)
        ended = aside.close()
    free()
    assert aside.close()
    os.close(descriptor)
    assert whole(outcome)
    if make is stalled_pipe:
        assert not ended, "it was stuck"
    else:
        assert aside.failures
        assert ("error", sink.name) in events(outcome)


def test_an_emoji_does_not_end_a_night_whose_log_is_latin_1(tmp_path):
    reader, writer = os.pipe()
    config = settings(tmp_path, stream={"name": "anna"})
    with Aside(Logbook(Unbuffered(writer, "latin-1"), "text"), SystemClock()) as aside:
        asyncio.run(Engine(config, SystemClock(), aside).run())
        aside.hear("anna", EventPayload(session="s", seq=99, t=0, event="mark", text="🌙"))
    os.close(writer)
    with os.fdopen(reader, "rb") as log:
        assert b"\\U0001f319" in log.read()
    assert not aside.failures


def device(config):
    """Run an engine with a device that gives two minutes of EEG."""

    async def main():
        source = FakeSource(info(100))
        source.give(Chunk(0, eeg(120, 100)), None)
        return await Engine(config, SystemClock(), Witness(), sources=lambda *_: source).run()

    (outcome,) = asyncio.run(main())
    assert outcome.error is None
    assert len(outcome.labels) == 4
    return outcome


LSL = {"source": {"kind": "lsl", "name": "none"}}


def test_json_lines_that_cannot_be_written_cost_a_device_no_night(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    device(settings(tmp_path, stream=LSL, jsonl={"path": str(tmp_path / "file" / "e.jsonl")}))
    assert "e.jsonl failed: cannot open" in caplog.text


def test_a_page_and_lsl_outlets_that_cannot_be_made_cost_no_night(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise ImportError("no liblsl here")

    monkeypatch.setattr("streamer.live.hearers._make_outlets", fail)
    monkeypatch.setattr("streamer.web.page.Page.open", fail)
    device(settings(tmp_path, stream=LSL, lsl={}, web={"port": free_port()}))
    assert "no LSL outlets for anna: ImportError: no liblsl here" in caplog.text
    assert "the live page failed: ImportError" in caplog.text


# ---- no end of anything ends the alarm


def armed(folder, **more):
    alarm = {"deadline": "07:00", "armed": True, "command": ["true"]}
    live = {"source": {"kind": "lsl", "name": "none"}, "alarm": alarm}
    return settings(folder, stream=live, **more)


GROUP = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("ours"), SinkError("no broker")])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GROUP, "no broker"),
        (ValueError("ours"), "internal error"),
        (OSError(24, "Too many open files"), "Too many"),
    ],
    ids=["group", "fault", "files"],
)
def test_whatever_ends_the_engine_the_armed_alarm_outlasts_it(tmp_path, monkeypatch, error, said):
    """And what arrives is one of the family, in one line."""

    async def main():
        engine = Engine(armed(tmp_path), SystemClock(), Witness())
        outlasting = asyncio.Event()

        async def outlast(why):
            outlasting.set()
            await engine._stop.wait()

        async def fail():
            raise error

        monkeypatch.setattr(engine, "_run", fail)
        monkeypatch.setattr(engine, "_outlast", outlast)
        running = asyncio.create_task(engine.run())
        async with asyncio.timeout(60):
            await outlasting.wait()
        assert not running.done()
        engine.stop()
        await running

    with pytest.raises(SleepstreamError, match=said) as caught:
        asyncio.run(main())
    assert "\n" not in str(caught.value)


def test_a_fault_in_one_stream_is_that_stream_s(tmp_path, monkeypatch):
    real = Supervisor.run

    async def run(self, stop):
        if self._settings.name == "ben":
            raise ZeroDivisionError("ours")
        return await real(self, stop)

    monkeypatch.setattr(engine_module.Supervisor, "run", run)
    source = {"kind": "simulated", "hours": HOURS, "speed": "max"}
    streams = [{"name": name, "source": source} for name in ("anna", "ben")]
    config = validate({"session_dir": str(tmp_path), "stream": streams}, "test")
    anna, ben = asyncio.run(Engine(config, SystemClock(), Witness()).run())
    assert whole(anna)
    assert isinstance(ben.error, RunError)
    assert explain(ben.error).startswith("internal error: ZeroDivisionError: ours")


# ---- the commands


@pytest.fixture
def handled():
    """Set what a signal does to this process; it is restored."""
    before = {}

    def handle(number, handler):
        before[number] = signal.signal(number, handler)

    yield handle
    for number, handler in before.items():
        signal.signal(number, handler)


def ignored(*_):
    raise AssertionError("nobody has taken the signal")


@pytest.fixture
def signalled(tmp_path, monkeypatch):
    """Run a night, send this process the signal once there is a session, and tell why the night ended."""
    return partial(run_signalled, tmp_path, monkeypatch)


def run_signalled(tmp_path, monkeypatch, number, ends):
    hours, speed = (8, 60) if ends else (HOURS, 600)
    config = tmp_path / "c.toml"
    config.write_text(
        f'session_dir = "{tmp_path}"\n[[stream]]\nname = "anna"\nhop_s = 10\n[stream.source]\n'
        f'kind = "simulated"\nhours = {hours}\nspeed = {speed}\n'
    )
    create = sleeper._create_journal

    def create_and_send(*args):
        journal = create(*args)
        os.kill(os.getpid(), number)
        return journal

    monkeypatch.setattr(sleeper, "_create_journal", create_and_send)
    assert cli.main(["run", str(config), "--log", "text"]) == 0
    (session,) = tmp_path.glob("*.sqlite")
    with JournalReader(session) as read:
        return [event.text for event in read.events() if event.event == "session_ended"]


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_ends_the_night_in_peace_unless_it_is_to_go_on(signalled, handled, nohup):
    handled(signal.SIGHUP, signal.SIG_IGN if nohup else ignored)
    why = signalled(signal.SIGHUP, ends=not nohup)
    assert why == ["the source has ended" if nohup else "stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_whoever_ends_it_ends_it_in_peace(signalled, handled, number):
    handled(number, ignored)
    assert signalled(number, ends=True) == ["stopped"]


@pytest.mark.parametrize("number", STRAY)
def test_a_stray_signal_ends_no_night(signalled, handled, capfd, number):
    handled(number, ignored)
    assert signalled(number, ends=False) == ["the source has ended"]
    assert number.name in capfd.readouterr().out


def test_a_replay_into_head_writes_all_its_files(tmp_path, monkeypatch):
    stages = ["W", "N1", "N2", "N3", "R", "N2"]
    file = write_edf(tmp_path / "night.edf", eeg(180, 100), stages=stages)
    descriptor, _ = dead_pipe()
    monkeypatch.setattr("sys.stdout", Unbuffered(descriptor, "utf-8"))
    assert cli.main(["replay", str(file), "--out", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"agreement.json", "epochs.jsonl", "session.sqlite"} <= names
    assert len((tmp_path / "out" / "epochs.jsonl").read_text().splitlines()) == 6


def test_a_command_that_only_prints_ends_quietly_when_its_reader_has_seen_enough(
    tmp_path, monkeypatch, capsys
):
    descriptor, _ = dead_pipe()
    monkeypatch.setattr("sys.stdout", Unbuffered(descriptor, "utf-8"))
    config = tmp_path / "c.toml"
    config.write_text(
        f'session_dir = "{tmp_path}"\n[[stream]]\nname = "anna"\n[stream.source]\nkind = "lsl"\n'
    )
    assert cli.main(["status", str(config)]) == 1
    assert capsys.readouterr().err == ""
