"""What a person sees: one block that stays in its place on a terminal, few plain lines elsewhere."""

from datetime import UTC, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from streamer.messages import STAGES, Channel, StreamInfo
from streamer.news import MqttStatus, Opened, Remark
from streamer.payloads import EventPayload, Probabilities, QualityPayload, StagePayload, utc
from streamer.sinks.terminal import PLAIN_EVERY_S, Terminal, watch_progress

INFO = StreamInfo("band", 256.0, (Channel("AF7", "uV"),), 1_750_000_000.0, 600.0)


def payload(second, stage="N2", grade="good", reasons=()):
    scored = stage in STAGES
    return StagePayload(
        session="s",
        seq=second,
        t_end=utc(INFO.started) + timedelta(seconds=second),
        stage=stage,
        smoothed=stage,
        probabilities=Probabilities(W=0, N1=0, N2=1, N3=0, R=0) if scored else None,
        confidence=0.83 if scored else None,
        warmup=False,
        quality=QualityPayload(grade=grade, reasons=reasons, lost_fraction=0),
        provisional=False,
        latency_ms=12.0,
    )


def event(name, seq=5, text="what [bold]happened", data=None):
    return EventPayload(session="s", seq=seq, t=utc(INFO.started), event=name, text=text, data=data or {})


def status(**change):
    return MqttStatus(**{"connected": True, "protocol": "5", "reconnects": 0, "last_error": "", **change})


def shown(terminal):
    console = Console(file=StringIO(), width=120)
    console.print(terminal.block())
    return console.file.getvalue()


def on(is_terminal):
    out = StringIO()
    return Terminal(Console(file=out, width=120, force_terminal=is_terminal), UTC), out


def test_the_block_says_stage_changes_quality_lag_and_broker():
    terminal, _ = on(False)
    terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
    assert "waiting for the first 30 s" in shown(terminal)
    for second, stage in ((30, "W"), (60, "N1"), (90, "N1"), (120, "N2")):
        terminal.hear("anna", payload(second, stage))
    terminal.hear("anna", payload(150, "N2", "poor", ("lost", "muscle")))
    terminal.hear("", status(published={}, backlog=3))
    text = shown(terminal)
    assert "anna  15:09:10  N2        83%  poor (lost, muscle)  lag 12 ms" in text
    assert "since 15:08 N2 · 15:07 N1 · 15:07 W" in text
    assert "MQTT 5: connected, 3 to deliver" in text
    terminal.hear("", status(connected=False, last_error="no broker", published={}, backlog=3))
    assert "MQTT: no broker (staging goes on" in shown(terminal)


def test_only_the_last_changes_are_kept():
    terminal, _ = on(False)
    terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
    for number in range(40):
        terminal.hear("anna", payload(30 * number, "N2" if number % 2 else "R"))
    assert shown(terminal).count("·") == 5


def test_plain_lines_are_few_and_have_no_controls():
    terminal, out = on(False)
    with terminal:
        terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
        for second in range(30, 7230, 30):
            terminal.hear("anna", payload(second))
        terminal.hear("", status(published={}, backlog=0))
    lines = out.getvalue().splitlines()
    assert sum(" N2 " in line for line in lines) == 7200 // PLAIN_EVERY_S
    assert "\x1b" not in out.getvalue()
    assert "MQTT 5: connected" in lines


@pytest.mark.parametrize("is_terminal", [True, False])
def test_events_that_matter_are_said_as_they_are(is_terminal):
    terminal, out = on(is_terminal)
    with terminal:
        terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
        terminal.hear("anna", event("reconnected", seq=7))  # the first samples, whatever was said before
        terminal.hear("anna", event("gap"))
        assert "happened" not in out.getvalue()
        terminal.hear("anna", event("warning"))
        assert "what [bold]happened" in out.getvalue()


def test_a_signal_that_is_back_is_said_once_it_was_away():
    terminal, out = on(False)
    terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
    terminal.hear("anna", event("reconnected", text="first"))
    terminal.hear("anna", event("no_signal", text="gone"))
    terminal.hear("anna", event("reconnected", text="back"))
    assert out.getvalue().splitlines()[1:] == ["anna no_signal: gone", "anna reconnected: back"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_ring_is_shown(is_terminal):
    terminal, out = on(is_terminal)
    with terminal:
        terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
        terminal.hear("anna", event("alarm", text="set", data={"what": "armed"}))
        assert "alarm" not in out.getvalue()
        terminal.hear("anna", event("alarm", text="light sleep", data={"what": "ringing"}))
        assert "anna alarm ringing: light sleep" in out.getvalue()
        assert "alarm ringing" in shown(terminal)
        terminal.hear("anna", event("alarm", text="you are up", data={"what": "dismissed"}))
        assert "anna alarm dismissed: you are up" in out.getvalue()
        assert "alarm" not in shown(terminal)


def test_a_line_that_comes_again_and_again_is_counted_and_said_rarely(monkeypatch):
    now = 0.0
    monkeypatch.setattr("streamer.sinks.terminal.time.monotonic", lambda: now)
    terminal, out = on(False)
    for number in range(500):
        now += 10.0
        terminal.hear("", Remark("WARNING", "supervisor", f"begins again after {number} s"))
        terminal.hear("", status(connected=number % 2 == 0, last_error="", published={}, backlog=0))
    lines = out.getvalue().splitlines()
    begun = [line for line in lines if "begins again" in line]
    assert begun[:3] == [
        "WARNING supervisor: begins again after 0 s",
        "WARNING supervisor: begins again after 1 s",
        "WARNING supervisor: begins again after 2 s (from now on at most once an hour)",
    ]
    assert begun[3:] == ["WARNING supervisor: begins again after 362 s (and 359 times before)"]
    assert len(lines) <= 8


def test_what_is_said_is_one_line():
    terminal, out = on(False)
    terminal.hear("", Remark("WARNING", "x", "two\nlines\x1b[2J"))
    terminal.hear("", status(connected=False, last_error="no\nbroker", published={}, backlog=0))
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue()
    for number in range(1000):
        terminal.hear("", Remark("WARNING", chr(0x4E00 + number), "another"))
    assert len(terminal._repeats._seen) <= 200


def test_no_signal_is_a_change_and_no_progress():
    terminal, _ = on(False)
    terminal.hear("anna", Opened(INFO, "AF7", Path("x.sqlite")))
    terminal.hear("anna", payload(30))
    terminal.hear("anna", payload(90_000, "no_signal", "off"))
    assert "no_signal" in shown(terminal)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_work_has_a_bar_only_on_a_terminal(is_terminal):
    out = StringIO()
    with watch_progress(Console(file=out, width=80, force_terminal=is_terminal), "work") as progress:
        progress(0.5)
        progress(1.0)
    assert bool(out.getvalue()) == is_terminal
