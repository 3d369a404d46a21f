"""Turn a checkpoint into the one file the engine loads: TorchScript, ONNX graphs, and the contract.

    python -m model.export CHECKPOINT OUT.pt

Refuses unless the network gives the same probabilities in parallel, streamed and in blocks of epochs: as it
is, scripted, and run by ONNX Runtime.
Prints what the settings have to say for the engine to load it; a `SHA256SUMS` beside it is renewed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.ensemble import Ensemble
from model.graphs import graphs
from model.mc2sleepnet import MC2SleepNet, parameter_count
from model.size import Size
from streamer import __version__
from streamer.errors import ArtifactError
from streamer.messages import EPOCH_SAMPLES
from streamer.network.artifact import GRAPHS, SIZE_NAME
from streamer.network.contract import FILE_NAME, Contract, Shape, weights_sha256
from streamer.network.onnx import OnnxRunner
from streamer.network.runner import Given, Runner
from streamer.network.torchscript import LIVE, TorchRunner, deprecated_script
from streamer.network.trust import record
from streamer.window import BINS, FRAMES

TOLERANCE = 1e-5  # of a probability


def export(
    network: MC2SleepNet | Ensemble,
    sizes: Size | Sequence[Size],
    trained_on: str,
    out: Path,
    *,
    onnx: bool = True,
) -> Contract:
    """Script, verify and write `network`.

    Args:
        network: the network with its weights.
        sizes: the size that it was made with; for an ensemble, one per member.
        trained_on: a description of the training nights.
        out: the artifact to write.
        onnx: add the graphs for ONNX Runtime (takes seconds); without them the engine uses the slower
            TorchScript.

    Raises:
        ArtifactError: its passes disagree, or an output depends on the future; nothing is written.

    """
    every = [sizes] if isinstance(sizes, Size) else list(sizes)
    size = every[0]
    network = network.cpu().eval()
    refuse(network, every)
    verify(network, {"eager": TorchRunner(network, torch.device("cpu"))}, size.context)
    files = graphs(network) if onnx else {}
    contract = Contract(
        size=" + ".join(one.name for one in every),
        parameters=parameter_count(network),
        context_epochs=size.context,
        state=Shape(memory=network.memory_shape, features=network.features),
        warmup_epochs=min(10, size.context),  # the first few minutes of context bring most of its benefit
        temperature=float(network.temperature),
        trained_on=trained_on,
        created=datetime.now(UTC).replace(microsecond=0),
        versions={"sleepstream": __version__, "torch": torch.__version__},
        weights_sha256=weights_sha256(network.state_dict()),
        graphs_sha256={name: sha256(graph).hexdigest() for name, graph in files.items()},
    )
    partial = out.with_name(f".{out.name}.partial")
    try:
        scripted = save_scripted(network, every, contract, files, partial)
        runners: dict[str, Runner] = {"scripted": TorchRunner(scripted, torch.device("cpu"))}
        if onnx:
            runners["ONNX"] = OnnxRunner(files[GRAPHS[0]], files[GRAPHS[1]], contract.state)
        verify(network, runners, size.context)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return contract


def refuse(network: MC2SleepNet | Ensemble, sizes: Sequence[Size]) -> None:
    """Raise ArtifactError, with advice, if the network cannot run live or its weights are not finite."""
    if not all(one.causal for one in sizes):
        raise ArtifactError(
            "export: this network is bidirectional, it needs epochs that a live night does not have yet; "
            "train with causal = true"
        )
    broken = [name for name, one in network.state_dict().items() if not one.isfinite().all()]
    if broken:
        raise ArtifactError(
            f"export: NaN or infinity in {', '.join(broken[:3])}; train again, from nights that are not lost "
            "throughout or at a lower learning rate"
        )


def save_scripted(
    network: MC2SleepNet | Ensemble,
    sizes: Sequence[Size],
    contract: Contract,
    files: Mapping[str, bytes],
    path: Path,
) -> Any:
    """Script the live methods and write the artifact; the only use of torch.jit in `model`."""
    extra = {
        FILE_NAME: contract.model_dump_json(by_alias=True),
        SIZE_NAME: json.dumps([asdict(one) for one in sizes]),
        **files,
    }
    with deprecated_script():
        for name in LIVE:
            torch.jit.export(getattr(type(network), name))
        scripted = torch.jit.script(network)
        torch.jit.save(scripted, str(path), _extra_files=extra)
    leave_out_places(path)
    return scripted


def leave_out_places(path: Path) -> None:
    """Remove from an artifact where on this computer the code lay: nobody's folders are passed on."""
    whole = BytesIO(path.read_bytes())
    with ZipFile(whole) as found, ZipFile(path, "w") as kept:
        for name in found.namelist():
            if not name.endswith(".debug_pkl"):
                kept.writestr(name, found.read(name))


def verify(network: MC2SleepNet | Ensemble, runners: Mapping[str, Runner], context: int) -> None:
    """Raise ArtifactError if the network scores differently live than in training.

    The test signal is longer than the context and has lost samples, lost epochs and lost views.
    """
    generator = torch.Generator().manual_seed(0)
    epochs = 2 * context + 3
    raw = 20 * torch.randn(1, epochs, EPOCH_SAMPLES, generator=generator)
    spectrum = 35 + 10 * torch.randn(1, epochs, FRAMES, BINS, generator=generator)
    spectrum += torch.linspace(-5, 5, epochs)[:, None, None]  # a level that drifts
    raw[0, 1, 500:900] = spectrum[0, 1, 4:9] = torch.nan
    present = torch.rand(1, epochs, 2, generator=generator) > 0.1
    present[0, 2] = False
    given = Given(raw[0].numpy(), spectrum[0].numpy(), present[0].numpy())
    with torch.inference_mode():
        parallel = torch.softmax(network(raw, spectrum, present)[0, :, 0], -1)
    for name, runner in runners.items():
        for how, block in (("streamed", 1), ("blockwise", max(2, context - 1))):
            worst = float((run(runner, given, block) - parallel).abs().max())
            if not worst <= TOLERANCE:  # NaN must not pass
                raise ArtifactError(
                    f"export: the {name} {how} pass differs from the parallel one by {worst:.1e} in a "
                    f"probability, {TOLERANCE:.0e} is allowed; the network looks ahead or its state is wrong"
                )


def run(runner: Runner, given: Given, block: int = 1) -> Tensor:
    """Return probabilities (T, 5) of one stream, computed `block` epochs at a time (1: as live)."""
    past, rows = runner.start(), []
    for begin in range(0, len(given.raw), block):
        epochs = slice(begin, begin + block)
        part = Given(given.raw[epochs], given.spectrum[epochs], given.present[epochs])
        if block == 1:
            logits, after = runner.step(part, past)
            past = after()
        else:
            logits, past = runner.block(part, past)
        rows.append(torch.softmax(torch.from_numpy(logits), -1))
    return torch.cat(rows)


def tell(out: Path, contract: Contract) -> None:
    """Record an artifact's digest, and print the settings that make the engine use it."""
    print(
        f"{out}: size {contract.size}, {contract.parameters} parameters, {out.stat().st_size} bytes; to use "
        "it, write into the settings:\n"
    )
    where = json.dumps(str(out.resolve()), ensure_ascii=False)  # quoted as TOML does it
    print(f'[model]\npath = {where}\nsha256 = "{record(out)}"')


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
    tell(options.out, contract)


if __name__ == "__main__":
    main()
