"""What comes from outside cannot begin a line of its own, nor tell a terminal what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from streamer.host.printable import printable
from streamer.messages import Channel, StreamInfo
from streamer.payloads import CommandPayload, EnginePayload, EventPayload, Line, utc


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("woke up", "woke up"),
        ("aufgewacht 🙂 é 睡", "aufgewacht 🙂 é 睡"),
        ("👩‍🔬", "👩‍🔬"),
        ("a\nERROR anna: forged", "a ERROR anna: forged"),
        ("a\r\nb\tc\x0b\x0cd\x85e\u2028f", "a  b c  d e f"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("\x00", "\\x00"),
    ],
)
def test_one_line_that_no_terminal_obeys(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_becomes_one_printable_line_and_stays_it(text):
    line = printable(text)
    assert line.replace("\u200d", "").isprintable()
    assert len((line + "x").splitlines()) == 1
    assert printable(line) == line


EVIL, SHOWN = "x\n\x1b[31m", "x \\x1b[31m"


def test_every_entrance_makes_it_so():
    assert CommandPayload(command="mark", text=EVIL).text == SHOWN
    event = EventPayload(session="s", seq=0, t=utc(0), event="mark", text=EVIL, data={"a": EVIL, "n": 1})
    assert (event.text, event.data) == (SHOWN, {"a": SHOWN, "n": 1})
    assert EventPayload.model_validate_json(event.model_dump_json(by_alias=True)) == event
    assert EnginePayload(instance="i", host=EVIL, version=EVIL, started=utc(0)).host == SHOWN
    info = StreamInfo(EVIL, 100.0, (Channel(EVIL, EVIL),), 0.0)
    assert (info.name, info.channels[0].label, info.channels[0].unit) == (SHOWN, SHOWN, SHOWN)
    assert TypeAdapter(Line).validate_python(EVIL) == SHOWN
