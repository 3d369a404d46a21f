"""One line per event, whatever it says; as JSON it can be read back."""

import io
import json
import logging
import sys
import threading
import warnings
from pathlib import Path

import pytest

from streamer.clock import SystemClock
from streamer.news import MqttStatus, Opened, Remark
from streamer.payloads import EventPayload, utc
from streamer.sinks.handover import Aside
from streamer.sinks.logbook import Logbook, collect_remarks
from tests.paths import info


def event(text, **data):
    return EventPayload(session="s", seq=3, t=utc(0), event="gap", text=text, data=data)


def said(style):
    out = io.StringIO()
    with Aside(Logbook(out, style), SystemClock()) as book:
        book.hear("anna", Opened(info(100), "Fpz-Cz", Path("s.sqlite")))
        book.hear("anna", event("1.5 s lost", seconds=1.5, t=7))
        book.hear("", MqttStatus(False, "", 0, "refused", {}, 4))
        with collect_remarks(book):
            try:
                raise ValueError("two\nlines")
            except ValueError:
                logging.getLogger("streamer.test").exception("it broke")
    return out.getvalue().splitlines()


def test_json_is_one_object_a_line():
    lines = [json.loads(line) for line in said("json")]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("INFO", "open"),
        ("WARNING", "gap"),
        ("WARNING", "broker"),
        ("ERROR", "streamer.test"),
    ]
    assert lines[1]["seconds"] == 1.5
    assert lines[1]["t"].endswith("+00:00"), "what an event brings along does not replace what every line has"
    assert "ValueError: two" in lines[3]["text"]


def test_text_is_for_people():
    lines = said("text")
    assert lines[1].startswith("WARNING anna gap: 1.5 s lost (seq=3")
    assert lines[2] == "WARNING broker: refused (connected=False backlog=4)"
    assert lines[4].startswith("  Traceback"), "what is indented is no line of its own"


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("bad", ["a\nERROR anna forged: b", "\x1b[2J", "\x9b31m", "\r", "\u2028", "\x7f"])
def test_what_others_say_cannot_begin_a_line_or_move_a_cursor(style, bad):
    out = io.StringIO()
    Logbook(out, style).hear("", Remark("ERROR", "lib", bad))
    Logbook(out, style).hear("anna", event(bad, label=bad))
    remark, line, end = out.getvalue().split("\n")
    assert remark.isprintable()
    assert line.isprintable()
    assert end == ""
    if style == "json":
        assert json.loads(line)["event"] == "gap"


def test_a_log_in_latin_1_takes_everything_and_its_json_can_be_read_back():
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    Logbook(out, "json").hear("anna", event("good night 🌙"))
    out.seek(0)
    assert json.loads(out.read())["text"] == "good night 🌙"


class Nameless(Exception):
    """Cannot even say what it is."""

    def __str__(self):
        raise RuntimeError


def test_whatever_is_logged_goes_to_the_log_and_no_one_fails_by_logging():
    out, log = io.StringIO(), logging.getLogger("streamer.test")
    book = Aside(Logbook(out, "text"), SystemClock())
    with collect_remarks(book), book:
        log.error("%d", "no number")
        log.error("%s", Nameless())
        log.error("odd", exc_info=Nameless())
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", stacklevel=1)
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start()
        thread.join()
        sys.unraisablehook(type("What", (), {"exc_value": ValueError("x"), "object": None})())
    lines = [line for line in out.getvalue().splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["ERROR"] * 3 + ["WARNING"] + ["ERROR"] * 2
    assert "careful" in lines[3]
    assert "thread worker has ended: ZeroDivisionError" in lines[4]
