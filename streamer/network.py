"""What runs the network: TorchScript, and on a CPU ONNX Runtime for what a live stream needs of it.

Both come out of one artifact and agree to 1e-5 of a probability, or it is not exported (model/export.py).
docs/speed.md has them side by side. Another runtime would be another class with the methods of `OnnxNetwork`.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import onnxruntime
import torch
from torch import Tensor

from streamer.contract import Contract, weights_sha256
from streamer.errors import ArtifactError
from streamer.stepper import TO_STATE, OnnxStepper

Runtime = Literal["auto", "onnx", "torchscript"]
# In an artifact, beside its contract. A graph that takes something else gets another name: an artifact with
# the former step.onnx counts as one without graphs.
GRAPHS = ("encode.onnx", "hop.onnx")
WARMUP_CALLS = 4  # TorchScript profiles and recompiles during the first ones


class State(NamedTuple):
    """What a stream remembers between epochs, as model/mc2sleepnet.py lays it out."""

    memory: Tensor  # (B, layers, 2 views, 2 attentions, key/value, H, P, D / H)
    seen: Tensor  # (B,) int64


class OnnxNetwork:
    """A network whose `encode` and `step` ONNX Runtime runs on the CPU; the rest stays with TorchScript.

    With tensors, as any network; live streams take its `stepper`, which needs none.

    Args:
        scripted: the same network.
        graphs: ONNX files by the names in `GRAPHS`.
        threads: that each graph may use.

    """

    def __init__(self, scripted: Any, graphs: Mapping[str, bytes], threads: int = 1) -> None:
        self.scripted = scripted
        self.mask: Tensor = scripted.mask
        memory, _ = scripted.initial_state(1)
        encode, step = (_session(graphs[name], threads) for name in GRAPHS)
        self.stepper = OnnxStepper(encode, step, memory.numpy())

    def encode(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        """Embed epochs: (B, 3000) µV and (B, 29, 128) dB, NaN where lost -> tokens (B, 2, D)."""
        return torch.from_numpy(self.stepper.encode(raw.numpy(), spectrum.numpy()))

    def step(self, tokens: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        """One epoch: tokens (B, 2, D), present (B, 2) bool -> joint logits (B, 5), next state."""
        memory, seen = state
        past = self.stepper.past(memory.numpy(), seen.numpy())
        logits, new = self.stepper.run(tokens.numpy(), present.numpy(), past)
        added = torch.from_numpy(new).permute(TO_STATE)
        after = torch.cat([memory[:, :, :, :, :, :, 1:], added], dim=6)
        return torch.from_numpy(logits), State(after, (seen + 1).clamp(max=memory.size(6)))

    def initial_state(self, batch: int) -> State:
        """Return the state of `batch` streams that have seen nothing."""
        return State(*self.scripted.initial_state(batch))

    def relate(self, tokens: Tensor, present: Tensor, state: State) -> Any:
        """Run T further epochs through both stacks at once, as the network does."""
        return self.scripted.relate(tokens, present, state)

    def classify(self, first: Tensor, streams: Tensor) -> Any:
        """Give the logits of all heads, as the network does."""
        return self.scripted.classify(first, streams)

    def forward(self, raw: Tensor, spectrum: Tensor, present: Tensor) -> Any:
        """Run whole sequences at once, as the network does."""
        return self.scripted.forward(raw, spectrum, present)


def load_network(data: bytes, path: Path, contract: Contract, device: torch.device) -> Any:
    """Load TorchScript, the one place in the engine that does, and hold its weights against the contract.

    Raises:
        ArtifactError: damaged, or other weights than the contract says.

    """
    with warnings.catch_warnings():
        # torch 2.13 deprecates TorchScript without offering another format that carries methods and state.
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.load.*", category=DeprecationWarning)
        try:
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


def with_onnx(
    scripted: Any, data: bytes, path: Path, contract: Contract, device: torch.device, threads: int
) -> OnnxNetwork:
    """Have ONNX Runtime run the live methods of a network, with the graphs of its artifact.

    Raises:
        ArtifactError: there are none, they are not those of the contract, or the device is no CPU.

    """
    if device.type != "cpu":
        raise ArtifactError(f"runtime 'onnx' serves the CPU, not {device}; use runtime torchscript")
    return OnnxNetwork(scripted, graphs_inside(data, path, contract), threads)


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


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the night is mostly waiting
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
