"""What an artifact holds besides its contract: the network as TorchScript, and its ONNX graphs."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from streamer.errors import ArtifactError
from streamer.network.contract import Contract, weights_sha256

# Beside the contract. A graph that takes something else gets another name: an artifact with the former
# step.onnx counts as one without graphs.
GRAPHS = ("encode.onnx", "hop.onnx")
WARMUP_CALLS = 4  # TorchScript profiles and recompiles during the first ones


def load_network(data: bytes, path: Path, contract: Contract, device: torch.device) -> Any:
    """Load the TorchScript, and hold its weights against the contract.

    Raises:
        ArtifactError: damaged, or other weights than the contract says.

    """
    try:
        with torchscript():
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


def graphs_inside(data: bytes, path: Path, contract: Contract) -> dict[str, bytes]:
    """Read the ONNX graphs of an artifact by their names.

    Raises:
        ArtifactError: there are none, or they are not those of the contract.

    """
    if set(contract.graphs_sha256) != set(GRAPHS):
        raise ArtifactError(
            f"model {path}: holds no ONNX graphs ({' and '.join(GRAPHS)}); use runtime torchscript, or "
            "export it again with them"
        )
    graphs: dict[str, bytes] = {}
    with zipfile.ZipFile(BytesIO(data)) as archive:
        for name in archive.namelist():
            stem = name.rpartition("/extra/")[2]
            if stem in GRAPHS:
                graphs[stem] = archive.read(name)
    found = {name: sha256(graph).hexdigest() for name, graph in graphs.items()}
    if found != contract.graphs_sha256:
        raise ArtifactError(
            f"model {path}: its ONNX graphs are not those of its contract; get the file again"
        )
    return graphs


@contextmanager
def torchscript() -> Iterator[None]:
    """Use `torch.jit`, which torch 2.13 deprecates; no other format carries methods and state."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        yield
