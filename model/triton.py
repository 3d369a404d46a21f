"""An artifact as a model repository for NVIDIA Triton: `python -m model.triton ARTIFACT.pt REPOSITORY`.

Triton's PyTorch backend calls `forward` alone, on tensors alone; the artifact has `encode`, `initial_state`
and `step`. So its weights go into another script, which encodes and steps, state in and state out.
"""

# No `from __future__ import annotations` here: TorchScript reads the annotations themselves.

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.mc2sleepnet import HIDDEN, SIZES, MC2SleepNet, Size, State
from streamer.errors import ArtifactError, SleepstreamError
from streamer.network.artifact import torchscript
from streamer.network.contract import Contract
from streamer.network.stager import Model
from streamer.remote import stateless
from streamer.remote.client import served_name
from streamer.remote.kserve import Tensors

TOLERANCE = 1e-5  # of a logit and of what is remembered
MAX_BATCH = 64
QUEUE_US = 2000  # how long a request waits for others


class Forward(nn.Module):
    """What `stateless.step` does, as one method: the tensors of `stateless.inputs` in, `outputs` out."""

    digest: Tensor

    def __init__(self, network: MC2SleepNet, weights_sha256: str) -> None:
        super().__init__()
        self.network = network
        digest = torch.tensor(list(bytes.fromhex(weights_sha256)), dtype=torch.uint8)
        self.register_buffer("digest", digest)

    def forward(
        self, raw: Tensor, spectrum: Tensor, present: Tensor, memory: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3000), (B, 29, 128), (B, 2), (B, ...), (B, 1) -> (B, 5), (B, ...), (B, 1), (B, 32)."""
        tokens = self.network.encode(raw, spectrum)
        logits, state = self.network.step(tokens, present, State(memory, seen[:, 0]))
        return logits, state.memory, state.seen.unsqueeze(1), self.digest.expand(raw.size(0), -1)


def write_repository(model: Model, size: Size, folder: Path) -> Path:
    """Write `folder`/NAME/config.pbtxt and /1/model.pt, where NAME is what engines ask for; that folder.

    Args:
        model: the artifact.
        size: of its network.
        folder: Triton's model repository.

    Raises:
        ArtifactError: the network does otherwise in this form; nothing is written.

    """
    network = MC2SleepNet(size)
    network.load_state_dict(model.network.scripted.state_dict())
    forward = Forward(network.eval(), model.contract.weights_sha256).eval()
    with torchscript():
        for name in ("encode", "step"):
            torch.jit.export(getattr(MC2SleepNet, name))
        scripted = torch.jit.script(forward)
        verify(model, scripted)
        home = folder / served_name(model.contract.weights_sha256)
        (home / "1").mkdir(parents=True, exist_ok=True)
        torch.jit.save(scripted, str(home / "1" / "model.pt"))
    (home / "config.pbtxt").write_text(config(model.contract, stateless.memory_shape(model)), "utf-8")
    return home


def verify(model: Model, scripted: Any) -> None:
    """Refuse a script that does otherwise than the artifact, over a few steps of three streams."""
    rng = np.random.default_rng(0)
    memory: Any = np.zeros((3, *stateless.memory_shape(model)), np.float32)
    seen: Any = np.zeros((3, 1), np.int64)
    for number in range(4):
        given: Tensors = {
            stateless.RAW: rng.normal(0, 20, (3, 3000)).astype(np.float32),
            stateless.SPECTRUM: rng.normal(35, 10, (3, 29, 128)).astype(np.float32),
            stateless.PRESENT: np.array([[True, True], [number != 2, number != 2], [True, False]]),
            stateless.MEMORY_IN: memory,
            stateless.SEEN_IN: seen,
        }
        given[stateless.RAW][0, 100:200] = np.nan
        expected = stateless.step(model, given)
        with torch.inference_mode():
            found = scripted(*(torch.from_numpy(tensor) for tensor in given.values()))
        for (name, one), other in zip(expected.items(), found, strict=True):
            if not np.allclose(one, other.numpy(), rtol=0, atol=TOLERANCE):
                raise ArtifactError(f"triton: {name} differs from the artifact's; it cannot be served so")
        memory, seen = expected[stateless.MEMORY], expected[stateless.SEEN]


def config(contract: Contract, memory: tuple[int, ...]) -> str:
    """Triton's description of the model: a ModelConfig in protobuf's text format."""
    return "\n".join(
        [
            f'name: "{served_name(contract.weights_sha256)}"',
            'platform: "pytorch_libtorch"',
            f"max_batch_size: {MAX_BATCH}",
            f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_US} }}",
            *_listed("input", stateless.inputs(memory)),
            *_listed("output", stateless.outputs(memory)),
            'parameters { key: "weights_sha256" value { string_value: "' + contract.weights_sha256 + '" } }',
            "",
        ]
    )


def _listed(what: str, kinds: dict[str, stateless.Kind]) -> list[str]:
    return [
        f'{what} {{ name: "{name}" data_type: TYPE_{kind.datatype} dims: {list(kind.shape)} }}'
        for name, kind in kinds.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    """Write the repository of one artifact."""
    parser = argparse.ArgumentParser(prog="python -m model.triton", description=__doc__.split("\n", 1)[0])
    parser.add_argument("artifact", type=Path, help="as model.export wrote it")
    parser.add_argument("repository", type=Path, help="folder that Triton is started with")
    parser.add_argument(
        "--sha256", required=True, help="that the artifact must have: a model file can run any code"
    )
    asked = parser.parse_args(arguments)
    try:
        model = Model.load(asked.artifact, runtime="torchscript", sha256=asked.sha256)
        if model.contract.size not in SIZES:
            raise ArtifactError(f"model {asked.artifact}: its size {model.contract.size!r} is none we know")
        (views,) = (name for name, view in HIDDEN.items() if view == model.network.scripted.hidden)
        size = replace(SIZES[model.contract.size], views=views, context=model.contract.context_epochs)
        home = write_repository(model, size, asked.repository)
    except SleepstreamError as error:
        parser.exit(1, f"{error}\n")
    print(f"{home}: start it with  tritonserver --model-repository {asked.repository}")


if __name__ == "__main__":
    main()
