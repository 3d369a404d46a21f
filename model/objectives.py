"""The training objectives, one per stage of training: contrast, cross-masking, fine-tuning.

After MC2SleepNet (arXiv 2502.17470). Each objective is a module that holds the network and its own
parameters, and turns a batch into one loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data import Batch
from model.mc2sleepnet import HEADS, MC2SleepNet

MASKED = 0.25  # share of one view's epochs hidden while it is filled in from the other
TEMPERATURE = 0.07  # of the contrast
AUXILIARY = 0.25  # weight of each single-stream head beside the joint one
HINTS = 1.0  # weight of a teacher's embeddings beside its stages


class Contrast(nn.Module):
    """Stage 1: contrastive learning between the two views of an epoch, against all epochs of the batch."""

    def __init__(self, network: MC2SleepNet, width: int, supervised: bool = False) -> None:
        super().__init__()
        self.network = network
        self.supervised = supervised
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128)) for _ in range(2)
        )

    def forward(self, batch: Batch) -> Tensor:
        """InfoNCE both ways; with `supervised`, every epoch of the same stage is a positive too."""
        tokens = embedded(self.network, batch).flatten(0, 1)
        raw, spectrum = (project(tokens[:, view]) for view, project in enumerate(self.project))
        return info_nce(raw, spectrum, batch.target.flatten(0, 1) if self.supervised else None)


def info_nce(first: Tensor, second: Tensor, target: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of (n, d) against (n, d), pairs at equal rows (van den Oord et al. 2018).

    With `target` (n, 5) probabilities, the positives of an epoch are all epochs that share its stage (Khosla
    et al. 2020); an epoch without a target has only itself.
    """
    first, second = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1)
    likeness = first @ second.T / TEMPERATURE
    positive = torch.eye(len(first), device=first.device)
    if target is not None:
        stage = torch.where(
            target.sum(1) > 0, target.argmax(1), -1 - torch.arange(len(target), device=target.device)
        )
        positive = (stage[:, None] == stage[None]).float()
    positive = positive / positive.sum(1, keepdim=True)
    forth = -(positive * likeness.log_softmax(1)).sum(1).mean()
    back = -(positive * likeness.T.log_softmax(1)).sum(1).mean()
    return (forth + back) / 2


