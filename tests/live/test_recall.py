"""What triggers, alarm, page and stage knew before their process died, they know after it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import RATE_HZ, STAGES, Channel, StreamInfo
from streamer.news import Scored
from streamer.payloads import EventPayload, utc
from streamer.reactions.alarm import Alarm
from streamer.reactions.firings import FiringLog
from streamer.reactions.reflexes import Reflexes
from streamer.reactions.settings import AlarmSettings, TriggerSettings
from tests.fakes import FakeClock
from tests.reactions.test_triggers import score
from tests.sinks.samples import NIGHT
from tests.web.pages import bed

HOP_S = 5
INFO = StreamInfo("test", 100, (Channel("Fpz-Cz", "uV"),), NIGHT)


class Notes:
    """A publisher that only takes notes."""

    session, info = "s", INFO

    def __init__(self, events=()):
        self.events = list(events)

    def urgent(self, name, text, data, arrived=0.0, at_s=None):
        self.event(name, text, data)

    def event(self, name, text, data=None):
        at = len(self.events)
        self.events.append(
            EventPayload(session="s", seq=at, t=utc(NIGHT), event=name, text=text, data=data or {})
        )


class Watch:
    """The triggers of a stream, and what they have said."""

    def __init__(self, folder, settings, events=()):
        self.notes = Notes(events)
        firings = FiringLog(folder / "s.firings", False)
        firings.open()  # and never closed: its process dies
        self.reflexes = Reflexes(
            settings, self.notes, None, FakeClock(NIGHT), False, folder / "s.sqlite", firings
        )
        self.epochs = 0

    def hear(self, scores, commands):
        for one in scores:
            for what in commands.get(one.end, ()):
                self.obey(what)
            self.reflexes.push(one, NIGHT + one.end / RATE_HZ)
            self.epochs += one.epoch is not None

    def obey(self, what):
        if what == "lights_off":
            self.notes.event("lights_off", "", {"epoch": self.epochs})
            self.reflexes.lights_off(self.epochs)
        else:
            self.reflexes.arm("t", what == "arm")
            self.notes.event("mark", "", {"trigger": "t", "armed": what == "arm"})

    def firings(self):
        return [one.data for one in self.notes.events if one.event == "trigger"]


TRIGGERS = st.fixed_dictionaries(
    {"name": st.just("t"), "stages": st.just(("N3", "R")), "sham": st.sampled_from([0.0, 0.5])},
    optional={
        "dwell_s": st.sampled_from([5, 20, 60]),
        "refractory_s": st.sampled_from([15, 90]),
        "max_per_night": st.integers(1, 4),
        "max_per_hour": st.integers(1, 4),
        "since_onset_min": st.just((1, 20)),
        "cycles": st.just((1,)),
        "max_age_s": st.just(20.0),
    },
)
RUNS = st.lists(
    st.tuples(st.sampled_from([*STAGES, "unscored"]), st.integers(1, 30)), min_size=3, max_size=12
)


def night(runs):
    scores, at = [], 0
    for stage, hops in runs:
        for _ in range(hops):
            at += HOP_S
            scores.append(score(at, stage))
    return scores


@given(TRIGGERS, RUNS, st.data())
def test_triggers_go_on_as_if_their_process_had_not_died(tmp_path_factory, wanted, runs, data):
    """Wherever it died, and however much of its last two seconds' record died with it."""
    folder = tmp_path_factory.mktemp("night")
    settings = [TriggerSettings.model_validate(wanted)]
    scores = night(runs)
    cut = data.draw(st.integers(1, len(scores) - 1))
    commands = data.draw(
        st.dictionaries(
            st.sampled_from([one.end for one in scores[:cut]]),
            st.lists(st.sampled_from(["lights_off", "arm", "disarm"]), max_size=2),
            max_size=3,
        )
    )
    whole = Watch(tmp_path_factory.mktemp("whole"), settings)
    whole.hear(scores, commands)
    first = Watch(folder, settings)
    first.hear(scores[:cut], commands)
    kept = first.notes.events
    if kept and kept[-1].event == "trigger" and kept[-1].data["end"] == scores[cut - 1].end / RATE_HZ:
        kept = kept[: len(kept) - data.draw(st.integers(0, 1))]  # said, and died before it was written
    second = Watch(folder, settings, kept)
    second.reflexes.restore(scores[:cut], kept)
    second.hear(scores[cut:], {})
    assert second.firings()[len([one for one in kept if one.event == "trigger"]) :] == [
        one for one in whole.firings() if one["end"] > scores[cut - 1].end / RATE_HZ
    ]


def test_a_firing_whose_event_died_counts_and_is_made_up_for_once(tmp_path):
    settings = [TriggerSettings(name="t", stages=("N3",), refractory_s=20, max_per_night=2)]
    scores = night([("N3", 12)])
    first = Watch(tmp_path, settings)
    first.hear(scores[:5], {})
    assert [one["end"] for one in first.firings()] == [5, 25]
    kept = first.notes.events[:1]
    second = Watch(tmp_path, settings, kept)
    second.reflexes.restore(scores[:5], kept)
    assert "fired as the process died" in second.notes.events[-1].text
    third = Watch(tmp_path, settings, second.notes.events)  # and died again
    third.reflexes.restore(scores[:6], second.notes.events)
    third.hear(scores[6:], {})
    assert [one.event for one in third.notes.events] == ["trigger", "warning"]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.sampled_from([0.0, 0.5]))
