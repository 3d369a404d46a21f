"""What a client is told: everything once, in order, whatever it missed, and nothing is kept for it."""

import base64
import json

import numpy as np
import pytest

from streamer.messages import Score
from streamer.payloads import AlarmPayload, utc
from streamer.web.page import BINS
from tests.fakes import FakeClock
from tests.sinks import samples
from tests.web.pages import Bed, bed


def told(view, number=0):
    return json.loads(view.update())["streams"][number]


def numbers(text, dtype=np.uint8):
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def test_a_new_client_gets_the_whole_night_and_then_only_what_is_new():
    anna = bed(FakeClock())
    for stage in ("W", "N1", "unscored", "R"):
        anna.stage(stage)
    view = anna.page.view()
    first = told(view)
    assert (first["from"], first["labels"], first["grades"]) == (0, "W1?R", "ggog")
    density = numbers(first["density"]).reshape(4, 5)
    assert density[0].tolist() == [204, 13, 13, 13, 13]
    assert density[2].tolist() == [0] * 5
    spectrum = numbers(first["spectrum"]).reshape(4, BINS)
    assert set(spectrum[0]) == {121}
    assert set(spectrum[2]) == {0}
    assert first["stage"]["stage"] == "R"
    again = told(view)
    assert (again["from"], again["labels"], again["density"]) == (4, "", "")
    assert "eeg" not in again
    anna.stage("N3")
    anna.stage("N3")
    news = told(view)
    assert (news["from"], news["labels"]) == (4, "33")


def test_a_night_that_has_ended_by_itself_is_told_from_a_recording_that_has():
    anna = bed(FakeClock())
    anna.event("session_ended", night=True, reason="lights on")
    assert [told(anna.page.view())[key] for key in ("ended", "between")] == [True, True]
    anna = bed(FakeClock())
    anna.event("session_ended")
    assert [told(anna.page.view())[key] for key in ("ended", "between")] == [True, False]


def test_the_signal_is_the_newest_30_s_with_losses_marked():
    anna = bed(FakeClock())
    view = anna.page.view()
    anna.stage("W", 5)
    anna.stage("unscored", 5)
    eeg = numbers(told(view)["eeg"], "<i2")
    assert eeg.shape == (3000,)
    assert (eeg[:1000] == -32768).all()
    assert eeg[1000:].max() == 200  # 20 µV


def test_provisional_stages_add_no_epoch():
    anna = bed(FakeClock())
    view = anna.page.view()
    for _ in range(7):
        anna.stage("N2", 5)
    found = told(view)
    assert found["labels"] == "2"
    assert found["stage"]["provisional"] is True


def test_a_new_session_begins_anew():
    anna = bed(FakeClock())
    view = anna.page.view()
    anna.stage("W")
    told(view)
    anna.begin()
    anna.stage("N2")
    found = told(view)
    assert (found["session"], found["from"], found["labels"]) == ("s2", 0, "2")


def test_epochs_of_a_former_process_keep_their_place():
    anna = bed(FakeClock())
    anna.labels += ["W", "N2"]  # what the publisher remembers from before the restart
    anna.second = 60
    anna.stage("N3")
    found = told(anna.page.view())
    assert (found["labels"], found["grades"]) == ("W23", "??g")
    assert numbers(found["density"]).reshape(3, 5)[2].tolist() == [13, 13, 13, 204, 13]


def test_a_former_process_s_night_is_recalled():
    anna = bed(FakeClock())
    anna.labels += ["W", "N2"]
    scores = [Score(3000 * (k + 1), k, s, s, None, False) for k, s in enumerate(anna.labels)]
    view = anna.page.view()
    told(view)
    anna.page.restore("anna", scores)
    assert view.changed.is_set()
    anna.second = 60
    anna.stage("N3")
    assert told(anna.page.view())["grades"] == "ggg"


def test_events_come_once_and_losses_are_added_up():
    anna = bed(FakeClock())
    view = anna.page.view()
    anna.event("session_started", "band")
    anna.event("warning", "little room")
    anna.event("reconnected", "samples arrive")  # for the first time, which is no news
    anna.event("gap", "lost", seconds=1.5)
    anna.event("gap", "lost", seconds=2.0)
    anna.event("mark", "hello")
    found = told(view)
    assert [event["event"] for event in found["events"]] == ["session_started", "warning", "mark"]
    assert (found["gaps"], found["lost_s"]) == (2, 3.5)
    assert told(view)["events"] == []
    anna.event("no_signal", "gone")
    anna.event("reconnected", "samples arrive")
    assert [event["event"] for event in told(view)["events"]] == ["no_signal", "reconnected"]


