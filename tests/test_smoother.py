"""The smoother is causal, stays a distribution, counts a window once, and calms what flickers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.messages import STAGES
from streamer.smoother import Smoother

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
PRIORS = np.array([0.30, 0.08, 0.37, 0.10, 0.15])
UNIFORM = np.full(5, 0.2)

PROBABILITIES = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(
    lambda weights: tuple(weight / sum(weights) for weight in weights)
)
PUSHES = st.lists(
    st.tuples(st.none() | PROBABILITIES, st.sampled_from([1, 7, 15, 30, 45, 300, 30_000])), max_size=40
)


def smoother() -> Smoother:
    return Smoother(TRANSITIONS, PRIORS)


def stationary(transitions: np.ndarray) -> np.ndarray:
    return np.linalg.matrix_power(transitions, 10_000)[0]


def noisy_night(seed: int, epochs: int = 960) -> tuple[list[int], list[np.ndarray]]:
    """Stages drawn from the transitions, and what an unsure network would say of each epoch by itself."""
    rng = np.random.default_rng(seed)
    truth, said = [0], []
    for _ in range(epochs):
        truth.append(int(rng.choice(5, p=TRANSITIONS[truth[-1]])))
        logits = rng.normal(0, 1.2, 5)
        logits[truth[-1]] += 1.5
        said.append(np.exp(logits) / np.exp(logits).sum())
    return truth[1:], said


def changes(labels: list[str]) -> int:
    return sum(one != other for one, other in itertools.pairwise(labels))


@given(pushes=PUSHES)
def test_the_belief_stays_a_distribution(pushes):
    one = smoother()
    for probabilities, seconds in pushes:
        label = one.push(probabilities, seconds)
        assert (one.posterior >= 0).all()
        assert one.posterior.sum() == pytest.approx(1)
        assert label == ("unscored" if probabilities is None else STAGES[int(one.posterior.argmax())])


@given(pushes=PUSHES, at=st.integers(0, 40))
def test_it_is_causal(pushes, at):
    whole, cut = smoother(), smoother()
    labels = [whole.push(*push) for push in pushes]
    assert [cut.push(*push) for push in pushes[:at]] == labels[:at]


@given(said=st.lists(st.none() | PROBABILITIES, min_size=1, max_size=20), hop=st.sampled_from([1, 5, 7, 15]))
def test_epochs_do_not_depend_on_the_hop(said, hop):
    """Whatever is said between two epochs, it is not evidence a second time."""
    coarse, fine = smoother(), smoother()
    rng = np.random.default_rng(0)
    for probabilities in said:
        expected = coarse.push(probabilities, 30)
        left = 30
        while left > hop:
            fine.push(rng.dirichlet(np.ones(5)), hop)
            left -= hop
        assert fine.push(probabilities, left) == expected
        assert fine.posterior == pytest.approx(coarse.posterior, abs=1e-12)


def test_a_thousand_overlapping_windows_do_not_become_certain():
    """Half a minute of ambiguity, told every second, is still half a minute of ambiguity."""
    one = smoother()
    for _ in range(40):
        one.push((0.02, 0.02, 0.92, 0.02, 0.02), 30)
    for second in range(1, 30):
        one.push((0.02, 0.02, 0.42, 0.02, 0.52), 1)
        assert one.posterior[2] > one.posterior[4], second


@given(said=st.lists(PROBABILITIES, min_size=1, max_size=20))
def test_without_knowledge_of_sleep_the_network_is_believed(said):
    one = Smoother(np.full((5, 5), 0.2), UNIFORM)
    for probabilities in said:
        one.push(probabilities, 30)
        assert one.posterior == pytest.approx(probabilities, abs=1e-9)


@given(probabilities=PROBABILITIES)
def test_a_stage_that_is_rare_in_training_needs_less(probabilities):
    plain, corrected = (Smoother(np.full((5, 5), 0.2), PRIORS, exponent) for exponent in (0, 1))
    plain.push(probabilities, 30)
    corrected.push(probabilities, 30)
    ratio = corrected.posterior / plain.posterior
    assert ratio * PRIORS == pytest.approx(ratio[0] * PRIORS[0])


def test_silence_forgets():
    one = smoother()
    for _ in range(10):
        one.push((0.01, 0.01, 0.01, 0.96, 0.01), 30)
    before = one.posterior
    assert one.push(None, 30) == "unscored"
    assert one.posterior == pytest.approx(before @ TRANSITIONS)
    for _ in range(2000):
        one.push(None, 30)
    assert one.posterior == pytest.approx(stationary(TRANSITIONS), abs=1e-6)


def test_a_gap_is_as_many_epochs_of_silence():
    many, one = smoother(), smoother()
    for each in (many, one):
        each.push((0.01, 0.01, 0.01, 0.96, 0.01), 30)
    for _ in range(7):
        many.push(None, 30)
    many.push((0.2, 0.3, 0.3, 0.1, 0.1), 30)
    one.push((0.2, 0.3, 0.3, 0.1, 0.1), 240)  # one window, however long after the last
    assert one.posterior == pytest.approx(many.posterior, abs=1e-12)


def test_no_window_rules_a_stage_out():
    one = smoother()
    for _ in range(50):
        one.push((1.0, 0.0, 0.0, 0.0, 0.0), 30)
    one.push((0.0, 0.0, 0.0, 1.0, 0.0), 30)  # from W there is no step to N3
    assert (one.posterior > 0).all()
    for _ in range(5):
        label = one.push((0.0, 0.0, 0.0, 1.0, 0.0), 30)
    assert label == "N3"


@pytest.mark.parametrize("seconds", [1, 2, 7, 15, 29])
def test_fractions_of_an_epoch_make_up_an_epoch(seconds):
    one = smoother()
    part, rest = one._transitions(seconds / 30), one._transitions(1 - seconds / 30)
    assert (part >= 0).all()
    assert part.sum(axis=1) == pytest.approx(np.ones(5))
    assert part @ rest == pytest.approx(TRANSITIONS, abs=5e-3)  # what clipping costs
    assert np.linalg.norm(part - np.eye(5)) < np.linalg.norm(TRANSITIONS - np.eye(5))


@pytest.mark.parametrize("seed", range(5))
def test_it_flickers_less_and_errs_less(seed):
    truth, said = noisy_night(seed)
    one = smoother()
    smoothed = [one.push(tuple(probabilities), 30) for probabilities in said]
    raw = [STAGES[int(probabilities.argmax())] for probabilities in said]
    right = [STAGES[stage] for stage in truth]
    errors = [sum(a != b for a, b in zip(labels, right, strict=True)) for labels in (smoothed, raw)]
    assert changes(smoothed) < 0.6 * changes(raw)
    assert errors[0] < errors[1]


def test_a_certain_network_is_followed_at_once():
    one = smoother()
    for _ in range(20):
        one.push((0.01, 0.01, 0.01, 0.96, 0.01), 30)
    assert one.push((0.997, 0.001, 0.001, 0.0, 0.001), 30) == "W"


def test_reset_forgets_everything():
    one = smoother()
    first = [one.push((0.1, 0.2, 0.3, 0.3, 0.1), 13) for _ in range(9)]
    belief = one.posterior
    one.reset()
    assert [one.push((0.1, 0.2, 0.3, 0.3, 0.1), 13) for _ in range(9)] == first
    assert (one.posterior == belief).all()


def test_figures_ship_with_the_engine():
    assert Smoother.from_figures().push((0.9, 0.05, 0.03, 0.01, 0.01), 30) == "W"


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        Smoother(TRANSITIONS * 2, PRIORS)
    with pytest.raises(ValueError, match="shape"):
        Smoother(TRANSITIONS, PRIORS[:4])
    with pytest.raises(ValueError, match="add up to 1"):
        Smoother(TRANSITIONS, [1.5, -0.5, 0, 0, 0])
    with pytest.raises(ValueError, match="eigenvectors"):
        Smoother(np.eye(5) / 2 + np.eye(5, k=1) / 2 + np.diag([0, 0, 0, 0, 0.5]), PRIORS)
    with pytest.raises(ValueError, match="go back"):
        smoother().push(None, -1)
