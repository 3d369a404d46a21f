"""A scoring that cannot belong to the recording is doubted aloud."""

import datetime
import json

import edfio
import numpy as np
import pytest

from streamer.messages import STAGES
from streamer.night.hypnogram import Scoring
from streamer.night.scoring import read_scoring
from streamer.night.scoring.comparison import compare, format_comparison
from tests.night import STARTED


def night(seed, epochs=900):
    """Stages that last, as those of a night do."""
    rng = np.random.default_rng(seed)
    out = []
    while len(out) < epochs:
        out += [STAGES[rng.choice(5, p=[0.1, 0.05, 0.5, 0.15, 0.2])]] * int(rng.integers(1, 40))
    return out[:epochs]


def disturbed(labels, share=0.35, seed=9):
    """As another scorer sees it."""
    rng = np.random.default_rng(seed)
    return [STAGES[rng.integers(5)] if rng.random() < share else label for label in labels]


def scoring(labels, begin=0.0, **more):
    return Scoring(tuple((begin + 30.0 * n, 30.0, label) for n, label in enumerate(labels)), **more)


@pytest.mark.parametrize("epochs", [60, 900])
@pytest.mark.parametrize("seed", range(5))
def test_two_scorers_of_one_night_are_not_doubted(epochs, seed):
    truth = night(seed, epochs)
    assert compare(scoring(truth), disturbed(truth, seed=seed)).doubts == ()


@pytest.mark.parametrize("seed", range(5))
def test_another_night_is_doubted(seed):
    found = compare(scoring(night(seed)), night(seed + 100))
    assert found.doubts, found.found.kappa


def test_no_better_than_chance_says_so():
    (doubt,) = compare(scoring(["N2", "W"] * 200), ["N2", "N2", "W", "W"] * 100).doubts
    assert "no better than by chance (kappa 0.00 over 400 epochs)" in doubt


def test_worse_than_chance_says_so():
    assert "by chance (kappa -1.00" in compare(scoring(["N2", "W"] * 20), ["W", "N2"] * 20).doubts[0]


@pytest.mark.parametrize("shift", [-60, 40])
def test_another_begin_is_named(shift):
    truth = night(1)
    found = compare(scoring(np.roll(truth, -shift).tolist()), disturbed(truth, 0.2))
    side = f"{abs(shift) / 2:g} min {'later' if shift > 0 else 'earlier'}"
    assert any(side in doubt for doubt in found.doubts)


def test_another_length_is_doubted():
    truth = night(2)
    assert compare(scoring(truth, placed=False), truth[:850]).doubts == (
        "it has 900 epochs, but the recording 850",
    )
    assert compare(scoring(truth[:899], placed=False), truth).doubts == ()
    assert "reaches from epoch 0 to 900" in compare(scoring(truth), truth[:850]).doubts[0]
    assert "reaches from epoch -50" in compare(scoring(truth, -1500), truth[50:]).doubts[0]
    assert "covers 100 of" in compare(scoring(truth[:100]), truth).doubts[0]


def test_nothing_in_common_is_doubted_and_one_stage_is_not():
    assert "no epoch" in compare(scoring(["W"]), ["unscored"]).doubts[0]
    assert compare(scoring(["W", "W"]), ["W", "W"]).doubts == ()


def test_contradictions_are_counted():
    found = compare(Scoring(((0, 30, "W"), (0, 30, "N2"), (30, 30, "N2"))), ["W", "N2"])
    assert found.doubts == ("1 of its stages overlap an earlier, different one, which counts",)


@pytest.mark.parametrize(
    ("hours", "doubt"),
    [
        (0, ""),
        (0.005, ""),
        (1, "60.0 min after"),
        (-2, "120.0 min before"),
        (30, "30.0 h after"),
        (-30, "30.0 h before"),
    ],
)
def test_another_begin_by_its_own_clock_is_doubted(tmp_path, hours, doubt):
    begin = datetime.datetime.fromtimestamp(STARTED + 3600 * hours, datetime.UTC)
    edfio.Edf(
        [],
        annotations=[edfio.EdfAnnotation(0, 600, "Sleep stage N2")],
        starttime=begin.time(),
        recording=edfio.Recording(startdate=begin.date()),
    ).write(tmp_path / "h.edf")
    found = read_scoring(tmp_path / "h.edf", STARTED)
    assert len(found.doubts) == bool(doubt)
    assert doubt in "".join(found.doubts)
    assert found.stages[0][0] == (0 if abs(hours) > 12 else 3600 * hours)  # another day is another clock


def test_all_of_it_is_in_the_json_and_said():
    labels = ["W", "N2"] * 10
    found = compare(scoring(labels, unknown={"LIGHT": 3, "Deep": 1}, doubts=("so so",)), labels)
    data = json.loads(format_comparison(found, labels, labels))
    assert data["not_understood"] == {"LIGHT": 3, "Deep": 1}
    assert data["doubts"] == ["so so"]
    assert (data["n"], data["kappa"], data["smoothed"]["kappa"]) == (20, 1.0, 1.0)
    assert found.said() == [
        "not understood as a sleep stage, and left out: 'LIGHT' (3), 'Deep' (1)",
        "doubtful: so so",
    ]
