"""How well stages agree with a scorer, and how far probabilities can be believed; by torchmetrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_cohen_kappa,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from streamer.messages import STAGES

CLASSES = len(STAGES)


@dataclass(frozen=True)
class Agreement:
    """Figures over all epochs pooled."""

    epochs: int
    accuracy: float
    kappa: float
    macro_f1: float  # over the stages that either scorer gave
    f1: dict[str, float]  # per stage
    ece: float  # expected calibration error, 15 bins
    confusion: list[list[int]]  # row: the scorer's stage, column: ours, in the order of STAGES

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


def agreement(probabilities: Tensor, stages: Tensor) -> Agreement:
    """Compare probabilities (n, 5) with stages (n,); epochs with a negative stage are left out."""
    scored = stages >= 0
    given, stage = probabilities[scored].float().cpu(), stages[scored].long().cpu()
    f1 = multiclass_f1_score(given, stage, CLASSES, average="none")
    return Agreement(
        epochs=stage.numel(),
        accuracy=float(multiclass_accuracy(given, stage, CLASSES, average="micro")),
        kappa=float(multiclass_cohen_kappa(given, stage, CLASSES)),
        macro_f1=float(multiclass_f1_score(given, stage, CLASSES, average="macro")),
        f1=dict(zip(STAGES, f1.tolist(), strict=True)),
        ece=float(multiclass_calibration_error(given, stage, CLASSES, n_bins=15)),
        confusion=multiclass_confusion_matrix(given, stage, CLASSES).tolist(),
    )


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
