"""The moving average of a network's weights during training, which is what is kept of it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of the weights; it follows faster during the first steps."""

    def blend(average: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
        return average + (latest - average) * max(1 - decay, 9 / (10 + int(count)))

    return AveragedModel(network, avg_fn=blend, use_buffers=True)
