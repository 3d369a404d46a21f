"""A training run on disk: everything needed to resume it exactly, or to export its network.

A network can also be read from an exported artifact, so that the packaged one can be trained further.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import torch
from pydantic import TypeAdapter

from model.mc2sleepnet import MC2SleepNet
from model.size import Size
from streamer.errors import ArtifactError
from streamer.network.artifact import SIZE_NAME, contract_inside, files_inside
from streamer.network.contract import FILE_NAME
from streamer.network.torch_loader import load_script
from streamer.network.trust import PACKAGED, read_trusted

FORMAT = "sleepstream/checkpoint/1"


@dataclass
class Checkpoint:
    """A network and, during training, the state of the run."""

    size: Size
    network: MC2SleepNet
    trained_on: str
    progress: dict[str, Any]  # of model.train: stage, step, optimiser, averages, random state; may be empty


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
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


def load_start(start: Path | Literal["packaged"]) -> Checkpoint:
    """Return the network that another run begins with: of a checkpoint, or of an artifact.

    Of an ensemble it is the last member, which standardises over the past: what it learns of a new electrode
    does not hang on amplitudes that the others know from elsewhere.

    Raises:
        ArtifactError: it is not there, neither of the two, or says nothing of its network's shape.

    """
    path = PACKAGED if start == "packaged" else start
    if not path.exists() or not is_zipfile(path):
        return load_checkpoint(path)  # which says what is wrong
    found = files_inside(path.read_bytes(), path, (SIZE_NAME, FILE_NAME))
    if not found:
        return load_checkpoint(path)
    if SIZE_NAME not in found:
        raise ArtifactError(f"start {path}: an artifact without {SIZE_NAME}; export it again")
    data = read_trusted(None) if start == "packaged" else path.read_bytes()
    contract = contract_inside(data, path)
    sizes = TypeAdapter(list[Size]).validate_json(found[SIZE_NAME])
    weights = load_script(data, path, contract, torch.device("cpu")).state_dict()
    if len(sizes) > 1:
        mine = f"members.{len(sizes) - 1}."
        weights = {name.removeprefix(mine): one for name, one in weights.items() if name.startswith(mine)}
    network = MC2SleepNet(sizes[-1])
    network.load_state_dict(weights)
    return Checkpoint(sizes[-1], network, contract.trained_on, {})


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
