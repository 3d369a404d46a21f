"""What runs the network fastest, side by side, and whether fewer bits would change the stages.

`us` is what encoding and stepping over an epoch take, the fastest tenth of many, taken in turn: CPU time of
the one thread, but of the wall (`wall_us`) on two threads and on a GPU. `_of_16` is a stream's share where 16
go together, `company_off` what those 15 do to its probabilities. `agreement` is the share of epochs of the
same stage as TorchScript gives in float32 on a CPU, `off` the largest difference of a probability, over a
simulated night and the prepared ones of --nights. With --device cuda, a GPU's ways instead. On a CPU it needs
an artifact with ONNX graphs, and the extra `train` to make the int8 ones.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from streamer.errors import UsageError
from streamer.network.artifact import GRAPHS, graphs_inside, load_network, torchscript
from streamer.network.contract import Contract, contract_inside
from streamer.network.cuda_graph import Capture, CudaGraph, with_graphs
from streamer.network.onnx import OnnxNetwork
from streamer.network.stager import Model
from streamer.network.torchscript import TorchNetwork
from streamer.network.trust import PACKAGED, read_trusted
from streamer.settings import Precision
from tools.bench.agreement import agreement, nights
from tools.bench.figures import Asked, Figures, Wanted

Clock = Callable[[], float]
ROUNDS = 200
TOGETHER = 16
ALIKE = ("torchscript_unfrozen", "torchscript_optimised")  # in float32 as well, and only timed
NOT_OFFERED = "onnx_int8"  # by `[model] runtime` and `precision`
WANTED: Wanted = {"least_agreement": (">=", 0.995)}  # of what is offered


def measure(asked: Asked) -> Figures:
    """Measure every way of running one artifact on a device."""
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; leave it out to measure the CPU")
    data, path = read_trusted(asked.model, trusted=True), asked.model or PACKAGED
    contract, device = contract_inside(data, path), torch.device(asked.device)
    exact = Model(load_network(data, path, contract, torch.device("cpu")), contract, torch.device("cpu"))
    if device.type == "cuda":
        ways = on_gpu(load_network(data, path, contract, device), device)
        figures = _us(ways, device, 1, time.perf_counter) | _us(ways, device, TOGETHER, time.perf_counter)
    else:
        ways = _on_cpu(exact.network, data, path, contract)
        figures = _us(ways, device, 1, time.thread_time) | _us(ways, device, TOGETHER, time.thread_time)
        figures |= _on_two_threads(exact.network, data, path, contract)
    figures |= {f"{name}_company_off": company_off(network, device) for name, network in ways.items()}
    others = {name: network for name, network in ways.items() if name not in ALIKE}
    found = agreement(exact, others, nights(asked.hours, asked.nights))
    offered = tuple(f"{name}_agreement" for name in others if name != NOT_OFFERED)
    least = min(float(figure) for name, figure in found.items() if name.startswith(offered))
    return figures | found | {"least_agreement": least}


def on_gpu(scripted: Any, device: torch.device, capture: Capture = CudaGraph) -> dict[str, Any]:
    """Each precision, launched kernel by kernel and by CUDA graphs."""
    ways: dict[str, Any] = {}
    for precision in get_args(Precision):
        ways[precision] = plain = TorchNetwork(scripted, device, precision)
        ways[f"{precision}_graphs"] = graphed = with_graphs(plain, device, capture)
        if graphed is plain:  # what the log says
            raise UsageError(f"precision {precision}: no CUDA graphs to measure")
    return ways


def _on_cpu(scripted: Any, data: bytes, path: Path, contract: Contract) -> dict[str, Any]:
    cpu, graphs = torch.device("cpu"), graphs_inside(data, path, contract)
    with torchscript():
        optimised = torch.jit.optimize_for_inference(
            load_network(data, path, contract, cpu), other_methods=["encode", "step", "initial_state"]
        )
    return {
        "torchscript_unfrozen": scripted,
        "torchscript": TorchNetwork(scripted, cpu),
        "torchscript_optimised": optimised,
        "torchscript_bfloat16": TorchNetwork(scripted, cpu, "bfloat16"),
        "torchscript_float16": TorchNetwork(scripted, cpu, "float16"),
        "onnx": OnnxNetwork(scripted, graphs),
        "onnx_int8": OnnxNetwork(scripted, {name: _int8(graphs[name]) for name in GRAPHS}),
    }


def _on_two_threads(scripted: Any, data: bytes, path: Path, contract: Contract) -> Figures:
    """Beside one thread, on the wall; torch has as many as it was told for all that it runs."""
    cpu, graphs = torch.device("cpu"), graphs_inside(data, path, contract)
    figures: Figures = {}
    for threads in (1, 2):
        ways = {
            f"torchscript_{threads}": TorchNetwork(scripted, cpu),
            f"onnx_{threads}": OnnxNetwork(scripted, graphs, threads),
        }
        torch.set_num_threads(threads)
        figures |= _us(ways, cpu, 1, time.perf_counter)
    torch.set_num_threads(1)
    return figures


def company_off(network: Any, device: torch.device, epochs: int = 8) -> float:
    """How far a stream's probabilities are off in the company of louder and quieter ones."""
    generator = torch.Generator().manual_seed(0)
    loud = torch.linspace(-20, 20, TOGETHER)  # dB, the first stream's is 0
    loud[0] = 0
    worst = 0.0
    with torch.inference_mode():
        alone, together = network.initial_state(1), network.initial_state(TOGETHER)
        present = torch.ones(TOGETHER, 2, dtype=torch.bool, device=device)
        for _ in range(epochs):
            raw = torch.randn(TOGETHER, 3000, generator=generator) * 20 * 10 ** (loud[:, None] / 20)
            spectrum = 35 + loud[:, None, None] + 10 * torch.randn(TOGETHER, 29, 128, generator=generator)
            raw, spectrum = raw.to(device), spectrum.to(device)
            one, alone = network.step(network.encode(raw[:1], spectrum[:1]), present[:1], alone)
            all_of_them, together = network.step(network.encode(raw, spectrum), present, together)
            off = (torch.softmax(one, 1) - torch.softmax(all_of_them[:1], 1)).abs().max()
            worst = max(worst, float(off))
    return worst


