"""A causal filter over the network's probabilities: this moment, weighed against how sleep proceeds.

It is the forward pass of a hidden Markov model with the network as its emission (Bourlard and Morgan,
Connectionist Speech Recognition, 1994): posterior ~ predicted * (probability / prior ** k). With k = 1 the
network's own idea of how common a stage is would be divided out entirely; ours has seen minutes of context
and earned it, so k is 0. On the held-out nights of the model card (`python -m tools.evaluate ... --fold 0`)
that takes the changes of stage from 13.7 to 5.5 an hour at the cost of .01 of kappa (.709 to .699); k = 0.5
cost .04 (.666).

A window counts once. Windows that end less than 30 s apart share samples; were each of them taken as new, one
ambiguous minute at a 1 s hop would speak with the voice of an hour. So only windows on the 30 s grid are
folded into the belief, and one off the grid is weighed against the last belief by the share of it that is
new, for this moment alone. Smoothed epochs therefore do not depend on the hop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Self

import numpy as np

from streamer.messages import EPOCH_S, STAGES, UNSCORED, Floats, Label

FLOOR = 1e-4  # no single window may rule a stage out


class Smoother:
    """One stream's belief about the sleeper's stage.

    Args:
        transitions: (5, 5), from stage to stage within 30 s, in the order of STAGES; rows add up to 1.
        priors: (5,), how common each stage is in the network's training data; adds up to 1.
        prior_exponent: k above, 0..1.

    Attributes:
        posterior: (5,), after the last push; adds up to 1.

    Raises:
        ValueError: the figures are no probabilities, or the transitions have no fractional power.

    """

    def __init__(
        self,
        transitions: Sequence[Sequence[float]] | Floats,
        priors: Sequence[float] | Floats,
        prior_exponent: float = 0.0,
    ) -> None:
        matrix = _distribution("transitions", transitions, (len(STAGES), len(STAGES)))
        self._priors = _distribution("priors", priors, (len(STAGES),))
        self._prior_weights = np.maximum(self._priors, FLOOR) ** prior_exponent
        self._eigenvalues, self._vectors = np.linalg.eig(matrix.astype(np.complex128))
        if np.linalg.cond(self._vectors) > 1e6:
            raise ValueError(
                "transitions cannot be divided into fractions of an epoch (no basis of eigenvectors)"
            )
        self._inverse = np.linalg.inv(self._vectors)
        self._transitions = lru_cache(EPOCH_S)(self._power)  # a hop asks for the same few again and again
        self.reset()

    @classmethod
    def from_figures(cls) -> Self:
        """With the transitions and priors that were measured on real nights and ship with the engine."""
        figures = json.loads((files("streamer") / "sources" / "figures.json").read_text(encoding="utf-8"))
        return cls(figures["transitions"], figures["priors"])

    def reset(self) -> None:
        """Know nothing, at the beginning of a recording."""
        self._belief = self._priors  # when the last window on the grid had been seen
        self._belief_s = 0.0
        self._now_s = 0.0
        self.posterior = self._priors

    def push(self, probabilities: Sequence[float] | None, seconds: float) -> Label:
        """Take what the network says of the 30 s that end `seconds` after the last one's end.

        Args:
            probabilities: (5,) in the order of STAGES, or None for a window without a score: the belief then
                drifts towards what is usual.
            seconds: since the last push, or since the recording's first sample; more than 30 after a gap.

        Returns:
            The most probable stage, or "unscored" where there was no score.

        """
        if seconds < 0:
            raise ValueError(f"{seconds} s since the last window; time does not go back")
        self._now_s += seconds
        epochs = (self._now_s - self._belief_s) / EPOCH_S
        posterior = self._belief @ self._transitions(epochs)
        if probabilities is not None:
            evidence = np.maximum(np.asarray(probabilities, dtype=np.float64), FLOOR) / self._prior_weights
            posterior = posterior * evidence ** min(1.0, epochs)
        self.posterior = _scaled(posterior)
        if self._now_s % EPOCH_S == 0:
            self._belief, self._belief_s = self.posterior, self._now_s
        return UNSCORED if probabilities is None else STAGES[int(self.posterior.argmax())]

    def _power(self, epochs: float) -> Floats:
        """The matrix for that many epochs, (5, 5), or what comes nearest to it.

        Not every stochastic matrix has a stochastic root (Higham and Lin, On pth roots of stochastic
        matrices, 2011); small negative entries of a root become 0, and their rows are scaled.
        """
        power = ((self._vectors * self._eigenvalues**epochs) @ self._inverse).real
        return _scaled(np.maximum(power, 0.0))


def _distribution(
    name: str, values: Sequence[Sequence[float]] | Sequence[float] | Floats, shape: tuple[int, ...]
) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} of shape {array.shape}, not {shape}")
    if not (array >= 0).all() or not np.allclose(array.sum(axis=-1), 1, atol=1e-3):
        raise ValueError(f"{name} must be probabilities that add up to 1")
    return _scaled(array)


def _scaled(array: Floats) -> Floats:
    scaled: Floats = array / array.sum(axis=-1, keepdims=True)
    return scaled