def test_refractory_time_and_limits_hold_over_any_number_of_deaths(tmp_path_factory, lives, sham):
    """Killed so many scores after each start, and never was an event on disk: only what fired itself is."""
    folder = tmp_path_factory.mktemp("night")
    settings = [TriggerSettings(name="t", stages=("N3",), refractory_s=40, max_per_night=4, sham=sham)]
    scores, at, fired = night([("N3", 200)]), 0, []
    for life in lives:
        watch = Watch(folder, settings)
        watch.reflexes.restore(scores[:at], [])
        watch.hear(scores[at : at + life], {})
        fired += watch.firings()
        at += life
    ends = [one["end"] for one in fired]
    assert len(ends) <= 4
    assert all(later - earlier >= 40 for earlier, later in pairwise(ends))
    assert [one["number"] for one in fired] == list(range(len(fired)))


def alarm_at(now, **more):
    deadline = time(7, 0)
    settings = AlarmSettings(deadline=deadline, zone="UTC", armed=True, **more)
    alarm = Alarm(settings, None, now, 0.0)
    alarm.begin(now, 0.0)
    return alarm


@given(RUNS, st.data())
def test_an_alarm_goes_on_as_if_its_process_had_not_died(runs, data):
    """Who has just fallen asleep again is not woken by the N1 of it, whatever has died meanwhile."""
    scores = night(runs)
    cut = data.draw(st.integers(0, len(scores)))
    begun = datetime(2026, 1, 1, 6, 30, tzinfo=UTC).timestamp()

    def changes(alarm, heard):
        return [
            (one.end, change.what, change.cause)
            for one in heard
            if (change := alarm.push(one, begun + one.end / RATE_HZ, one.end / RATE_HZ))
        ]

    whole, first, second = (alarm_at(begun, confirm_s=30, settle_min=5) for _ in range(3))
    assert changes(whole, scores[:cut]) == changes(first, scores[:cut])
    second.restore(scores[:cut])
    second.memory = first.memory
    assert changes(second, scores[cut:]) == changes(whole, scores[cut:])


def test_an_alarm_knows_nothing_of_another_session():
    """Whose positions may be far beyond those of the present one."""
    begun = datetime(2026, 1, 1, 6, 30, tzinfo=UTC).timestamp()
    alarm = alarm_at(begun, confirm_s=30, settle_min=5)
    late = replace(score(5, "W"), end=9_000_000)
    alarm.push(late, begun, 0.0)
    alarm.restore([])
    heard = [alarm.push(score(at, "N1"), begun + at, at) for at in range(5, 65, 5)]
    assert [change.what for change in heard if change] == ["ringing"]


@pytest.mark.parametrize("cut", [0, 1, 4, 8])
def test_a_page_shows_the_whole_night_after_a_death(cut):
    stages = ["W", "N1", "N2", "unscored", "N2", "N3", "N3", "N2", "R"]
    events = [("gap", {"seconds": 2.5}), ("mark", {}), ("channel_changed", {"to": "AF8"})]

    def play(page, begin, end):
        for number in range(begin, end):
            page.stage(stages[number])
            if number % 3 == 2:
                name, data = events[number // 3]
                page.event(name, name, **data)

    whole, first = bed(FakeClock()), bed(FakeClock())
    heard, said, real = [], [], first.page.hear

    def hear(name, news):
        heard.extend([news.score] if isinstance(news, Scored) else [])
        said.extend([news] if isinstance(news, EventPayload) else [])
        real(name, news)

    first.page.hear = hear
    play(whole, 0, len(stages))
    play(first, 0, cut)
    second = bed(FakeClock())
    early = second.page.view()  # of a client that looks before the record is read back
    early.update()
    second.labels += first.labels
    second.second, second.events = first.second, first.events
    for one in said:
        second.page.hear("anna", one)
    second.page.restore("anna", heard)
    play(second, cut, len(stages))
    expected = json.loads(whole.page.view().update())["streams"][0]
    assert json.loads(second.page.view().update())["streams"][0] == {**expected, "age_s": 0.0}
    assert json.loads(early.update())["streams"][0] == {**expected, "age_s": 0.0}
    assert json.loads(early.update())["streams"][0]["whole"] is False


def test_hours_are_counted_across_a_death(tmp_path):
    settings = [TriggerSettings(name="t", stages=("N3",), max_per_hour=2, refractory_s=60)]
    scores = night([("N3", 900)])
    first = Watch(tmp_path, settings)
    first.hear(scores[:30], {})
    second = Watch(tmp_path, settings, first.notes.events)
    second.reflexes.restore(scores[:30], first.notes.events)
    second.hear(scores[30:], {})
    ends = [timedelta(seconds=one["end"]) for one in second.firings()]
    assert ends[2] - ends[0] == timedelta(hours=1)
