"""The smallest network that has every part, and signals to feed it."""

from __future__ import annotations

import torch
from torch import Tensor

from model.mc2sleepnet import MC2SleepNet
from model.size import Size

TINY = Size("tiny", 8, (4, 4, 4, 4, 8), (1, 1, 1, 1, 1), 40, 1, 2, 2, 16, context=4)


def network(size: Size = TINY, seed: int = 0) -> MC2SleepNet:
    torch.manual_seed(seed)
    made = MC2SleepNet(size).eval()
    for module in made.modules():  # batch statistics other than the initial 0 and 1
        if isinstance(module, torch.nn.BatchNorm1d):
            module.get_buffer("running_mean").uniform_(-0.2, 0.2)
            module.get_buffer("running_var").uniform_(0.5, 2.0)
    return made


def signal(epochs: int, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Raw, spectrum and presence, with lost samples, a lost view and a lost epoch."""
    generator = torch.Generator().manual_seed(seed)
    raw = 20 * torch.randn(batch, epochs, 3000, generator=generator)
    spectrum = 35 + 10 * torch.randn(batch, epochs, 29, 128, generator=generator)
    raw[:, 1, 100:400] = spectrum[:, 1, :4] = torch.nan
    present = torch.ones(batch, epochs, 2, dtype=torch.bool)
    present[:, 2:3, 0] = False
    present[:, 4:5] = False
    return raw, spectrum, present