class CrossMask(nn.Module):
    """Stage 2: masked epochs of one view are rebuilt from the past and from the other, complete view."""

    def __init__(self, network: MC2SleepNet, width: int) -> None:
        super().__init__()
        self.network = network
        freeze_backbones(network)
        self.rebuild = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def train(self, mode: bool = True) -> CrossMask:
        """Keep the frozen backbones in evaluation mode."""
        super().train(mode)
        still_backbones(self.network)
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean L1 distance of rebuilt and original tokens of present epochs, both directions."""
        with torch.no_grad():
            tokens = embedded(self.network, batch)
        return (self.direction(tokens, batch.present, 0) + self.direction(tokens, batch.present, 1)) / 2

    def direction(self, tokens: Tensor, present: Tensor, view: int) -> Tensor:
        """Hide a quarter of one view of tokens (B, T, 2, D) and rebuild all of it."""
        shown = hide(present, view)
        _, streams, _ = self.network.relate(tokens, shown, self.network.blank(tokens.size(0)))
        rebuilt = self.rebuild[view](streams[:, :, view])
        error: Tensor = (rebuilt - tokens[:, :, view].detach()).abs().mean(-1)
        there = present[:, :, view].to(error.dtype)
        return (error * there).sum() / there.sum().clamp(min=1)


def hide(present: Tensor, view: int) -> Tensor:
    """Hide a quarter of the epochs of one view; the other view stays whole. (B, T, 2) -> (B, T, 2)."""
    shown = present.clone()
    shown[:, :, view] &= torch.rand(present.shape[:2], device=present.device) >= MASKED
    return shown


class FineTune(nn.Module):
    """Stage 3: all five heads learn the stages; `frozen` keeps the backbones as they are."""

    weights: Tensor

    def __init__(
        self, network: MC2SleepNet, frozen: bool, weights: Sequence[float] = (1, 1, 1, 1, 1)
    ) -> None:
        super().__init__()
        self.network = network
        self.frozen = frozen
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        if frozen:
            freeze_backbones(network)

    def train(self, mode: bool = True) -> FineTune:
        """Keep frozen backbones in evaluation mode."""
        super().train(mode)
        if self.frozen:
            still_backbones(self.network)
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Return the cross-entropy with soft targets; the single-view heads weigh less than the joint one.

        `weights` weigh the stages: the network learns the probabilities for nights in which each stage is
        more or less frequent by that factor than in the training nights.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = embedded(self.network, batch)
        weighted = batch._replace(target=batch.target * self.weights)
        return stage_loss(self.network.decode(tokens, batch.present), weighted)


class Hints(NamedTuple):
    """Linear maps from our embeddings of an epoch to those of other networks."""

    weight: Tensor  # (n, e, D) to those of each of the teacher's networks, from the spectrum's token
    bias: Tensor  # (n, e)
    own_weight: Tensor  # (2 D', 2 D) to both tokens of a network of ours, from both; (0, 0) if none was asked
    own_bias: Tensor  # (2 D',)


class Follow(nn.Module):
    """Linear maps from our embeddings to those of other networks, learnt in units of the spread of theirs.

    Args:
        width: of our embeddings.
        examples: theirs (N, e), which centre and spread are taken from.
        networks: how many others there are, each with a map of its own.

    """

    centre: Tensor
    spread: Tensor

    def __init__(self, width: int, examples: Tensor, networks: int = 1) -> None:
        super().__init__()
        self.register_buffer("centre", examples.mean(0))
        self.register_buffer("spread", examples.std(0).clamp(min=1e-3))
        self.maps = nn.ModuleList(nn.Linear(width, examples.size(1)) for _ in range(networks))

    def forward(self, seen: Tensor, wanted: Tensor, which: int = 0) -> Tensor:
        """Map our tokens (..., D); return their mean squared error against `wanted` (..., e), in its s.d."""
        error: Tensor = self.maps[which](seen) - (wanted - self.centre) / self.spread
        return error.square().mean()

    @torch.no_grad()
    def exact(self) -> tuple[Tensor, Tensor]:
        """Return weights (networks, e, D) and biases (networks, e) of the maps to `wanted` as it is."""
        linear = [one for one in self.maps if isinstance(one, nn.Linear)]
        weight, bias = torch.stack([one.weight for one in linear]), torch.stack([one.bias for one in linear])
        return weight * self.spread.unsqueeze(1), bias * self.spread + self.centre


class Repeat(FineTune):
    """Stage 3 on lessons: learn the stages, and embeddings from which those of others can be predicted.

    A teacher's embedding of an epoch carries far more information than its five probabilities (Romero et al.
    2015, FitNets). A linear map for each of the teacher's networks predicts it from the spectrum's tokens; if
    a network of our own labelled the lessons, too, one more predicts its tokens from both of ours. The maps
    are discarded after training.

    Args:
        network: the network to train.
        frozen, weights: as for `FineTune`.
        examples: batches from which the scale of the hints is computed.
        networks: the number of networks of the teacher.

    """

    def __init__(
        self,
        network: MC2SleepNet,
        frozen: bool,
        weights: Sequence[float],
        examples: Sequence[Batch],
        networks: int,
    ) -> None:
        super().__init__(network, frozen, weights)
        width = network.mask.size(1)
        hints = torch.cat([one.hints.flatten(0, 2) for one in examples if one.hints is not None])
        self.hints = Follow(width, hints, networks)
        own = [one.own.flatten(2).flatten(0, 1) for one in examples if one.own is not None]
        self.own = Follow(2 * width, torch.cat(own)) if own else None

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of `FineTune` plus the mean squared errors of the hints, in units of their s.d."""
        assert batch.hints is not None, "a batch of model.lessons"
        assert batch.asked is not None, "a batch of model.lessons"
        tokens = embedded(self.network, batch)
        weighted = batch._replace(target=batch.target * self.weights)
        loss = stage_loss(self.network.decode(tokens, batch.present), weighted)
        asked = batch.asked.tolist()
        errors = [self.hints(tokens[:, :, 1], batch.hints[:, :, at], one) for at, one in enumerate(asked)]
        loss = loss + HINTS * torch.stack(errors).mean()
        if self.own is not None and batch.own is not None:
            loss = loss + HINTS * self.own(tokens.flatten(2), batch.own.flatten(2))
        return loss

    def maps(self) -> Hints:
        """Return the learnt maps from our tokens to the others' embeddings."""
        if self.own is None:
            return Hints(*self.hints.exact(), torch.empty(0, 0), torch.empty(0))
        (own_weight,), (own_bias,) = self.own.exact()
        return Hints(*self.hints.exact(), own_weight, own_bias)


def embedded(network: MC2SleepNet, batch: Batch) -> Tensor:
    """Return the tokens (B, T, 2, D) of a batch."""
    if batch.tokens is not None:
        return batch.tokens
    return network.encode_all(batch.raw, batch.spectrum, batch.present)


def stage_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of logits (B, T, 5 heads, 5) with the target.

    Epochs without a target are left out. So are, for a head with a single view, epochs whose view is lost,
    and, for all heads, epochs that have lost both views.
    """
    each = -(batch.target.unsqueeze(2) * logits.float().log_softmax(-1)).sum(-1)  # (B, T, heads)
    known = (batch.target.sum(-1) > 0) & batch.present.any(-1)
    counts = known.unsqueeze(2).expand(-1, -1, len(HEADS)).clone()
    counts[:, :, 3:] &= batch.present  # the heads that see one view of one epoch alone
    weight = torch.tensor([1.0] + [AUXILIARY] * (len(HEADS) - 1), device=logits.device)
    per_head = (each * counts).sum((0, 1)) / counts.sum((0, 1)).clamp(min=1)
    return (per_head * weight).sum() / weight.sum()


def backbones(network: MC2SleepNet) -> tuple[nn.Module, ...]:
    """Return the modules that embed single epochs."""
    return network.raw, network.level, network.spectrum


def freeze_backbones(network: MC2SleepNet) -> None:
    """Exclude the backbones' parameters from training."""
    for backbone in backbones(network):
        backbone.requires_grad_(False)


def still_backbones(network: MC2SleepNet) -> None:
    """Put the backbones into evaluation mode: no dropout, fixed batch statistics."""
    for backbone in backbones(network):
        backbone.eval()
