"""Turn a checkpoint into the one file the engine loads: TorchScript, ONNX graphs, and the contract.

    python -m model.export CHECKPOINT OUT.pt

Refuses unless the network gives the same probabilities in parallel, streamed, scripted and streamed,
scripted and in blocks of epochs, and streamed by ONNX Runtime.
Prints what the settings have to say for the engine to load it; a `SHA256SUMS` beside it is renewed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.graphs import graphs
from model.mc2sleepnet import FRAMES, MC2SleepNet, Size, parameter_count
from streamer import __version__
from streamer.errors import ArtifactError
from streamer.messages import EPOCH_SAMPLES
from streamer.network.artifact import torchscript
from streamer.network.contract import FILE_NAME, Contract, weights_sha256
from streamer.network.onnx import OnnxNetwork
from streamer.network.trust import record
from streamer.parallel import advance
from streamer.spectrogram import BINS

TOLERANCE = 1e-5  # of a probability
LIVE_METHODS = ("encode", "initial_state", "step", "relate", "classify")  # what the engine calls


def export(network: MC2SleepNet, size: Size, trained_on: str, out: Path, *, onnx: bool = True) -> Contract:
    """Script, verify and write `network`.

    Args:
        network: the weights.
        size: that it was made with.
        trained_on: in words.
        out: the artifact.
        onnx: add the graphs for ONNX Runtime (seconds); without them the engine takes the slower TorchScript.

    Raises:
        ArtifactError: its passes disagree, or it sees the future; nothing is written.

    """
    if not size.causal:
        raise ArtifactError(
            "export: this network is bidirectional, it needs epochs that a live night does not have yet; "
            "train with causal = true"
        )
    network = network.cpu().eval()
    files = graphs(network) if onnx else {}
    contract = Contract(
        size=size.name,
        parameters=parameter_count(network),
        context_epochs=size.context,
        warmup_epochs=min(10, size.context),  # most of what context gives comes with the first few minutes
        temperature=float(network.temperature),
        trained_on=trained_on,
        created=datetime.now(UTC).replace(microsecond=0),
        versions={"sleepstream": __version__, "torch": torch.__version__},
        weights_sha256=weights_sha256(network.state_dict()),
        graphs_sha256={name: sha256(graph).hexdigest() for name, graph in files.items()},
    )
    partial = out.with_name(f".{out.name}.partial")
    try:
        scripted = save_scripted(network, contract, files, partial)
        verify(network, scripted, OnnxNetwork(scripted, files) if onnx else None, size.context)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return contract


def save_scripted(network: MC2SleepNet, contract: Contract, files: Mapping[str, bytes], path: Path) -> Any:
    """Script the live methods and write them with all else; only here does `model` touch torch.jit."""
    extra = {FILE_NAME: contract.model_dump_json(by_alias=True), **files}
    with torchscript():
        for name in LIVE_METHODS:
            torch.jit.export(getattr(type(network), name))
        scripted = torch.jit.script(network)
        torch.jit.save(scripted, str(path), _extra_files=extra)
    return scripted


def verify(network: MC2SleepNet, scripted: Any, onnx: OnnxNetwork | None, context: int) -> None:
    """Refuse a network that would do otherwise live than it did in training.

    The signal outlasts the context, has lost samples, lost epochs and lost views.
    """
    generator = torch.Generator().manual_seed(0)
    epochs = 2 * context + 3
    raw = 20 * torch.randn(1, epochs, EPOCH_SAMPLES, generator=generator)
    spectrum = 35 + 10 * torch.randn(1, epochs, FRAMES, BINS, generator=generator)
    raw[0, 1, 500:900] = spectrum[0, 1, 4:9] = torch.nan
    present = torch.rand(1, epochs, 2, generator=generator) > 0.1
    present[0, 2] = False
    with torch.inference_mode():
        parallel = torch.softmax(network(raw, spectrum, present)[0, :, 0], -1)
        passes = {
            "streamed": streamed(network, raw, spectrum, present),
            "scripted and streamed": streamed(scripted, raw, spectrum, present),
            "scripted and blockwise": in_blocks(scripted, raw, spectrum, present, max(2, context - 1)),
        }
        if onnx is not None:
            passes["ONNX"] = streamed(onnx, raw, spectrum, present)
        for name, found in passes.items():
            worst = float((found - parallel).abs().max())
            if not worst <= TOLERANCE:  # NaN must not pass
                raise ArtifactError(
                    f"export: the {name} pass differs from the parallel one by {worst:.1e} in a probability, "
                    f"{TOLERANCE:.0e} is allowed; the network looks ahead or its state is wrong"
                )


def streamed(live: Any, raw: Tensor, spectrum: Tensor, present: Tensor) -> Tensor:
    """Probabilities (T, 5) of one stream, epoch by epoch."""
    state = live.initial_state(1)
    rows = []
    for epoch in range(raw.size(1)):
        logits, state = live.step(live.encode(raw[:, epoch], spectrum[:, epoch]), present[:, epoch], state)
        rows.append(torch.softmax(logits[0], -1))
    return torch.stack(rows)


def in_blocks(live: Any, raw: Tensor, spectrum: Tensor, present: Tensor, epochs: int) -> Tensor:
    """Probabilities (T, 5) of one stream, `epochs` at once."""
    state = live.initial_state(1)
    rows = []
    for begin in range(0, raw.size(1), epochs):
        part = slice(begin, begin + epochs)
        tokens = live.encode(raw[0, part], spectrum[0, part])[None]
        logits, state = advance(live, tokens, present[:, part], state)
        rows.append(torch.softmax(logits[0], -1))
    return torch.cat(rows)


def main(arguments: list[str] | None = None) -> None:
    """Export a checkpoint of model.train."""
    parser = argparse.ArgumentParser(prog="python -m model.export", description=__doc__.split("\n", 1)[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--no-onnx", action="store_true", help="leave the graphs for ONNX Runtime out")
    options = parser.parse_args(arguments)
    try:
        saved = load_checkpoint(options.checkpoint)
        contract = export(saved.network, saved.size, saved.trained_on, options.out, onnx=not options.no_onnx)
    except ArtifactError as error:
        parser.exit(1, f"{error}\n")
    print(
        f"{options.out}: size {contract.size}, {contract.parameters} parameters, "
        f"{options.out.stat().st_size} bytes; to use it, write into the settings:\n"
    )
    where = json.dumps(str(options.out.resolve()), ensure_ascii=False)  # quoted as TOML does it
    print(f'[model]\npath = {where}\nsha256 = "{record(options.out)}"')


if __name__ == "__main__":
    main()
