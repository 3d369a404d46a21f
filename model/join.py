"""Join networks into one artifact that gives the mean of their probabilities.

    python -m model.join packaged runs/two_looks/best.pt OUT.pt --shares .5 .5

A member is "packaged", an artifact of one network, or a checkpoint of model.train.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from model.average import check_shares
from model.checkpoint import Checkpoint, load_start
from model.ensemble import Ensemble
from model.export import export, tell
from streamer.errors import ArtifactError, SleepstreamError, UsageError


def join(
    saved: Sequence[Checkpoint],
    shares: Sequence[float],
    stage_weights: Sequence[float] = (1, 1, 1, 1, 1),
    settling_epochs: float = 0.0,
) -> Ensemble:
    """Make one network of several; the last is one that standardises over the past, if any does.

    Raises:
        UsageError: the shares, the weights or the epochs do not fit.
        ArtifactError: the members do not.

    """
    check_shares(shares, len(saved), "members")
    if min(stage_weights) <= 0:
        raise UsageError(f"--stage-weights: five numbers above 0, for W N1 N2 N3 R; found {stage_weights}")
    if not 0 <= settling_epochs < math.inf:
        raise UsageError(f"--settling-epochs: 0 or more; found {settling_epochs}")
    trailing = [one.size.trailing_epochs for one in saved]
    if trailing != sorted(trailing) or len(set(trailing) - {0}) > 1:
        raise ArtifactError(
            f"ensemble: members standardise over {trailing} epochs; those over 0 first, all others alike"
        )
    weights = [float(one) for one in stage_weights]
    return Ensemble([one.network for one in saved], shares, weights, settling_epochs)


def main(arguments: list[str] | None = None) -> None:
    """Join networks and export them."""
    parser = argparse.ArgumentParser(prog="python -m model.join", description=__doc__.split("\n", 1)[0])
    parser.add_argument("members", nargs="+", help='"packaged", artifacts or checkpoints, and OUT.pt at last')
    parser.add_argument("--shares", type=float, nargs="+", required=True, help="of each in the mean")
    parser.add_argument(
        "--stage-weights", type=float, nargs=5, default=(1, 1, 1, 1, 1), help="that multiply W N1 N2 N3 R"
    )
    parser.add_argument(
        "--settling-epochs",
        type=float,
        default=0.0,
        help="that the last member has standardised over when it has half of its share (default: 0)",
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="that divides the logits (default: 1)")
    options = parser.parse_args(arguments)
    *members, out = options.members
    try:
        saved = [load_start("packaged" if one == "packaged" else Path(one)) for one in members]
        joined = join(saved, options.shares, options.stage_weights, options.settling_epochs)
        joined.temperature.fill_(options.temperature)
        said = dict.fromkeys(one.trained_on for one in saved)
        contract = export(joined, [one.size for one in saved], " | ".join(said), Path(out))
    except SleepstreamError as error:
        parser.exit(error.exit_code, f"{error}\n")
    tell(Path(out), contract)


if __name__ == "__main__":
    main()