def test_another_electrode_takes_over():
    anna = bed(FakeClock())
    anna.event("channel_changed", "off", to="AF8")
    assert told(anna.page.view())["channel"] == "AF8"


def test_a_client_that_comes_late_gets_no_more_events_than_are_kept():
    anna = bed(FakeClock())
    for number in range(300):
        anna.event("mark", str(number))
    found = told(anna.page.view())["events"]
    assert (len(found), found[-1]["text"]) == (100, "299")


def test_age_counts_from_the_last_stage_with_a_signal():
    clock = FakeClock()
    anna = bed(clock)
    view = anna.page.view()
    anna.stage("N2")
    clock.now += 20
    assert told(view)["age_s"] == 20
    anna.silence()
    found = told(view)
    assert (found["age_s"], found["stage"]["stage"]) == (20, "no_signal")
    anna.event("session_ended")
    assert told(view)["ended"] is True


def test_several_sleepers_are_told_apart():
    anna = bed(FakeClock())
    ben = Bed(anna.page, "ben")
    anna.stage("W")
    ben.stage("N2")
    view = anna.page.view()
    found = json.loads(view.update())["streams"]
    assert [(one["name"], one["labels"]) for one in found] == [("anna", "W"), ("ben", "2")]


def test_every_view_is_woken_and_left_views_are_not_kept():
    anna = bed(FakeClock())
    one, other = anna.page.view(), anna.page.view()
    told(one)
    anna.page.leave(other)
    anna.stage("W")
    assert one.changed.is_set()
    assert not other.changed.is_set()
    told(one)
    assert not one.changed.is_set()


def test_buttons_are_commands():
    anna = bed(FakeClock())
    anna.page.command('{"stream": "anna", "command": "lights_off"}')
    anna.page.command('{"stream": "anna", "command": "mark", "text": "noise"}')
    assert [(one.command, one.text) for one in anna.commands] == [("lights_off", ""), ("mark", "noise")]


def test_the_alarm_can_be_seen_and_set_before_the_band_is_on():
    anna, asked = bed(FakeClock()), []
    anna.page.await_session("ben", lambda command: asked.append(command) or "", True)
    view = anna.page.view()
    said = AlarmPayload(
        session="",
        seq=0,
        t=utc(samples.NIGHT),
        state="armed",
        deadline=utc(samples.NIGHT),
        snoozes=0,
        time="07:00",
    )
    anna.page.hear("ben", said)
    _, ben = json.loads(view.update())["streams"]
    assert (ben["session"], ben["labels"], ben["ended"], ben["between"]) == ("", "", True, True)
    assert (ben["alarm"]["state"], ben["alarm"]["time"]) == ("armed", "07:00")
    anna.page.command('{"stream": "ben", "command": "set_alarm", "text": "06:45"}')
    assert [(one.command, one.text) for one in asked] == [("set_alarm", "06:45")]


@pytest.mark.parametrize("name", ["stop", "nonsense", "test_alarm", 7])
def test_what_is_no_button_is_refused_aloud(name):
    anna = bed(FakeClock())
    anna.page.command(json.dumps({"stream": "anna", "command": name}))
    assert anna.commands == []
    assert anna.refused[0].startswith("not a command: command")


@pytest.mark.parametrize(
    "body", ["", "[]", "7", "{}", '{"stream": "carl"}', '{"stream": ["a"]}', "\x00", "[" * 5000]
)
def test_what_is_addressed_to_nobody_is_ignored(body):
    anna = bed(FakeClock())
    anna.page.command(body)
    assert (anna.commands, anna.refused) == ([], [])


def test_a_flood_of_clicks_is_stopped():
    anna = bed(FakeClock())
    for _ in range(100):
        anna.page.command('{"stream": "anna", "command": "mark"}')
    assert len(anna.commands) == 10
    assert len(anna.refused) == 1


def test_there_is_no_alarm_unless_the_stream_has_one():
    anna = bed(FakeClock())
    ben = Bed(anna.page, "ben", alarm=True)
    view = anna.page.view()
    assert told(view, 0)["alarm"] is None
    assert told(view, 1)["alarm"]["state"] == "disarmed"
    ben.event("alarm", "armed", state="armed", deadline=1_750_020_000.0)
    assert told(view, 1)["alarm"] == {"state": "armed", "deadline": 1_750_020_000.0}
    anna.page.hear("ben", samples.alarm(1))
    assert told(view, 1)["alarm"] == {
        "state": "armed",
        "deadline": samples.NIGHT + 28_800,
        "time": "07:00",
        "window_min": 30.0,
    }
