"""Networks that nobody trained: what one costs does not depend on what it has learnt."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch

from model.export import export
from model.mc2sleepnet import MC2SleepNet
from model.size import Size
from streamer.network.stager import Model
from streamer.settings import Runtime


@cache  # over the repeats of a part: an export takes long
def untrained(size: Size, runtime: Runtime = "auto") -> Model:
    """Export a network with random weights and load it again, as any artifact; needs the extra `train`."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.pt"
        export(MC2SleepNet(size).eval(), size, "nothing", path, onnx=runtime != "torchscript")
        return Model.load(path, runtime=runtime, trusted=True)