def _int8(graph: bytes) -> bytes:
    """Keep the weights of linear maps in 8 bits, and take their inputs in 8 bits as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(graph)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        return after.read_bytes()


def _us(ways: Mapping[str, Any], device: torch.device, streams: int, clock: Clock) -> Figures:
    taken = _in_turn({name: _epoch(network, device, streams) for name, network in ways.items()}, clock)
    name = ("" if streams == 1 else f"of_{streams}_") + ("wall_us" if clock is time.perf_counter else "us")
    return {f"{way}_{name}": float(np.quantile(s, 0.1)) * 1e6 / streams for way, s in taken.items()}


def _epoch(network: Any, device: torch.device, streams: int) -> Callable[[], object]:
    raw = 20 * torch.randn(streams, 3000).to(device)
    spectrum = 35 + 10 * torch.randn(streams, 29, 128).to(device)
    present = torch.ones(streams, 2, dtype=torch.bool, device=device)
    if isinstance(network, OnnxNetwork):  # tensors are none of what it is asked with at work
        stepper, arrays = network.stepper, [tensor.numpy() for tensor in (raw, spectrum, present)]
        past = stepper.joined([stepper.start()] * streams)
        return lambda: stepper.step(stepper.encode(*arrays[:2]), arrays[2], past)
    with torch.inference_mode():
        state = network.initial_state(streams)

    def run() -> None:
        with torch.inference_mode():
            network.step(network.encode(raw, spectrum), present, state)
        if device.type == "cuda":
            torch.cuda.synchronize()  # or only launches would be timed

    return run


def _in_turn(work: dict[str, Callable[[], object]], clock: Clock) -> dict[str, list[float]]:
    """Seconds of each, time and again; the first rounds, which compile, do not count."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            run()  # what it needs is in the cache of the processor again
            began = clock()
            run()
            taken[name].append(clock() - began)
    return {name: times[ROUNDS // 10 :] for name, times in taken.items()}
