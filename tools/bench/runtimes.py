"""What runs the network fastest, side by side, and whether fewer bits would change the stages.

`us` is what an epoch takes, the fastest tenth of many, taken in turn: CPU time of
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
from numpy.typing import NDArray

from streamer.errors import UsageError
from streamer.network.artifact import GRAPHS, contract_inside, graphs_inside
from streamer.network.contract import Contract
from streamer.network.cuda_graph import Capture, CudaGraph, with_graphs
from streamer.network.onnx import OnnxRunner
from streamer.network.runner import Given, Runner
from streamer.network.stager import Model, softmax
from streamer.network.torch_loader import load_script
from streamer.network.torchscript import TorchNetwork, TorchRunner
from streamer.network.trust import PACKAGED, read_trusted
from streamer.settings import Precision
from tools.bench.agreement import agreement, nights
from tools.bench.figures import Asked, Figures, Wanted

Clock = Callable[[], float]
Ways = dict[str, Runner]
CPU = torch.device("cpu")
ROUNDS = 200
TOGETHER = 16
NOT_OFFERED = "onnx_int8"  # by `[model] runtime` and `precision`
WANTED: Wanted = {"least_agreement": (">=", 0.995)}  # of what is offered


def measure(asked: Asked) -> Figures:
    """Measure every way of running one artifact on a device."""
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; leave it out to measure the CPU")
    data, path = read_trusted(asked.model, trusted=True), asked.model or PACKAGED
    contract = contract_inside(data, path)
    exact = Model(TorchRunner(TorchNetwork(load_script(data, path, contract, CPU), CPU), CPU), contract)
    if asked.device == "cuda":
        device = torch.device("cuda")
        ways = on_gpu(load_script(data, path, contract, device), device)
        clock: Clock = time.perf_counter
    else:
        ways, clock = _on_cpu(data, path, contract), time.thread_time
    figures = _us(ways, 1, clock) | _us(ways, TOGETHER, clock)
    if asked.device != "cuda":
        figures |= _on_two_threads(data, path, contract)
    figures |= {f"{name}_company_off": company_off(runner) for name, runner in ways.items()}
    found = agreement(exact, ways, nights(asked.hours, asked.nights))
    offered = tuple(f"{name}_agreement" for name in ways if name != NOT_OFFERED)
    least = min(float(figure) for name, figure in found.items() if name.startswith(offered))
    return figures | found | {"least_agreement": least}


def on_gpu(scripted: Any, device: torch.device, capture: Capture = CudaGraph) -> Ways:
    """Each precision, launched kernel by kernel and by CUDA graphs."""
    ways: Ways = {}
    for precision in get_args(Precision):
        plain = TorchNetwork(scripted, device, precision)
        graphed = with_graphs(plain, device, capture)
        if graphed is plain:  # what the log says
            raise UsageError(f"precision {precision}: no CUDA graphs to measure")
        ways[precision] = TorchRunner(plain, device)
        ways[f"{precision}_graphs"] = TorchRunner(graphed, device)
    return ways


def _on_cpu(data: bytes, path: Path, contract: Contract) -> Ways:
    graphs = graphs_inside(data, path, contract)
    ways: Ways = {
        "onnx": _onnx(graphs, contract),
        "onnx_int8": _onnx({name: _int8(graph) for name, graph in graphs.items()}, contract),
    }
    for precision in get_args(Precision):
        network = TorchNetwork(load_script(data, path, contract, CPU), CPU, precision)
        ways[f"torchscript_{precision}"] = TorchRunner(network, CPU)
    return ways


def _onnx(graphs: Mapping[str, bytes], contract: Contract, threads: int = 1) -> OnnxRunner:
    return OnnxRunner(*(graphs[name] for name in GRAPHS), contract.state, threads)


def _on_two_threads(data: bytes, path: Path, contract: Contract) -> Figures:
    """Beside one thread, on the wall; torch has as many as it was told for all that it runs."""
    graphs = graphs_inside(data, path, contract)
    scripted = load_script(data, path, contract, CPU)
    figures: Figures = {}
    for threads in (1, 2):
        ways: Ways = {
            f"torchscript_{threads}": TorchRunner(TorchNetwork(scripted, CPU), CPU),
            f"onnx_{threads}": _onnx(graphs, contract, threads),
        }
        torch.set_num_threads(threads)
        figures |= _us(ways, 1, time.perf_counter)
    torch.set_num_threads(1)
    return figures


def company_off(runner: Runner, epochs: int = 8) -> float:
    """How far a stream's probabilities are off in the company of louder and quieter ones."""
    rng = np.random.default_rng(0)
    loud_db = np.linspace(-20, 20, TOGETHER)
    loud_db[0] = 0  # the first stream's
    worst = 0.0
    alone, together = runner.start(), runner.joined([runner.start()] * TOGETHER)
    for _ in range(epochs):
        given = _epochs(TOGETHER, rng, loud_db)
        one, alone_after = runner.step(Given(*(each[:1] for each in given)), alone)
        all_of_them, together_after = runner.step(given, together)
        alone, together = alone_after(), together_after()
        off = np.abs(np.subtract(softmax(one[0].tolist()), softmax(all_of_them[0].tolist())))
        worst = max(worst, float(off.max()))
    return worst


def _epochs(streams: int, rng: np.random.Generator, loud_db: NDArray[np.float64]) -> Given:
    """Noise at EEG's amplitude, each stream so much louder."""
    raw = rng.normal(0, 20, (streams, 3000)) * 10 ** (loud_db[:, None] / 20)
    spectrum = 35 + loud_db[:, None, None] + rng.normal(0, 10, (streams, 29, 128))
    present = np.ones((streams, 2), np.bool_)
    return Given(raw.astype(np.float32), spectrum.astype(np.float32), present)


def _int8(graph: bytes) -> bytes:
    """Keep the weights of linear maps in 8 bits, and take their inputs in 8 bits as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(graph)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        return after.read_bytes()


def _us(ways: Mapping[str, Runner], streams: int, clock: Clock) -> Figures:
    taken = _in_turn({name: _epoch(runner, streams) for name, runner in ways.items()}, clock)
    name = ("" if streams == 1 else f"of_{streams}_") + ("wall_us" if clock is time.perf_counter else "us")
    return {f"{way}_{name}": float(np.quantile(s, 0.1)) * 1e6 / streams for way, s in taken.items()}


def _epoch(runner: Runner, streams: int) -> Callable[[], object]:
    """One step; its logits come back as an array, so that a GPU has done what it was asked for."""
    given = _epochs(streams, np.random.default_rng(1), np.zeros(streams))
    past = runner.joined([runner.start()] * streams)
    return lambda: runner.step(given, past)


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
