"""Triggers: on made-up probabilities, over a simulated night with known truth, and rule by rule."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamer.messages import EPOCH_S, RATE_HZ, STAGES, Quality, Score
from streamer.reactions.reflexes import Lateness
from streamer.reactions.settings import TriggerSettings
from streamer.reactions.triggers import Course, Trigger, is_sham

EVENING = datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp()


def score(end_s, stage="N3", p=0.9, wake=None, grade="good", warmup=False, fast_uv=()):
    """A score whose stage has probability p; the rest goes to the others alike, unless wake is given."""
    if stage == "unscored":
        probabilities = None
    else:
        rest = dict.fromkeys(STAGES, (1 - p) / 4)
        if wake is not None:
            rest = dict.fromkeys(STAGES, (1 - p - wake) / 3) | {"W": wake}
        probabilities = tuple((rest | {stage: p}).values())
    epoch = end_s // EPOCH_S - 1 if end_s % EPOCH_S == 0 and end_s > 0 else None
    return Score(
        end=end_s * RATE_HZ,
        epoch=epoch,
        stage=stage,
        smoothed=stage,
        probabilities=probabilities,
        warmup=warmup,
        quality=Quality(grade),
        fast_uv=fast_uv,
    )


class Night:
    """A trigger that hears a night."""

    def __init__(self, hop_s=5, night="night", **settings):
        self.hop_s = hop_s
        self.trigger = Trigger(TriggerSettings(name="t", **settings), night)
        self.course = Course()
        self.fired = []
        self.at_s = 0

    def hear(self, one, age_s=0.0, now=None):
        self.course.push(one)
        end_s = one.end / RATE_HZ
        firing = self.trigger.push(one, EVENING + end_s if now is None else now, self.course, age_s)
        if firing is not None:
            self.fired.append(firing)
        return firing

    def sleep(self, seconds, stage="N3", **how):
        """Hear a stretch of one stage, hop by hop; the seconds at which it fired."""
        before = len(self.fired)
        end = self.at_s + seconds
        while self.at_s + self.hop_s <= end:
            self.at_s += self.hop_s
            self.hear(score(self.at_s, stage, **how))
        return [firing.score.end // RATE_HZ for firing in self.fired[before:]]


def n3(**more):
    return {"stages": ("N3",), "refractory_s": 60, **more}


def test_dwell_is_respected_to_the_hop():
    night = Night(**n3(dwell_s=20))
    assert night.sleep(60, "N2") == []
    assert night.sleep(20) == []  # the first N3 ends at 65, so at 80 it has lasted 15 s
    assert night.sleep(5) == [85]
    assert night.fired[0].dwelt_s == 20


@pytest.mark.parametrize(
    "interruption",
    [
        {"stage": "N2"},
        {"stage": "unscored"},
        {"p": 0.45},
        {"grade": "poor"},
        {"p": 0.6, "wake": 0.3},
    ],
    ids=["stage", "unscored", "probability", "quality", "arousal"],
)
def test_every_interruption_begins_the_dwell_anew(interruption):
    night = Night(**n3(dwell_s=20))
    night.sleep(15)
    assert night.sleep(5, **interruption) == []
    after = 20 if interruption.get("wake") is None else 30  # the rise counts as long as it is recent
    assert all(at >= 20 + after for at in night.sleep(60))
    assert night.fired


def test_a_pause_in_the_scores_interrupts_too():
    night = Night(**n3(dwell_s=20))
    night.sleep(20)
    night.at_s += 35  # more than the 30 s that a score is about: something was not seen
    assert night.sleep(20) == []
    assert night.sleep(5) == [80]


@pytest.mark.parametrize("hop_s", [2, 5, 10, 15, 30])
def test_hops_that_are_thinned_for_want_of_time_break_no_dwell(hop_s):
    """A night of hop 1 s in which the machine is busy: 1,710 firings had become none."""
    whole, thinned = Night(1, **n3(dwell_s=60)), Night(1, **n3(dwell_s=60))
    expected = whole.sleep(1800)
    thinned.sleep(60)
    thinned.hop_s = hop_s
    found = thinned.sleep(1740)
    assert len(found) >= len(expected) * 60 / (60 + hop_s) - 2
    assert all(later - earlier >= 60 for earlier, later in pairwise(found))
    for end in found:
        assert end >= 60


def test_a_stage_that_is_seen_between_thinned_hops_breaks_the_dwell():
    night = Night(10, **n3(dwell_s=60))
    night.sleep(50)
    night.sleep(10, "N2")
    assert night.sleep(60) == []
    assert night.sleep(10) == [130]


def test_refractory_hour_and_night_are_limits():
    night = Night(**n3(refractory_s=100, max_per_hour=3, max_per_night=4))
    assert night.sleep(3600) == [5, 105, 205]
    assert night.sleep(3600) == [3605]
    assert night.sleep(7200) == []
    assert night.trigger.held_by == "enough in this night"


def test_a_recalled_night_goes_on_where_it_was():
    settings = n3(refractory_s=100, max_per_night=3)
    whole = Night(**settings)
    whole.sleep(600)
    first = Night(**settings)
    first.sleep(150)
    second = Night(**settings)
    second.at_s = 150
    second.trigger.restore([firing.score.end for firing in first.fired])
    second.sleep(450)
    ends = [firing.score.end for firing in first.fired + second.fired]
    assert ends == [firing.score.end for firing in whole.fired]
    assert [firing.number for firing in first.fired + second.fired] == [0, 1, 2]


@pytest.mark.parametrize("grade", ["good", "fair", "poor", "off"])
def test_quality_at_least(grade):
    night = Night(**n3(quality="fair"))
    night.sleep(60, grade=grade)
    assert bool(night.fired) == (grade in ("good", "fair"))


def test_warm_up_and_late_data_do_not_fire():
    night = Night(**n3(max_age_s=2))
    assert night.hear(score(5, warmup=True)) is None
    assert night.hear(score(10), age_s=2.5) is None
    assert "late" in night.trigger.held_by
    assert night.hear(score(15), age_s=1.5)
    assert Night(**n3(warmup=True)).hear(score(5, warmup=True))


def test_disarmed_it_counts_on_but_does_not_fire():
    night = Night(**n3(dwell_s=30, armed=False))
    assert night.sleep(60) == []
    night.trigger.armed = True
    assert night.sleep(5) == [65]


def test_several_stages_count_together():
    night = Night(stages=("N2", "N3"), min_probability=0.8, refractory_s=600)
    one = score(5, "N2", 0.5)
    probabilities = dict(zip(STAGES, one.probabilities, strict=True)) | {
        "N3": 0.35,
        "W": 0.05,
        "N1": 0.05,
        "R": 0.05,
    }
    mixed = Score(one.end, None, "N2", "N2", tuple(probabilities[s] for s in STAGES), False)
    firing = night.hear(mixed)
    assert firing.probability == pytest.approx(0.85)
    assert firing.cause == "N2 for 0 s, p = 0.85, cycle 0"


@pytest.mark.parametrize(
    ("between", "zone", "utc", "fires"),
    [
        (("23:00", "06:30"), "UTC", "2026-01-01T22:59:59", False),
        (("23:00", "06:30"), "UTC", "2026-01-01T23:00:00", True),
        (("23:00", "06:30"), "UTC", "2026-01-02T06:29:59", True),
        (("23:00", "06:30"), "UTC", "2026-01-02T06:30:00", False),
        (("02:00", "05:00"), "UTC", "2026-01-02T05:00:00", False),
        (("02:00", "05:00"), "Europe/Berlin", "2026-01-02T01:00:00", True),
        # spring: 02:00 local becomes 03:00 at 01:00 UTC, so 02:30 never comes; autumn: it comes twice
        (("02:00", "03:00"), "Europe/Berlin", "2026-03-29T00:59:59", False),
        (("02:00", "03:00"), "Europe/Berlin", "2026-03-29T01:00:00", False),
        (("03:00", "04:00"), "Europe/Berlin", "2026-03-29T01:00:00", True),
        (("02:00", "03:00"), "Europe/Berlin", "2026-10-25T00:30:00", True),
        (("02:00", "03:00"), "Europe/Berlin", "2026-10-25T01:30:00", True),
        (("02:00", "03:00"), "Europe/Berlin", "2026-10-25T02:00:00", False),
    ],
)
def test_only_between_two_clock_times(between, zone, utc, fires):
    night = Night(**n3(between=between, zone=zone))
    now = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    assert bool(night.hear(score(5), now=now)) == fires


def test_time_since_sleep_onset():
    night = Night(**n3(since_onset_min=(10, 20)))
    night.sleep(300, "W")
    assert night.course.onset is None
    fired = night.sleep(3600)
    assert min(fired) == 300 + 600
    assert max(fired) < 300 + 1200


def test_the_nth_cycle_as_the_statistics_count_it():
    night = Night(stages=("R",), cycles=(2,), refractory_s=30)
    night.sleep(600, "W")
    assert night.course.cycle == 0
    night.sleep(1200, "N2")
    assert night.course.cycle == 1
    assert night.sleep(300, "R") == []
    night.sleep(120, "N2")
    assert night.course.cycle == 2
    assert night.sleep(300, "R") == []  # the same REM period goes on
    assert night.course.cycle == 1
    night.sleep(1200, "N2")
    assert len(night.sleep(300, "R")) == 10
    night.sleep(1200, "N2")
    assert night.sleep(300, "R") == []
    assert night.course.cycle == 3


def test_lights_off_begins_the_course_anew():
    course = Course()
    course.push(score(30, "N2"))
    assert (course.onset, course.cycle) == (0, 1)
    course.lights_off()
    assert (course.onset, course.cycle) == (None, 0)


def test_fast_activity_within_the_last_seconds_is_an_arousal():
    calm = (1.5,) * 30
    assert Night(**n3()).hear(score(30, fast_uv=calm))
    assert Night(**n3()).hear(score(30, fast_uv=(*calm[:-9], 20.0, *calm[-8:]))) is None
    assert Night(**n3()).hear(score(30, fast_uv=(20.0, *calm[1:])))  # half a minute ago
    assert Night(**n3()).hear(score(30, fast_uv=(*calm[:-1], 3.9)))  # below what means anything
    assert Night(**n3()).hear(score(30, fast_uv=(None,) * 30))
    assert Night(**n3(arousal=None)).hear(score(30, fast_uv=(*calm[:-1], 20.0)))


def test_the_sham_arm_is_a_fair_and_repeatable_draw():
    settings = TriggerSettings(name="t", stages=("N3",), sham=0.5, seed=7)
    draws = [is_sham(settings, "a", k) for k in range(2000)]
    assert draws == [is_sham(settings, "a", k) for k in range(2000)]
    assert 900 < sum(draws) < 1100
    assert draws != [is_sham(settings, "b", k) for k in range(2000)]
    assert draws != [is_sham(settings.model_copy(update={"seed": 8}), "a", k) for k in range(2000)]
    night = Night(**n3(sham=0.5, seed=7, refractory_s=5), night="a")
    night.sleep(500)
    assert [firing.sham for firing in night.fired] == draws[:100]


@pytest.mark.parametrize(
    "wrong",
    [
        {"stages": ()},
        {"stages": ("N4",)},
        {"sham": 1.0},
        {"between": ("07:00", "07:00")},
        {"between": ("07:00+01:00", "08:00")},
        {"zone": "UTC"},
        {"between": ("07:00", "08:00"), "zone": "Europe/Atlantis"},
        {"since_onset_min": (20, 10)},
        {"cycles": (0,)},
        {"name": "a/b"},
        {"action": {"udp": "x"}},
        {"action": {"osc": "x", "port": 9000}},
        {"action": {"udp": "x", "port": 9000, "host": "example.org"}},
        {"action": {"command": ()}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        TriggerSettings(**{"name": "t", "stages": ("N3",), **wrong})


tracks = st.lists(
    st.tuples(
        st.sampled_from([*STAGES, "N3", "N3", "N3", "unscored"]),
        st.floats(0.2, 1.0),
        st.sampled_from(["good", "good", "good", "fair", "poor"]),
        st.integers(1, 12),  # hops that it lasts
    ),
    max_size=60,
)


@given(
    track=tracks,
    dwell_hops=st.integers(0, 8),
    refractory_s=st.integers(0, 90),
    per_hour=st.integers(1, 20),
    p=st.floats(0.2, 0.95),
)
def test_over_any_track_each_firing_obeys_every_rule(track, dwell_hops, refractory_s, per_hour, p):
    night = Night(
        stages=("N3",),
        min_probability=p,
        dwell_s=5 * dwell_hops,
        refractory_s=refractory_s,
        max_per_hour=per_hour,
    )
    heard = []
    for stage, probability, grade, hops in track:
        for _ in range(hops):
            night.at_s += 5
            heard.append(score(night.at_s, stage, probability, grade=grade))
            night.hear(heard[-1])
    ends = [firing.score.end for firing in night.fired]
    assert all(later - earlier >= refractory_s * RATE_HZ for earlier, later in pairwise(ends))
    for position, firing in enumerate(night.fired):
        at = heard.index(firing.score)
        for one in heard[at - dwell_hops : at + 1]:
            assert one.stage == "N3"
            assert one.probabilities[STAGES.index("N3")] >= p
            assert one.quality.grade != "poor"
        assert firing.dwelt_s >= 5 * dwell_hops
        within = [end for end in ends[: position + 1] if end > firing.score.end - 3600 * RATE_HZ]
        assert len(within) <= per_hour


def test_lateness_is_against_the_most_punctual_and_forgives_a_slow_clock():
    late = Lateness()
    assert late.push(100.0, 5.1) == 0
    assert late.push(101.0, 6.4) == pytest.approx(0.3, abs=0.01)
    slow = Lateness()
    assert all(slow.push(EVENING + k, 1.002 * k) < 0.1 for k in range(30_000))
    slow.push(EVENING + 30_000, 1.002 * 30_000 + 60)
    assert slow.push(EVENING + 30_001, 1.002 * 30_001 + 60) > 50
