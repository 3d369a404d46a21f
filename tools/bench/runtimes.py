"""What runs the network fastest on a CPU, side by side, and whether fewer bits would change the stages.

`us` is the wall's time of encoding and stepping over one epoch, the fastest tenth of many, taken in turn;
`_2` runs on two threads. `agreement` is the share of a simulated night's epochs of the same stage as with
TorchScript in float32. Needs an artifact with ONNX graphs, and the extra `train` to make the int8 ones.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamer.contract import contract_inside
from streamer.messages import Label, Score
from streamer.network import GRAPHS, OnnxNetwork, State, graphs_inside, load_network
from streamer.stager import Model
from streamer.trust import PACKAGED, read_trusted
from tools.bench.figures import Asked, Figures
from tools.bench.signals import pipeline, simulated

METHODS = ["encode", "step", "initial_state"]
ROUNDS = 200
WANTED = {"onnx_agreement": (">=", 0.995)}


def measure(asked: Asked) -> Figures:
    """Measure every way of running one artifact."""
    data, path = read_trusted(asked.model, trusted=True), asked.model or PACKAGED
    contract, cpu = contract_inside(data, path), torch.device("cpu")
    scripted = load_network(data, path, contract, cpu)
    ways: dict[str, Any] = {"torchscript": scripted, "bfloat16": _Halved(scripted)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's deprecation, which is why this is measured
        ways["torchscript_frozen"] = torch.jit.freeze(scripted, preserved_attrs=[*METHODS, "mask"])
        ways["torchscript_optimised"] = torch.jit.optimize_for_inference(scripted, other_methods=METHODS)
    graphs = graphs_inside(data, path, contract)
    ways["onnx"] = OnnxNetwork(scripted, graphs)
    ways["onnx_int8"] = OnnxNetwork(scripted, {name: _int8(graphs[name]) for name in GRAPHS})
    ways["onnx_2"] = OnnxNetwork(scripted, graphs, threads=2)
    taken = _in_turn({name: _epoch(network) for name, network in ways.items()})
    figures: Figures = {f"{name}_us": float(np.quantile(times, 0.1)) * 1e6 for name, times in taken.items()}
    torch.set_num_threads(2)
    alone = _in_turn({"torchscript_2": _epoch(scripted)})
    torch.set_num_threads(1)
    figures["torchscript_2_us"] = float(np.quantile(alone["torchscript_2"], 0.1)) * 1e6
    figures["torchscript_over_onnx"] = float(figures["torchscript_us"]) / float(figures["onnx_us"])
    exact = _stages(Model(scripted, contract, cpu), asked.hours)
    for name in ("onnx", "onnx_int8", "bfloat16"):
        figures[f"{name}_agreement"] = _agreement(
            exact, _stages(Model(ways[name], contract, cpu), asked.hours)
        )
    return figures


class _Halved:
    """A network whose products are taken in bfloat16, as torch's autocast sees fit."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.mask, self.initial_state = network.mask, network.initial_state

    def encode(self, raw: Tensor, spectrum: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            tokens: Tensor = self._network.encode(raw, spectrum).float()
        return tokens

    def step(self, tokens: Tensor, present: Tensor, state: Any) -> tuple[Tensor, State]:
        with torch.autocast("cpu", torch.bfloat16):
            logits, after = self._network.step(tokens, present, state)
        return logits.float(), State(after.memory.float(), after.seen)


def _int8(graph: bytes) -> bytes:
    """Keep the weights of linear maps in 8 bits, and take their inputs in 8 bits as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(graph)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        return after.read_bytes()


def _epoch(network: Any) -> Callable[[], object]:
    raw, spectrum = 20 * torch.randn(1, 3000), 35 + 10 * torch.randn(1, 29, 128)
    present = torch.ones(1, 2, dtype=torch.bool)
    with torch.inference_mode():
        state = network.initial_state(1)

    def run() -> object:
        with torch.inference_mode():
            return network.step(network.encode(raw, spectrum), present, state)

    return run


def _in_turn(work: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds on the wall of each, time and again; the first rounds, which compile, do not count."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            run()  # what it needs is in the cache of the processor again
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return {name: times[ROUNDS // 10 :] for name, times in taken.items()}


def _stages(model: Model, hours: float) -> list[Label]:
    path = pipeline(model, 30)
    outputs = (output for item in simulated(hours) for output in path.push(item))
    return [output.stage for output in outputs if isinstance(output, Score)]


def _agreement(ours: Sequence[Label], theirs: Sequence[Label]) -> float:
    return float(np.mean([one == other for one, other in zip(ours, theirs, strict=True)]))
