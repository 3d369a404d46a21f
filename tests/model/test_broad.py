"""What changes a sequence: curves over bands and seconds, runs of stages, another order."""

from __future__ import annotations

import numpy as np
import pytest

from model.broad import (
    KNOTS,
    KNOTS_HZ,
    LEAST_DB,
    MOST_DB,
    bursts,
    contrast,
    course,
    gains,
    runs,
    shuffled,
    spread_over,
)
from model.spectra import FREQUENCY_HZ

pytestmark = pytest.mark.train
HZ = FREQUENCY_HZ[:90]


def noise(epochs: int = 10) -> np.ndarray:
    return np.random.default_rng(0).normal(40, 5, (epochs * 30, HZ.size)).astype(np.float32)


def test_gains_at_the_knots_reach_every_bin() -> None:
    shares = spread_over(HZ)
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-6)
    at_knots = spread_over(KNOTS_HZ)
    np.testing.assert_allclose(at_knots, np.eye(KNOTS), atol=1e-6)


def test_the_same_dice_change_alike_and_a_third_is_left_as_it_is() -> None:
    drawn = [gains(noise(), HZ, np.random.default_rng(seed)) for seed in range(40)]
    np.testing.assert_array_equal(drawn[3], gains(noise(), HZ, np.random.default_rng(3)))
    untouched = sum(not one.any() for one in drawn)
    assert 5 <= untouched <= 25
    assert all(np.isfinite(one).all() and one.shape == (300, KNOTS) for one in drawn)


def test_contrast_moves_epochs_away_from_their_mean_and_no_epoch_that_is_like_it() -> None:
    same = np.tile(noise(1), (6, 1))
    moved = contrast(same, HZ, 1.0, np.random.default_rng(1)).reshape(6, 30, KNOTS)
    np.testing.assert_allclose(moved.mean(1), 0, atol=1e-3)


def test_bursts_stay_within_what_eeg_can_be() -> None:
    for seed in range(10):
        drawn = bursts(600, np.random.default_rng(seed))
        assert drawn.min() >= LEAST_DB
        assert drawn.max() <= MOST_DB


@pytest.mark.parametrize("pace", [1.0, 10.0])
def test_courses_forget_themselves_at_their_pace(pace: float) -> None:
    drawn = course(20_000, pace, 1, np.random.default_rng(0))[:, 0]
    assert drawn.std() == pytest.approx(1, abs=0.1)
    lag = round(pace)
    assert np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1] == pytest.approx(np.exp(-1), abs=0.1)


def test_runs_are_of_one_stage_each_in_the_order_of_time() -> None:
    stages = np.repeat([0, 2, 3, 2, 4], 40)
    order = runs(stages, 60, np.random.default_rng(0))
    assert order.shape == (60,)
    changes = np.flatnonzero(np.diff(stages[order])) + 1
    assert len(changes) < 15
    for part in np.split(order, changes):
        inner = part[: len(part) // 5 + 1]
        assert (np.diff(inner) > 0).all() or len(inner) == 1
    unscored = runs(np.full(90, -1), 60, np.random.default_rng(0))
    np.testing.assert_array_equal(unscored, np.arange(60))


def test_in_another_order_nothing_is_lost() -> None:
    order = shuffled(20, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(20))
    assert (np.diff(order) == 1).sum() >= 14
