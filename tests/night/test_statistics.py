"""The night's figures against nights worked out by hand, and against YASA's."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.night.statistics import DEFINITIONS, RunningStatistics, Statistics, compute_statistics

LABELS = ("W", "N1", "N2", "N3", "R", "unscored", "no_signal")
YASA = {"W": "WAKE", "R": "REM", "unscored": "UNS", "no_signal": "UNS"}
# Runs rather than single epochs, so that long sleep, cycles and awakenings come about.
RUNS = st.lists(st.tuples(st.sampled_from(LABELS), st.integers(1, 40)), max_size=30)


def night(text: str) -> list[str]:
    """'4W 2N1' -> four epochs of W, two of N1."""
    names = {"U": "unscored", "X": "no_signal"}
    runs = re.findall(r"(\d+)(\S+)", text)
    return [names.get(label, label) for count, label in runs for _ in range(int(count))]


def epochs(runs: list[tuple[str, int]]) -> list[str]:
    return [label for label, count in runs for _ in range(count)]


def test_a_night_by_hand():
    # 10 min awake, 2 N1, 30 N2, 8 N3, 10 R, awake 5, unscored 2, 15 N2, 5 R, awake 3
    found = compute_statistics(night("20W 4N1 60N2 16N3 20R 10W 4U 30N2 10R 6W"))
    assert found == Statistics(
        tib_min=90,
        spt_min=77,
        tst_min=70,
        se_percent=pytest.approx(100 * 70 / 90),
        sol_min=10,
        sol_persistent_min=10,
        waso_min=8,
        latency_n1_min=10,
        latency_n2_min=12,
        latency_n3_min=42,
        latency_r_min=50,
        rem_latency_min=40,
        w_min=18,
        n1_min=2,
        n2_min=45,
        n3_min=8,
        r_min=15,
        n1_percent=pytest.approx(100 * 2 / 70),
        n2_percent=pytest.approx(100 * 45 / 70),
        n3_percent=pytest.approx(100 * 8 / 70),
        r_percent=pytest.approx(100 * 15 / 70),
        awakenings=1,
        shifts_per_hour=pytest.approx(5 / (70 / 60)),  # N1 N2 N3 R W, then a break, then N2 R
        cycles=2,
        unscored_min=2,
        no_signal_min=0,
    )


@pytest.mark.parametrize(
    ("hypnogram", "expected"),
    [
        ("", {"tib_min": 0, "se_percent": None, "sol_min": None, "tst_min": 0}),
        ("60W", {"tst_min": 0, "se_percent": 0, "sol_min": None, "waso_min": None, "spt_min": None,
                 "awakenings": None, "shifts_per_hour": None, "n2_percent": None, "w_min": 30}),
        ("60N2", {"sol_min": 0, "waso_min": 0, "se_percent": 100, "rem_latency_min": None, "awakenings": 0,
                  "shifts_per_hour": 0, "r_percent": 0, "cycles": 0, "sol_persistent_min": 0}),
        ("60U", {"unscored_min": 30, "no_signal_min": 0, "se_percent": 0, "sol_min": None}),
        ("4U 2N1 2X", {"unscored_min": 3, "no_signal_min": 1, "sol_min": 2, "spt_min": 1, "waso_min": 0}),
        ("10R", {"rem_latency_min": 0, "sol_min": 0, "latency_n2_min": None, "cycles": 0}),
        # persistent sleep: 19 epochs are not enough, and one unscored epoch breaks it
        ("19N2 1W 19N2 1U 20N2", {"sol_persistent_min": 20}),
        ("19N2", {"sol_persistent_min": None}),
        ("5N1 10N2 5R", {"sol_persistent_min": 0}),
        # awakenings: a break in the signal does not make two of one; the last one is none
        ("4N2 2W 1U 2W 4N2 5W", {"awakenings": 1, "waso_min": 4.5, "spt_min": 6.5}),
        ("4N2 2U 4N2", {"awakenings": 0, "shifts_per_hour": 0}),
        # shifts: the one to the last wake is beyond the sleep period, the one from W at onset before it
        ("2W 2N1 2N2 2W", {"shifts_per_hour": 30}),
        ("2W 2N1 2W 2N1", {"shifts_per_hour": 60}),
        # cycles: 15 min of NREM, wake does not count, R in between starts anew
        ("29N2 2R", {"cycles": 0}),
        ("30N2 2R", {"cycles": 1}),
        ("15N2 20W 15N3 2R 20N2 2R 29N2 2R 30N1 1R", {"cycles": 2}),
    ],
)  # fmt: skip
def test_what_is_undefined_is_none_and_the_edges_are_as_defined(hypnogram, expected):
    found = dataclasses.asdict(compute_statistics(night(hypnogram)))
    assert {name: found[name] for name in expected} == expected


def test_only_the_time_in_bed_counts():
    labels = night("10N2 10W 30N2 10W 10N2")
    assert compute_statistics(labels, lights_off=10, lights_on=60) == compute_statistics(
        night("10W 30N2 10W")
    )
    assert compute_statistics(labels, lights_off=70).tib_min == 0
    for off, on in ((-1, 3), (5, 4), (0, 71)):
        with pytest.raises(ValueError, match="lights off"):
            compute_statistics(labels, off, on)


@given(runs=RUNS, off=st.integers(0, 100), on=st.integers(0, 100))
def test_the_running_form_equals_the_finished_one(runs, off, on):
    labels = epochs(runs)
    off, on = sorted((min(off, len(labels)), min(on, len(labels))))
    running = RunningStatistics()
    for number, label in enumerate(labels):
        if number == off:
            running.lights_off()
        if number == on:
            running.lights_on()
        running.push(label)
        if number < off:
            assert running.statistics() == compute_statistics(labels[: number + 1])
        elif number < on:
            assert running.statistics() == compute_statistics(labels[: number + 1], off)
    if on < len(labels):
        assert running.statistics() == compute_statistics(labels, off, on)


@given(runs=RUNS)
def test_what_must_add_up_adds_up(runs):
    found = compute_statistics(epochs(runs))
    stages = found.n1_min + found.n2_min + found.n3_min + found.r_min
    assert found.tst_min == stages
    assert found.tib_min == pytest.approx(stages + found.w_min + found.unscored_min)
    assert found.no_signal_min <= found.unscored_min
    if found.spt_min is not None:
        assert found.sol_min + found.spt_min <= found.tib_min
        assert found.tst_min <= found.spt_min
        assert found.n1_percent + found.n2_percent + found.n3_percent + found.r_percent == pytest.approx(100)


def test_every_figure_has_a_definition_and_goes_out_as_json():
    names = [field.name for field in dataclasses.fields(Statistics)]
    assert list(DEFINITIONS) == names
    assert list(compute_statistics(night("20W 25N2")).to_json()) == names
    for name, (unit, text) in DEFINITIONS.items():
        assert text
        assert unit == {"min": "min", "percent": "%", "hour": "/h"}.get(name.rsplit("_", 1)[-1], "")


@given(runs=RUNS.filter(bool))
def test_the_figures_are_yasas_but_for_the_definitions_that_differ(runs):
    yasa = pytest.importorskip("yasa", reason="the extra 'peers' is not installed")
    labels = epochs(runs)
    ours = compute_statistics(labels)
    theirs = yasa.Hypnogram([YASA.get(label, label) for label in labels], freq="30s").sleep_statistics()

    def same(value, expected):
        assert (None if value is None else round(value, 4)) == (None if expected != expected else expected)

    same(ours.tib_min, theirs["TIB"])
    same(ours.tst_min, theirs["TST"])
    same(ours.se_percent, theirs["SE"])
    same(ours.sol_min, theirs["SOL"])
    same(ours.latency_r_min, theirs["Lat_REM"])
    for mine, yasas in (("n1", "N1"), ("n2", "N2"), ("n3", "N3"), ("r", "REM")):
        same(getattr(ours, f"{mine}_min"), theirs[yasas])
        same(getattr(ours, f"{mine}_percent"), theirs[f"%{yasas}"])
    same(ours.w_min, theirs["WAKE"])
    same(ours.unscored_min, theirs.get("UNS", 0.0))
    # YASA's sleep period is 0 without sleep; ours does not exist then.
    same(ours.spt_min, theirs["SPT"] if ours.tst_min else float("nan"))
    # YASA's REM latency counts from the begin of the recording; the AASM's from sleep onset.
    same(ours.rem_latency_min, round(theirs["Lat_REM"] - theirs["SOL"], 4))
    # YASA's WASO ends with the last epoch of sleep; the AASM's with lights on.
    if ours.waso_min is not None:
        after = max(number for number, label in enumerate(labels) if label in ("N1", "N2", "N3", "R"))
        same(ours.waso_min, theirs["WASO"] + labels[after:].count("W") / 2)
    # YASA's persistent sleep is 5 min and comes no later than our 10.
    if ours.sol_persistent_min is not None:
        assert theirs["SOL_5min"] <= ours.sol_persistent_min
    # YASA counts every step from sleep straight into wake, per hour of sleep; we count those that sleep
    # follows, also across an unscored stretch. With all epochs scored the last awakening is the difference.
    if ours.awakenings is not None and not ours.unscored_min:
        awake_at_the_end = labels[-1] == "W"
        assert theirs["SFI"] == pytest.approx(
            (ours.awakenings + awake_at_the_end) / (ours.tst_min / 60), abs=1e-3
        )
