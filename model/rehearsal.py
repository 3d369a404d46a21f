"""Rehearsals: a teacher's labels for new sequences of epochs that were embedded before.

A network that imitates a teacher (`model.lessons`, objective "repeat") learns to embed single epochs as the
teacher does, but it sees only those sequences that synthetic nights contain. On real EEG it failed on
others: a nap of deep sleep only, or an hour that begins in deep sleep. Since a linear map leads from its
embeddings to the teacher's, the teacher's sequence encoder can label any sequence of embedded epochs: in any
order, in runs of one stage, with noise, with an offset. No spectrum is computed for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.augment import lose_epochs
from model.checkpoint import load_checkpoint
from model.data import Batch, Cut, Draws
from model.lessons import load
from model.mc2sleepnet import STAGE_COUNT, MC2SleepNet
from model.objectives import Hints
from model.streamed import Streamed

ASKED = 1  # of the teacher's networks for each batch
USUAL = (0.2, 0.15, 0.2, 0.25, 0.2)  # how often a run is of W N1 N2 N3 R
AS_IT_WAS, IN_PARTS = 0.3, 0.3  # shares of sequences; the others are runs of what the teacher said
BLURRED, MOVED, ALIKE = 0.5, 0.5, 0.3  # shares of sequences, each by at most that many s.d. of a token:
MOST_BLURRED, MOST_MOVED, MOST_ALIKE = 0.4, 0.3, 0.7  # the last as a share of the way to their mean

Array = NDArray[np.float32]


class Embedded(NamedTuple):
    """All epochs of the lessons."""

    tokens: Tensor  # (N, T, 2, D) in half as many bits
    said: NDArray[np.int64]  # (N, T) what the teacher called them


class Own(NamedTuple):
    """A network of ours that is asked beside the teacher."""

    network: MC2SleepNet
    share: float  # of its word in the target


def load_own(path: Path | None, lesson_shares: Sequence[float]) -> Own | None:
    """Read the network of ours whose word has that share in the lessons; None if there is no such network."""
    teacher, network, *_ = lesson_shares
    if path is None or network == 0:
        return None
    return Own(load_checkpoint(path).network.eval(), network / (teacher + network))


@torch.inference_mode()
def embed_lessons(network: MC2SleepNet, paths: Sequence[Path]) -> Embedded:
    """Embed every epoch of the lessons, as part of its own sequence."""
    network.eval()
    tokens, said = [], []
    for path in paths:
        lesson = load(path)
        spectrum = torch.from_numpy(lesson.spectrum).to(network.mask.device)
        present = torch.ones(*spectrum.shape[:2], 2, dtype=torch.bool, device=spectrum.device)
        nothing = torch.empty(*spectrum.shape[:2], 0, device=spectrum.device)
        tokens.append(network.encode_all(nothing, spectrum, present).half().cpu())
        said.append(lesson.said[:, :, 0].argmax(-1))
    return Embedded(torch.cat(tokens), np.concatenate(said))


class Rehearsal(Draws):
    """Batches of sequences of embedded epochs, labelled by one of the teacher's networks."""

    def __init__(
        self,
        known: Embedded,
        hints: Hints,
        teacher: Streamed,
        cut: Cut,
        seed: Sequence[int],
        batches: int,
        first: int = 0,
        own: Own | None = None,
    ) -> None:
        super().__init__(cut, seed, batches, first)
        self.known, self.hints, self.teacher, self.own = known, hints, teacher, own
        self.flat = known.tokens.flatten(0, 1)  # (N * T, 2, D)
        said = known.said.flatten()
        self.where = [np.flatnonzero(said == stage) for stage in range(STAGE_COUNT)]
        self.spread = self.flat[::50].float().std(0).numpy()

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw a batch of sequences and have the teacher label them."""
        tokens = torch.from_numpy(np.stack([self.sequence(rng) for _ in range(self.cut.sequences)]))
        networks = len(self.teacher.networks)
        which = rng.choice(networks, min(ASKED, networks), replace=False)
        with torch.inference_mode():
            said = [self.ask(tokens[:, :, 1], one) for one in which.tolist()]
            target = torch.stack(said).mean(0)
            if self.own is not None:
                target = target + self.own.share * (self.ask_own(tokens, self.own.network) - target)
        lost = [lose_epochs(self.cut.epochs, self.cut.augmentation, rng) for _ in tokens]
        nothing = torch.empty(*tokens.shape[:2], 0)
        return Batch(nothing, nothing, target.clone(), torch.from_numpy(np.stack(lost)), tokens)

    def ask(self, seen: Tensor, which: int) -> Tensor:
        """Return probabilities (B, T, 5) by one of the teacher's networks for the spectrum's tokens."""
        return self.teacher.staged(which, seen @ self.hints.weight[which].T + self.hints.bias[which])

    def ask_own(self, tokens: Tensor, network: MC2SleepNet) -> Tensor:
        """What a network of ours makes of both tokens (B, T, 2, D): (B, T, 5)."""
        theirs = tokens.flatten(2) @ self.hints.own_weight.T + self.hints.own_bias
        theirs = theirs.view(*tokens.shape[:3], -1)
        return network.decode(theirs, torch.ones(theirs.shape[:3], dtype=torch.bool))[:, :, 0].softmax(-1)

    def sequence(self, rng: np.random.Generator) -> Array:
        """Choose epochs, then add noise and an offset, as another amplifier would: (T, 2, D)."""
        tokens: Array = self.flat[torch.from_numpy(self.order(rng))].float().numpy()
        if rng.random() < MOVED:
            moved = rng.standard_normal(tokens.shape[1:]) * self.spread
            tokens = tokens + MOST_MOVED * rng.random() * moved
        if rng.random() < BLURRED:
            blurred = rng.standard_normal(tokens.shape) * self.spread
            tokens = tokens + MOST_BLURRED * rng.random() * blurred
        if rng.random() < ALIKE:
            tokens = tokens + MOST_ALIKE * rng.random() * (tokens.mean(0) - tokens)
        return tokens.astype(np.float32)

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose T epochs as indices into `flat`: from one lesson, from parts of several, or in runs."""
        chosen: list[int] = []
        kind = rng.random()
        while len(chosen) < self.cut.epochs:
            if kind < AS_IT_WAS:
                chosen += self.part(self.known.said.shape[1], rng)
            elif kind < AS_IT_WAS + IN_PARTS:
                chosen += self.part(length(3, self.known.said.shape[1], rng), rng)
            else:
                chosen += self.run(rng).tolist()
        return np.array(chosen[: self.cut.epochs])

    def part(self, epochs: int, rng: np.random.Generator) -> range:
        """Choose consecutive epochs of one lesson."""
        lessons, long = self.known.said.shape
        start = int(rng.integers(lessons)) * long + int(rng.integers(long - epochs + 1))
        return range(start, start + epochs)

    def run(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose epochs with the same stage by the teacher, neighbours or not; all stages occur often."""
        there = [stage for stage in range(STAGE_COUNT) if len(self.where[stage])]
        usual = np.array(USUAL)[there]
        where = self.where[rng.choice(there, p=usual / usual.sum())]
        epochs = length(2, 50, rng)
        if rng.random() < 0.5:
            chosen: NDArray[np.int64] = where[rng.integers(len(where), size=epochs)]
            return chosen
        start = int(rng.integers(max(1, len(where) - epochs)))
        together: NDArray[np.int64] = where[start : start + epochs]
        return together


def length(least: int, most: int, rng: np.random.Generator) -> int:
    """Draw a number of epochs, log-uniformly."""
    return int(np.exp(rng.uniform(np.log(least), np.log(most))))
