"""Markers as numbers: codes that never change, and those of a stream's triggers."""

from typing import get_args

import pytest
from pydantic import ValidationError

from streamer.errors import SettingsError
from streamer.payloads import EventName, EventPayload, PublishedStage, utc
from streamer.reactions.settings import FIRST_CODE, TriggerSettings, codes
from streamer.settings import validate
from streamer.sinks.codes import EVENT_CODES, STAGE_CODES, encode_event, table

# As they are documented; analyses of years rely on them.
PROMISED = (
    {"W": 1, "N1": 2, "N2": 3, "N3": 4, "R": 5, "unscored": 8, "no_signal": 9}
    | {"session_started": 20, "session_resumed": 21, "session_ended": 22, "gap": 23, "reconnected": 24}
    | {"channel_changed": 26, "warning": 27, "error": 28, "refused": 29, "lights_off": 30}
    | {"lights_on": 31, "mark": 32, "marker": 33, "alarm": 34, "trigger": 35, "report": 36}
)


def trigger(name, **more):
    return TriggerSettings(name=name, stages=("N3",), **more)


def event(name, **data):
    return EventPayload(session="s", seq=0, t=utc(0), event=name, data=data)


def test_codes_are_those_that_were_promised():
    assert {**EVENT_CODES, **STAGE_CODES, "no_signal": 9} == PROMISED
    assert set(STAGE_CODES) == set(get_args(PublishedStage))
    numbers = [*STAGE_CODES.values(), *EVENT_CODES.values()]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 40  # from there on a trigger may have its own
    assert FIRST_CODE == 100


def test_every_event_has_one():
    assert set(EVENT_CODES) == set(get_args(EventName))


def test_a_trigger_is_its_code_its_number_its_arm_and_when_it_was_due():
    told = encode_event(event("trigger", code=101, number=7, arm="sham", due=12.5))
    assert (told.code, told.number, told.condition, told.due) == (101, 7, 2, 12.5)
    assert encode_event(event("trigger", code=100, number=0, arm="active", due=1)).condition == 1
    assert encode_event(event("trigger", code=100, number=0, arm="blinded", due=1)).condition == 0
    other = encode_event(event("gap"))
    assert (other.code, other.number, other.condition) == (23, -1, 0)
    assert other.due != other.due
    assert encode_event(event("trigger", code="x")).code == 35


def test_triggers_have_codes_two_apart_and_a_table_says_all():
    found = codes([trigger("a"), trigger("b", code=44), trigger("c")])
    assert found == {"a": 100, "b": 44, "c": 104}
    written = table(found)
    assert written["trigger b (sham)"] == 45
    assert written["stage R"] == 5
    assert written["gap"] == 23


def test_two_that_would_be_the_same_are_refused():
    with pytest.raises(ValueError, match="both mark with code 102"):
        codes([trigger("a", code=101), trigger("b")])
    with pytest.raises(ValueError, match="above 255"):
        codes([trigger(f"t{n}") for n in range(79)])
    with pytest.raises(ValidationError):
        trigger("a", code=255)
    data = {"source": {"kind": "lsl"}, "trigger": [{"name": n, "stages": ["R"], "code": 50} for n in "ab"]}
    with pytest.raises(SettingsError, match="code 50"):
        validate({"stream": [data]}, "test")
