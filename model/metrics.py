"""How well stages agree with a scorer, and how far probabilities can be believed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from streamer.messages import STAGES
from streamer.night.agreement import compute_agreement

CLASSES = len(STAGES)
DRAWS = 20


@dataclass(frozen=True)
class CalibratedAgreement:
    """Agreement and calibration error over all epochs pooled; NaN where a figure has no value."""

    epochs: int
    accuracy: float
    kappa: float
    macro_f1: float  # over the stages that either scorer gave
    f1: dict[str, float]  # per stage
    ece: float  # expected calibration error, 15 bins
    confusion: list[list[int]]  # row: the scorer's stage, column: ours, in the order of STAGES
    ece_of_chance: float | None = None  # of perfect probabilities on as many epochs; None: not asked for

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def line(self) -> str:
        """One line for a terminal."""
        each = " ".join(f"{stage} {value:.2f}" for stage, value in self.f1.items())
        return (
            f"accuracy {self.accuracy:.3f} kappa {self.kappa:.3f} F1 {self.macro_f1:.3f} ({each}) "
            f"ECE {self.ece:.3f}"
        )


def agreement(probabilities: Tensor, stages: Tensor, chance: bool = False) -> CalibratedAgreement:
    """Compare probabilities (n, 5) with stages (n,); epochs with a negative stage are left out.

    With `chance` also the calibration error that cannot be avoided, which takes longer than all the rest.
    """
    scored = stages >= 0
    given, stage = probabilities[scored].float().cpu(), stages[scored].long().cpu()
    counts = torch.bincount(stage * CLASSES + given.argmax(1), minlength=CLASSES**2)
    found = compute_agreement(counts.reshape(CLASSES, CLASSES).numpy())
    return CalibratedAgreement(
        epochs=found.n,
        accuracy=_number(found.accuracy),
        kappa=_number(found.kappa),
        macro_f1=_number(found.macro_f1),
        f1={name: value or 0.0 for name, value in found.f1.items()},
        ece=_calibration_error(given, stage),
        confusion=[list(row) for row in found.confusion],
        ece_of_chance=_error_of_chance(given) if chance else None,
    )


def _calibration_error(given: Tensor, stages: Tensor) -> float:
    return float(multiclass_calibration_error(given, stages, CLASSES, n_bins=15))


def _error_of_chance(given: Tensor) -> float:
    """Mean calibration error if every epoch's stage were drawn from the probabilities (n, 5) given for it."""
    if not len(given):
        return math.nan
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(given, DRAWS, replacement=True, generator=generator)
    return sum(_calibration_error(given, stages) for stages in drawn.T) / DRAWS


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def calibrate(logits: Tensor, stages: Tensor) -> float:
    """Find the temperature that makes the scorer's stages most likely (Guo et al. 2017).

    logits (n, 5) at temperature 1, stages (n,) with negative ones left out; between 0.3 and 3.
    """
    scored = stages >= 0
    candidates = torch.logspace(-0.523, 0.477, 201)
    losses = [
        torch.nn.functional.cross_entropy(logits[scored] / temperature, stages[scored].long())
        for temperature in candidates
    ]
    return float(candidates[torch.stack(losses).argmin()])
