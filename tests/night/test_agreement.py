"""Agreement against numbers worked out by hand, and against scikit-learn."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import STAGES
from streamer.night.agreement import compare_stages

LABELS = st.sampled_from((*STAGES, "unscored", "no_signal"))


def test_by_hand():
    truth = ["W", "W", "W", "N2", "N2", "R", "unscored", "R", "unscored"]
    scored = ["W", "W", "N2", "N2", "N2", "N2", "W", "unscored", "no_signal"]
    found = compare_stages(truth, scored, [0.9, 0.8, 0.7, 0.6, 0.5, None, 0.1, 0.1, None])
    assert (found.n, found.unscored) == (6, 1)
    assert found.accuracy == pytest.approx(4 / 6)
    # by chance: W 3*2, N2 2*4, R 1*0 of 36
    assert found.kappa == pytest.approx((4 / 6 - 14 / 36) / (1 - 14 / 36))
    assert found.f1 == {"W": pytest.approx(0.8), "N1": None, "N2": pytest.approx(2 / 3), "N3": None, "R": 0.0}
    assert found.macro_f1 == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert found.confusion == (
        (2, 0, 1, 0, 0),
        (0, 0, 0, 0, 0),
        (0, 0, 2, 0, 0),
        (0, 0, 0, 0, 0),
        (0, 0, 1, 0, 0),
    )
    assert found.confidence == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("truth", "scored", "accuracy", "kappa"),
    [
        ([], [], None, None),
        (["unscored"], ["W"], None, None),
        (["W", "W"], ["W", "W"], 1.0, None),  # one stage: agreement by chance is certain
        (["W", "W"], ["N2", "N2"], 0.0, 0.0),
        (["W", "N2"], ["W", "N2"], 1.0, 1.0),
        (["W", "N2"], ["N2", "W"], 0.0, -1.0),
    ],
)
def test_what_is_undefined_is_none(truth, scored, accuracy, kappa):
    found = compare_stages(truth, scored)
    assert (found.accuracy, found.kappa) == (accuracy, kappa)
    assert found.confidence is None
    assert "NaN" not in json.dumps(found.to_json())


def test_lengths_must_match():
    with pytest.raises(ValueError, match="2 true and 1 scored"):
        compare_stages(["W", "W"], ["W"])
    with pytest.raises(ValueError, match="must match"):
        compare_stages(["W"], ["W"], [])


def test_the_json_names_what_a_replay_writes():
    found = json.loads(json.dumps(compare_stages(["W", "N2", "N2"], ["W", "N2", "R"]).to_json()))
    assert {"n", "accuracy", "kappa", "macro_f1", "confusion"} <= set(found)
    assert found["accuracy"] == 0.666667
    assert found["f1"]["N1"] is None
    assert found["confusion"][2] == [0, 0, 1, 0, 1]


@given(pairs=st.lists(st.tuples(LABELS, LABELS), max_size=60))
def test_the_figures_are_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    truth, scored = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = compare_stages(truth, scored)
    both = [pair for pair in pairs if pair[0] in STAGES and pair[1] in STAGES]
    assert found.n == len(both)
    if not both:
        return
    y, x = zip(*both, strict=True)
    present = [stage for stage in STAGES if stage in y or stage in x]
    assert found.accuracy == pytest.approx(metrics.accuracy_score(y, x))
    assert found.macro_f1 == pytest.approx(
        metrics.f1_score(y, x, labels=present, average="macro", zero_division=0)
    )
    assert [list(row) for row in found.confusion] == metrics.confusion_matrix(y, x, labels=STAGES).tolist()
    if found.kappa is None:
        assert len(present) == 1
    else:
        assert found.kappa == pytest.approx(metrics.cohen_kappa_score(y, x, labels=present))
