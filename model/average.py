"""Averages of weights: over the steps of a training, and of networks that began as one.

    python -m model.average before.pt runs/further_back/best.pt OUT.pt --shares .5 .5

The mean of a network and of what it became by further training often is better than either: it keeps more of
what the first knew (Wortsman et al. 2022, model soups). Networks that began with different dice have no mean
of use. A network is a checkpoint of model.train, or an artifact, of which the last member is taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model.checkpoint import Checkpoint, load_start, save_checkpoint
from model.mc2sleepnet import MC2SleepNet
from streamer.errors import ArtifactError, SleepstreamError, UsageError


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of the weights; it follows faster during the first steps."""

    def blend(average: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
        return average + (latest - average) * max(1 - decay, 9 / (10 + int(count)))

    return AveragedModel(network, avg_fn=blend, use_buffers=True)


def check_shares(shares: Sequence[float], count: int, what: str) -> None:
    """Raise UsageError unless there is a share for each of `count` networks, called `what` in the message."""
    if len(shares) != count or abs(sum(shares) - 1) > 1e-6 or min(shares) <= 0:
        raise UsageError(f"--shares: one above 0 for each of {count} {what}, 1 in all; found {shares}")


def mean_of(saved: Sequence[Checkpoint], shares: Sequence[float]) -> Checkpoint:
    """Return the network whose weights and scales are the mean of those given.

    Shape and `trained_on` are the last one's; over how many epochs they standardise may differ.

    Raises:
        UsageError: the shares do not fit.
        ArtifactError: the networks have different shapes.

    """
    check_shares(shares, len(saved), "networks")
    last = saved[-1]
    for one in saved:
        if replace(one.size, trailing_epochs=last.size.trailing_epochs) != last.size:
            raise ArtifactError(f"model.average: networks of one shape; found {one.size} beside {last.size}")
    weights = [one.network.state_dict() for one in saved]
    mean = dict(weights[-1])
    for name, one in mean.items():
        if one.is_floating_point():
            parts = [share * each[name] for share, each in zip(shares, weights, strict=True)]
            mean[name] = torch.stack(parts).sum(0)
    network = MC2SleepNet(last.size)
    network.load_state_dict(mean)
    return Checkpoint(last.size, network.eval(), last.trained_on, {})


def main(arguments: list[str] | None = None) -> None:
    """Average networks and save the result as a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m model.average", description=__doc__.split("\n", 1)[0])
    parser.add_argument("networks", type=Path, nargs="+", help="checkpoints or artifacts, and OUT.pt at last")
    parser.add_argument("--shares", type=float, nargs="+", required=True, help="of each in the mean")
    options = parser.parse_args(arguments)
    *asked, out = options.networks
    try:
        made = mean_of([load_start(one) for one in asked], options.shares)
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out, made)
    print(f"{out}: the mean of {len(asked)} networks")


if __name__ == "__main__":
    main()
