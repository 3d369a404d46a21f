"""One line per event, whatever it says; as JSON it can be read back."""

import io
import json
import logging
from pathlib import Path

from streamer.logbook import Logbook
from streamer.payloads import EventPayload, utc
from streamer.sinks.mqtt import MqttStatus
from tests.paths import info


def said(style):
    out = io.StringIO()
    book = Logbook(out, style)
    book.started("anna", info(100), "Fpz-Cz", Path("s.sqlite"))
    book.happened(
        "anna",
        EventPayload(
            session="s", seq=3, t=utc(0), event="gap", text="1.5 s lost", data={"seconds": 1.5, "t": 7}
        ),
    )
    book.broker(MqttStatus(False, "", 0, "refused", {}, 4))
    logger = logging.Logger("streamer.test")
    logger.addHandler(book)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("it broke")
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
