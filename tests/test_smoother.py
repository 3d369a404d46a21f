"""The smoother is causal, decides once per epoch whatever the hop, and calms what flickers at little cost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import STAGES
from streamer.pipeline import FORGET_S, MARGIN, Smoother

# Minutes in each stage, and where it goes from there: about what a night does.
TRANSITIONS = np.array(
    [
        [0.94, 0.05, 0.01, 0.00, 0.00],
        [0.09, 0.70, 0.18, 0.00, 0.03],
        [0.02, 0.03, 0.90, 0.04, 0.01],
        [0.01, 0.01, 0.13, 0.85, 0.00],
        [0.02, 0.03, 0.02, 0.00, 0.93],
    ]
)
PROBABILITIES = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(
    lambda weights: tuple(weight / sum(weights) for weight in weights)
)
PUSHES = st.lists(
    st.tuples(st.none() | PROBABILITIES, st.sampled_from([1, 7, 15, 30, 45, 300, 30_000])), max_size=40
)
DEEP = (0.02, 0.02, 0.26, 0.68, 0.02)
UNSURE = (0.02, 0.02, 0.50, 0.44, 0.02)  # N2 rather than N3, by less than the margin


def noisy_night(seed: int, epochs: int = 960) -> tuple[list[int], list[np.ndarray]]:
    """Stages drawn from the transitions, and what a network with some context would say of each epoch."""
    rng = np.random.default_rng(seed)
    truth, said = [0], []
    for _ in range(epochs):
        truth.append(int(rng.choice(5, p=TRANSITIONS[truth[-1]])))
        logits = rng.normal(0, 0.8, 5)
        logits[truth[-1]] += 1.8
        said.append(np.exp(logits) / np.exp(logits).sum())
    return truth[1:], said


def changes(labels: list[str]) -> int:
    return sum(one != other for one, other in itertools.pairwise(labels))


@given(pushes=PUSHES, at=st.integers(0, 40))
def test_it_is_causal(pushes, at):
    whole, cut = Smoother(), Smoother()
    labels = [whole.push(*push) for push in pushes]
    assert [cut.push(*push) for push in pushes[:at]] == labels[:at]


@given(pushes=PUSHES)
def test_no_stage_is_held_against_the_margin(pushes):
    one = Smoother()
    for probabilities, seconds in pushes:
        label = one.push(probabilities, seconds)
        if probabilities is None:
            assert label == "unscored"
        else:
            assert max(probabilities) - probabilities[STAGES.index(label)] <= MARGIN


@given(said=st.lists(st.none() | PROBABILITIES, min_size=1, max_size=20), hop=st.sampled_from([1, 5, 7, 15]))
def test_epochs_do_not_depend_on_the_hop(said, hop):
    """Whatever is said between two epochs, it decides nothing beyond its moment."""
    coarse, fine = Smoother(), Smoother()
    rng = np.random.default_rng(0)
    for probabilities in said:
        expected = coarse.push(probabilities, 30)
        left = 30
        while left > hop:
            fine.push(tuple(rng.dirichlet(np.ones(5))), hop)
            left -= hop
        assert fine.push(probabilities, left) == expected


def test_a_thousand_overlapping_windows_do_not_become_certain():
    """Half a minute of ambiguity, told every second, is still half a minute of ambiguity."""
    one = Smoother()
    one.push(DEEP, 30)
    assert {one.push(UNSURE, 1) for _ in range(29)} == {"N3"}


@given(said=st.lists(PROBABILITIES, min_size=1, max_size=20))
def test_without_a_margin_every_window_is_followed(said):
    one = Smoother(margin=0)
    for probabilities in said:
        assert probabilities[STAGES.index(one.push(probabilities, 30))] == max(probabilities)


@pytest.mark.parametrize(("silent_s", "expected"), [(30, "N3"), (FORGET_S - 60, "N3"), (FORGET_S, "N2")])
def test_silence_forgets(silent_s, expected):
    one = Smoother()
    one.push(DEEP, 30)
    assert one.push(None, silent_s) == "unscored"
    assert one.push(UNSURE, 30) == expected


def test_a_gap_is_as_long_as_its_silence():
    one = Smoother()
    one.push(DEEP, 30)
    assert one.push(UNSURE, FORGET_S + 30) == "N2"


@pytest.mark.parametrize("seed", range(5))
def test_it_flickers_less_and_errs_no_more(seed):
    truth, said = noisy_night(seed)
    one = Smoother()
    smoothed = [one.push(tuple(probabilities), 30) for probabilities in said]
    raw = [STAGES[int(probabilities.argmax())] for probabilities in said]
    right = [STAGES[stage] for stage in truth]
    errors = [sum(a != b for a, b in zip(labels, right, strict=True)) for labels in (smoothed, raw)]
    assert changes(smoothed) < 0.7 * changes(raw)
    assert errors[0] <= errors[1]


def test_a_certain_network_is_followed_at_once():
    one = Smoother()
    for _ in range(20):
        one.push(DEEP, 30)
    assert one.push((0.997, 0.001, 0.001, 0.0, 0.001), 30) == "W"


def test_reset_forgets_everything():
    one = Smoother()
    one.push(DEEP, 30)
    one.reset()
    assert one.push(UNSURE, 30) == "N2"


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="not a probability"):
        Smoother(1.5)
    with pytest.raises(ValueError, match="time does not go back"):
        Smoother().push(DEEP, -1)
