"""Agreement figures against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from model.metrics import agreement, calibrate

pytestmark = pytest.mark.train


def test_agreement_by_hand() -> None:
    stages = torch.tensor([0, 0, 2, 2, -1])
    given = torch.eye(5)[torch.tensor([0, 2, 2, 2, 4])]
    found = agreement(given, stages)
    assert found.epochs == 4
    assert found.accuracy == pytest.approx(0.75)
    assert found.kappa == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert found.f1["W"] == pytest.approx(2 / 3)
    assert found.f1["N2"] == pytest.approx(0.8)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    assert found.confusion[0] == [1, 0, 1, 0, 0]
    assert found.ece == pytest.approx(0.25)
    assert "kappa 0.500" in found.line()


def test_temperature_is_recovered() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20000, 5, generator=generator)
    stages = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    assert calibrate(logits * 1.5, stages) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize(("epochs", "least", "most"), [(240, 0.03, 0.1), (20000, 0.0, 0.01)])
def test_few_epochs_have_a_calibration_error_by_chance(epochs: int, least: float, most: float) -> None:
    generator = torch.Generator().manual_seed(0)
    given = (2 * torch.randn(epochs, 5, generator=generator)).softmax(-1)
    stages = torch.multinomial(given, 1, generator=generator)[:, 0]
    found = agreement(given, stages, chance=True)
    assert found.ece_of_chance is not None
    assert least < found.ece_of_chance < most
    assert found.ece == pytest.approx(found.ece_of_chance, abs=0.03)
    shifted = agreement(given.roll(1, 1), stages)
    assert shifted.ece > 3 * found.ece_of_chance
    assert shifted.ece_of_chance is None
