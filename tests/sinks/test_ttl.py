"""Triggers as bytes: on a pseudo-terminal that stands for the port, and in a file."""

import json
import os
import sys
import time
import tty

import pytest
from pydantic import ValidationError

from streamer.errors import SinkError
from streamer.payloads import EventPayload, utc
from streamer.sinks.settings import TtlSettings
from streamer.sinks.ttl import TtlSink


def fired(code=100, name="trigger", **data):
    facts = {"code": code, "number": 3, "arm": "active", "due": time.time(), **data}
    return EventPayload(session="s", seq=0, t=utc(0), event=name, data=facts)


@pytest.fixture
def port():
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    for one in (ours, theirs):
        os.close(one)


def test_a_trigger_is_its_code_and_then_a_zero(port):
    ours, name = port
    with TtlSink(TtlSettings(port=name, pulse_ms=1)) as sink:
        sink.hear("anna", fired(100))
        sink.hear("anna", fired(101, arm="sham"))
        sink.hear("anna", fired(name="gap"))
    came = b""
    while len(came) < 4:
        came += os.read(ours, 100)
    assert came == bytes([100, 0, 101, 0])
    assert len(sink.late_ms) == 2
    assert min(sink.late_ms) >= 0


def test_without_a_pulse_there_is_no_zero(port):
    ours, name = port
    with TtlSink(TtlSettings(port=name, pulse_ms=0)) as sink:
        sink.hear("anna", fired(200))
    assert os.read(ours, 100) == bytes([200])


def test_a_file_says_what_was_written_and_how_late(tmp_path):
    path = tmp_path / "new" / "ttl.jsonl"
    for _ in range(2):  # it is added to
        with TtlSink(TtlSettings(file=path)) as sink:
            sink.hear("anna", fired(102))
    first, _ = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["code"], first["number"], first["condition"]) == (102, 3, 1)
    assert first["late_ms"] == pytest.approx((first["t"] - first["due"]) * 1000, abs=0.01)
    assert path.stat().st_mode & 0o077 == 0


def test_a_port_that_is_not_there_is_said_and_tried_again(port, tmp_path):
    link = tmp_path / "port"
    sink = TtlSink(TtlSettings(port=str(link), pulse_ms=0))
    with pytest.raises(SinkError, match=r"cannot open serial port .*plugged in"):
        sink.hear("anna", fired())
    link.symlink_to(port[1])
    sink.hear("anna", fired(103))
    assert os.read(port[0], 100) == bytes([103])
    sink.__exit__(None, None, None)


def test_without_pyserial_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(SinkError, match=r"pip install '\.\[serial\]'"):
        TtlSink(TtlSettings(port="/dev/null")).__enter__()


def test_it_needs_somewhere_to_write():
    with pytest.raises(ValidationError, match="a port, a file, or both"):
        TtlSettings()
