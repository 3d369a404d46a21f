"""The rules for the end of a night, without any clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from streamer.errors import SettingsError
from streamer.night.ending import Ending
from streamer.night.settings import NightSettings
from streamer.payloads import EventPayload, QualityPayload, utc
from streamer.settings import validate
from tests.sinks import samples

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 1, 1, 23, tzinfo=BERLIN).timestamp()
HOUR = 3600.0


def ending(hours=8.0, zone=BERLIN, off=0.0, **more):
    """What a night of so many hours of signal, and then so many without, has come to."""
    made = Ending(NightSettings.model_validate(more), zone)
    for number in range(int(120 * (hours + off))):
        grade = "good" if number < 120 * hours else "off"
        quality = QualityPayload(grade=grade, lost_fraction=0.0)
        made.hear("anna", samples.epoch(0).model_copy(update={"epoch": number, "quality": quality}))
    return made


def light(name, at_s):
    return EventPayload(session="s", seq=0, t=utc(0), event=name, at_s=at_s)


def test_a_band_that_is_off_for_an_hour_and_a_half_ends_a_night_of_three_hours_and_no_shorter_one():
    night = ending(3.0)
    assert night.due(4.49 * HOUR, EVENING) == ""
    assert night.due(4.5 * HOUR, EVENING) == "the band was off or silent for 90 min"
    assert ending(3.0, off=1.5).due(4.5 * HOUR, EVENING)  # samples come, from a table
    assert ending(2.9).due(5 * HOUR, EVENING) == ""  # it may be put on again
    assert ending(2.9).due(8.9 * HOUR, EVENING) == "the band was off or silent for 6 h"
    assert ending(8, off_min=0, off_anyway_h=0, at="never").due(100 * HOUR, EVENING) == ""
    assert ending(3.0).worn_s == 3 * HOUR


def test_lights_on_end_a_night_and_not_an_evening():
    night = ending(0.4, off_anyway_h=0)
    night.hear("anna", light("lights_on", 0.4 * HOUR))
    assert night.due(2 * HOUR, EVENING) == ""
    night.hear("anna", light("lights_on", 7 * HOUR))
    assert night.due(7 * HOUR, EVENING) == "lights on"
    night.hear("anna", light("lights_off", 7 * HOUR))
    assert night.due(7.5 * HOUR, EVENING) == ""
    other = ending(8, lights_on=False)
    other.hear("anna", light("lights_on", 8 * HOUR))
    assert other.due(8 * HOUR, EVENING) == ""


@pytest.mark.parametrize(
    ("began", "zone", "ends"),
    [
        ("2026-01-01T23:00+01:00", BERLIN, "2026-01-02T12:00+01:00"),
        ("2026-01-02T01:30+01:00", BERLIN, "2026-01-02T12:00+01:00"),
        ("2026-03-28T23:00+01:00", BERLIN, "2026-03-29T12:00+02:00"),  # clocks go forward
        ("2026-01-02T11:00+01:00", BERLIN, "2026-01-03T12:00+01:00"),  # a nap about noon
        ("2026-01-01T23:00-08:00", ZoneInfo("America/Los_Angeles"), "2026-01-02T12:00-08:00"),
    ],
)
def test_noon_of_the_sleeper_ends_what_nothing_else_has(began, zone, ends):
    began, ends = (datetime.fromisoformat(one).timestamp() for one in (began, ends))
    night = ending(0.1, zone, off_anyway_h=0)
    assert night.due(ends - began - 1, ends - 1) == ""
    assert night.due(ends - began, ends) == "it is 12:00"


def test_a_clock_that_is_set_right_in_the_middle_of_a_night_ends_none():
    night = ending(2.0, ZoneInfo("UTC"), at="12:00")
    assert night.due(2 * HOUR, 2.0) == ""  # 1970
    assert night.due(2 * HOUR + 10, EVENING + 2 * HOUR) == ""
    assert night.due(15 * HOUR, EVENING + 15 * HOUR) != ""


def test_a_former_process_counts():
    night, other = ending(3.0), Ending(NightSettings(), BERLIN)
    epochs = [samples.epoch(0).model_copy(update={"epoch": number}) for number in range(360)]
    other.restore(epochs, [light("lights_on", 3 * HOUR)])
    assert other.worn_s == night.worn_s
    assert other.due(3 * HOUR, EVENING) == "lights on"


def test_wrong_rules_are_refused():
    stream = [{"source": {"kind": "lsl"}}]
    validate({"stream": stream, "night": {"at": "never", "zone": "Europe/Berlin", "off_min": 0}}, "x")
    for wrong in ({"at": "noon"}, {"zone": "Atlantis"}, {"off_min": -1}, {"begin_min": 0}, {"of_min": 3}):
        with pytest.raises(SettingsError):
            validate({"stream": stream, "night": wrong}, "x")
