"""What each objective may see, what it may change, and that it teaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.data import Batch
from model.objectives import Contrast, CrossMask, FineTune, hide, info_nce, stage_loss
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train


def batch(epochs: int = 6, sequences: int = 2) -> Batch:
    raw, spectrum, present = signal(epochs, sequences)
    target = torch.eye(5)[torch.arange(sequences * epochs).view(sequences, epochs) % 5]
    return Batch(raw, spectrum, target, present)


def gradients(module: torch.nn.Module) -> set[str]:
    """Top-level parts of the network that a gradient reached."""
    return {
        name.split(".")[0]
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def test_contrast_teaches_both_backbones_and_nothing_behind_them() -> None:
    net = network()
    Contrast(net, TINY.width).train()(batch()).backward()
    assert gradients(net) == {"raw", "spectrum"}


def test_info_nce_is_least_where_pairs_agree() -> None:
    one = torch.eye(6, 8)
    assert info_nce(one, one) < 1e-4
    assert info_nce(one, one.roll(1, 0)) > 5
    assert info_nce(one * 7, one) < 1e-4  # direction counts, length does not


def test_supervised_positives_are_those_of_the_same_stage() -> None:
    target = torch.eye(5)[torch.tensor([0, 0, 1, 1])]
    by_stage = torch.eye(2, 8).repeat_interleave(2, 0)
    assert info_nce(by_stage, by_stage, target) == pytest.approx(
        torch.log(torch.tensor(2.0)).item(), abs=1e-4
    )
    lone = target.clone()
    lone[:] = 0  # nobody knows the stage: every epoch is its own positive only
    assert info_nce(by_stage, by_stage, lone) == pytest.approx(info_nce(by_stage, by_stage).item())


def test_hiding_leaves_the_other_view_whole_and_takes_a_quarter() -> None:
    present = torch.ones(4, 500, 2, dtype=torch.bool)
    present[0, :100] = False
    torch.manual_seed(0)
    shown = hide(present, 1)
    assert torch.equal(shown[:, :, 0], present[:, :, 0])
    assert not (shown & ~present).any()
    share = 1 - shown[:, :, 1].sum() / present[:, :, 1].sum()
    assert 0.2 < share < 0.3


@pytest.mark.parametrize("view", [0, 1])
def test_what_is_hidden_does_not_leak(view: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hidden epoch's own token changes nothing but its own error."""
    net = network()
    objective = CrossMask(net, TINY.width).eval()
    hidden = torch.ones(1, 6, 2, dtype=torch.bool)
    hidden[0, 3, view] = False
    monkeypatch.setattr("model.objectives.hide", lambda present, view: hidden)
    tokens = torch.randn(1, 6, 2, TINY.width)
    rebuilt = []
    objective.rebuild[view].register_forward_hook(lambda module, inputs, output: rebuilt.append(output))
    for value in (0.0, 50.0):
        tokens[0, 3, view] = value
        objective.direction(tokens, torch.ones_like(hidden), view)
    torch.testing.assert_close(rebuilt[0], rebuilt[1])
    tokens[0, 3, 1 - view] = 50.0  # while the other view is read
    objective.direction(tokens, torch.ones_like(hidden), view)
    assert not torch.allclose(rebuilt[1][0, 3], rebuilt[2][0, 3])


def test_cross_masking_stops_the_gradient_at_its_targets_and_leaves_backbones_frozen() -> None:
    net = network()
    objective = CrossMask(net, TINY.width).train()
    before = {name: tensor.clone() for name, tensor in net.raw.state_dict().items()}
    objective(batch()).backward()
    assert gradients(net) == {"raw_layers", "spectrum_layers", "mask"}
    assert all(torch.equal(before[name], tensor) for name, tensor in net.raw.state_dict().items())
    tokens = torch.randn(1, 6, 2, TINY.width, requires_grad=True)
    shown = torch.zeros(1, 6, 2, dtype=torch.bool)  # nothing is shown, so only the target could carry it
    torch.manual_seed(0)
    objective.direction(tokens, shown, 0).backward()
    assert tokens.grad is None or tokens.grad.abs().max() == 0


def test_frozen_is_frozen_batch_statistics_included() -> None:
    net = network()
    objective = FineTune(net, frozen=True).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], 0.1)
    objective(batch()).backward()
    optimiser.step()
    changed = {
        name.split(".")[0]
        for name, tensor in net.state_dict().items()
        if not torch.equal(before[name], tensor)
    }
    assert changed == {"raw_layers", "spectrum_layers", "mask", "joint", "singles"}


def test_end_to_end_reaches_everything() -> None:
    net = network()
    FineTune(net, frozen=False).train()(batch()).backward()
    assert gradients(net) == {"raw", "spectrum", "raw_layers", "spectrum_layers", "mask", "joint", "singles"}


def test_epochs_without_stage_or_signal_teach_nothing() -> None:
    made = batch()
    logits = torch.randn(2, 6, 5, 5, requires_grad=True)
    made.target[0, 0] = 0
    stage_loss(logits, made).backward()
    assert logits.grad is not None
    reached: Tensor = logits.grad.abs().amax(-1) > 0  # (B, T, heads)
    assert not reached[0, 0].any()  # no stage
    assert not reached[:, 4].any()  # lost
    assert (
        reached[:, 2].tolist() == [[True, True, True, False, True]] * 2
    )  # raw view lost: its own head is let off
    assert reached[:, 5].all()


@pytest.mark.slow
def test_a_tiny_batch_can_be_learnt_by_heart() -> None:
    net, made = network(), batch(5, 2)
    objective = FineTune(net, frozen=False).train()
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    made.raw[:] = made.raw * (1 + made.target.argmax(-1))[..., None]
    optimiser = torch.optim.AdamW(objective.parameters(), 1e-2)
    first = objective(made).item()
    for _ in range(60):
        optimiser.zero_grad()
        loss = objective(made)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * first
