"""Rehearsals: sequences of embedded epochs, and the word of the teacher that belongs to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.augment import Augmentation
from model.checkpoint import Checkpoint, save_checkpoint
from model.data import Batch, Cut
from model.objectives import Hints, Repeat
from model.rehearsal import Embedded, Own, Rehearsal, load_own
from model.streamed import Streamed
from tests.model.teacher import TEACHER
from tests.model.tiny import TINY, network

pytestmark = pytest.mark.train

LESSONS, LONG, WIDTH = 6, 20, TINY.width


@pytest.fixture
def streamed(tmp_path: Path) -> Streamed:
    (tmp_path / "teacher.py").write_text(TEACHER)
    return Streamed.load(tmp_path / "teacher.py")


@pytest.fixture
def rehearsal(streamed: Streamed) -> Rehearsal:
    rng = np.random.default_rng(0)
    said = np.repeat(rng.integers(0, 4, (LESSONS, LONG // 5)), 5, 1)  # no epoch is REM
    tokens = torch.randn(LESSONS, LONG, 2, WIDTH, generator=torch.Generator().manual_seed(0)).half()
    hints = Hints(
        torch.ones(2, 1, WIDTH), torch.tensor([[0.0], [1.0]]), torch.eye(2 * WIDTH), torch.ones(2 * WIDTH)
    )
    cut = Cut(30, 4, augmentation=Augmentation(lost_epochs=0.1))
    return Rehearsal(Embedded(tokens, said), hints, streamed, cut, (1,), 5)


def test_what_is_learnt_is_what_the_teacher_makes_of_just_these_tokens(rehearsal: Rehearsal) -> None:
    batch = rehearsal[2]
    assert batch.tokens is not None
    assert batch.tokens.shape == (4, 30, 2, WIDTH)
    seen = batch.tokens[:, :, 1].sum(-1, keepdim=True)  # as the hints say
    each = [rehearsal.teacher.staged(one, seen + one) for one in range(2)]
    assert any(torch.allclose(batch.target, one, atol=1e-5) for one in each)
    assert not batch.present.all()
    again = rehearsal[2]
    assert torch.equal(again.tokens, batch.tokens)
    assert torch.equal(again.target, batch.target)


def test_a_network_of_ours_is_asked_beside_the_teacher(rehearsal: Rehearsal) -> None:
    alone = rehearsal[2]
    rehearsal.own = Own(network().eval(), 0.25)
    both = rehearsal[2]
    assert both.tokens is not None
    with torch.inference_mode():
        there = torch.ones(4, 30, 2, dtype=torch.bool)
        ours = rehearsal.own.network.decode(both.tokens + 1, there)[:, :, 0].softmax(-1)  # as the hints say
    torch.testing.assert_close(both.target, 0.75 * alone.target + 0.25 * ours)


def test_it_is_read_from_its_checkpoint_with_its_share_of_the_two(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", Checkpoint(TINY, network(), "noise", {}))
    found = load_own(tmp_path / "best.pt", (0.3, 0.1, 0.6, 0.0))
    assert found is not None
    assert found.share == pytest.approx(0.25)
    assert torch.equal(found.network.joint.weight, network().joint.weight)
    assert load_own(None, (0.3, 0.1, 0.6, 0.0)) is None
    assert load_own(tmp_path / "best.pt", (1.0, 0.0, 0.0, 0.0)) is None


def test_epochs_come_as_they_were_in_parts_and_in_runs_of_what_was_said(rehearsal: Rehearsal) -> None:
    orders = [rehearsal.order(np.random.default_rng(seed)) for seed in range(60)]
    assert all(len(one) == 30 and one.min() >= 0 and one.max() < LESSONS * LONG for one in orders)
    whole = [one for one in orders if (np.diff(one[:LONG]) == 1).all() and one[0] % LONG == 0]
    assert 8 <= len(whole) <= 35
    said = rehearsal.known.said.flatten()
    for seed in range(20):
        run = rehearsal.run(np.random.default_rng(seed))
        assert len(set(said[run])) == 1


def test_tokens_are_blurred_and_moved_by_less_than_they_differ(rehearsal: Rehearsal) -> None:
    drawn = [rehearsal.sequence(np.random.default_rng(seed)) for seed in range(40)]
    orders = [rehearsal.order(np.random.default_rng(seed)) for seed in range(40)]
    plain = [rehearsal.flat[torch.from_numpy(one)].float().numpy() for one in orders]
    apart = [float(np.abs(one - other).mean()) for one, other in zip(drawn, plain, strict=True)]
    assert any(one == 0 for one in apart)
    assert any(one > 0.1 for one in apart)
    assert max(apart) < 1


def test_a_network_that_repeats_hands_on_how_the_hints_follow() -> None:
    net = network()
    hints = torch.randn(2, 5, 3, 4) * 3 + 7
    batch = Batch(
        torch.zeros(2, 5, 0),
        torch.zeros(2, 5, 0),
        torch.full((2, 5, 5), 0.2),
        torch.ones(2, 5, 2, dtype=torch.bool),
        torch.randn(2, 5, 2, WIDTH),
        hints,
        torch.tensor([0, 4, 2]),
    )
    repeats = Repeat(net, False, (1,) * 5, [batch], 5)
    assert batch.tokens is not None
    maps = repeats.maps()
    told = torch.einsum("btd,ned->btne", batch.tokens[:, :, 1], maps.weight[[0, 4, 2]]) + maps.bias[[0, 4, 2]]
    before = repeats(batch)
    exact = batch._replace(hints=told)
    assert repeats(exact) < before
    torch.testing.assert_close(repeats(exact), repeats(exact._replace(hints=told.clone())))


def test_it_hands_on_how_the_tokens_of_a_network_of_ours_follow() -> None:
    tokens = torch.randn(2, 5, 2, WIDTH)
    batch = Batch(
        torch.zeros(2, 5, 0),
        torch.zeros(2, 5, 0),
        torch.full((2, 5, 5), 0.2),
        torch.ones(2, 5, 2, dtype=torch.bool),
        tokens,
        torch.zeros(2, 5, 1, 4),
        torch.tensor([0]),
        torch.randn(2, 5, 2, 3) * 3 + 7,
    )
    repeats = Repeat(network(), False, (1,) * 5, [batch], 1)
    maps = repeats.maps()
    follows = tokens.flatten(2) @ maps.own_weight.T + maps.own_bias
    assert repeats(batch._replace(own=follows.view(2, 5, 2, 3))) < repeats(batch)
