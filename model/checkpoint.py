"""A run on disk: everything needed to go on as if it had never stopped, or to export its network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from model.mc2sleepnet import MC2SleepNet
from model.size import Size
from streamer.errors import ArtifactError

FORMAT = "sleepstream/checkpoint/1"


@dataclass
class Checkpoint:
    """A network and, while training, what surrounds it."""

    size: Size
    network: MC2SleepNet
    trained_on: str
    progress: dict[str, Any]  # of model.train: stage, step, optimiser, averages, random state; may be empty


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; it appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    torch.save(
        {
            "format": FORMAT,
            "size": asdict(checkpoint.size),
            "network": checkpoint.network.state_dict(),
            "trained_on": checkpoint.trained_on,
            "progress": checkpoint.progress,
        },
        partial,
    )
    partial.replace(path)


def load_checkpoint(path: Path, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint; ArtifactError when it is not there or another kind of file."""
    if not path.exists():
        raise ArtifactError(f"checkpoint {path}: no such file; train that run first")
    saved = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ArtifactError(f"checkpoint {path}: not made by model.train; give last.pt or best.pt of a run")
    size = Size(**saved["size"])
    network = MC2SleepNet(size)
    network.load_state_dict(saved["network"])
    return Checkpoint(size, network.to(device), saved["trained_on"], saved["progress"])
