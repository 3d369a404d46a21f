"""Loads the TorchScript of an artifact onto a device."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from streamer.errors import ArtifactError
from streamer.network.contract import Contract, weights_sha256
from streamer.network.cuda_graph import with_graphs
from streamer.network.torchscript import TorchNetwork, TorchRunner, deprecated_script
from streamer.settings import Precision


def load_runner(
    data: bytes, path: Path, contract: Contract, device: torch.device, precision: Precision, threads: int
) -> TorchRunner:
    """Load the TorchScript of an artifact, and prepare it to run fast on a device.

    Raises:
        ArtifactError: damaged, other weights than in the contract, or the device lacks this precision.

    """
    torch.set_num_threads(threads)
    scripted = load_script(data, path, contract, device)
    if device.type != "cuda":
        return TorchRunner(TorchNetwork(scripted, device, precision), device)
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ArtifactError(f"precision 'bfloat16': {name} cannot do it; use float16 or float32")
    torch.backends.cudnn.allow_tf32 = False  # TF32 has only 10 bits of mantissa
    return TorchRunner(with_graphs(TorchNetwork(scripted, device, precision), device), device)


def load_script(data: bytes, path: Path, contract: Contract, device: torch.device) -> Any:
    """Load the TorchScript, and check its weights against the contract.

    Raises:
        ArtifactError: damaged, or other weights than in the contract.

    """
    try:
        with deprecated_script():
            network = torch.jit.load(BytesIO(data), map_location=device).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"model {path}: damaged ({reason}); get the file again") from None
    found = weights_sha256(network.state_dict())
    if found != contract.weights_sha256:
        raise ArtifactError(
            f"model {path}: its weights (sha256 {found[:12]}...) are not those its contract describes "
            f"({contract.weights_sha256[:12]}...); get the file again"
        )
    return network


def find_device(name: str) -> torch.device:
    """Return a torch device.

    Raises:
        ArtifactError: there is none of that name.

    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArtifactError(f"device {name!r}: unknown; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ArtifactError(f"device {name!r}: torch finds no CUDA device here; use cpu")
    return device
