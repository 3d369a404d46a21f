"""Ways of running the network, side by side: what differs is found, a GPU's ways are the engine's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from model.data import Night, save_night
from model.export import export
from streamer.errors import UsageError
from streamer.network.cuda_graph import GraphedNetwork
from streamer.network.runner import Runner
from streamer.network.stager import Model
from streamer.network.torch_loader import load_script
from tests.model.tiny import TINY, network
from tests.network.test_cuda_graph import Rerun, refuses
from tools.bench.__main__ import main
from tools.bench.agreement import agreement, nights, probabilities
from tools.bench.runtimes import company_off, on_gpu

pytestmark = pytest.mark.train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    export(network(), TINY, "noise", path, onnx=False)
    return path


@pytest.fixture(scope="module")
def model(artifact: Path) -> Model:
    return Model.load(artifact, trusted=True)


@pytest.fixture(scope="module")
def scripted(artifact: Path, model: Model) -> Any:
    return load_script(artifact.read_bytes(), artifact, model.contract, CPU)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs, of which the third was lost."""
    samples = np.random.default_rng(0).normal(0, 20, 12000).astype(np.float16)
    samples[6000:9000] = np.nan
    path = tmp_path_factory.mktemp("nights") / "night.npz"
    save_night(path, Night("night", "anna", samples, np.zeros(4, np.int8)))
    return path


class Surer:
    """A network that is surer of itself; or that says W for R, and the other way round."""

    def __init__(self, runner: Runner, twisted: bool) -> None:
        self._runner, self._twisted = runner, twisted
        self.start, self.joined, self.block = runner.start, runner.joined, runner.block

    def step(self, *given: object) -> object:
        logits, after = self._runner.step(*given)
        return 2 * logits[:, ::-1] if self._twisted else 2 * logits, after


def test_what_differs_is_found(model: Model, prepared: Path) -> None:
    ways = {
        "same": model.runner,
        "surer": Surer(model.runner, False),
        "twisted": Surer(model.runner, True),
    }
    given = list(nights(0.05, [prepared]))
    found = agreement(model, ways, given)
    assert (found["simulated_epochs"], found["prepared_epochs"]) == (6, 3)
    expected = {kind: probabilities(model, night) for kind, night in given}
    for kind, rows in expected.items():
        logits = np.log(rows)
        surer = np.exp(2 * logits) / np.exp(2 * logits).sum(1, keepdims=True)
        assert found[f"same_agreement_{kind}"] == found[f"surer_agreement_{kind}"] == 1
        assert found[f"same_off_{kind}"] == 0
        assert found[f"surer_off_{kind}"] == pytest.approx(np.abs(surer - rows).max(), abs=1e-5)
        assert found[f"twisted_agreement_{kind}"] == np.mean(rows.argmax(1) == 2)


def test_a_gpus_ways_are_every_precision_with_and_without_graphs(
    model: Model, scripted: Any, prepared: Path
) -> None:
    ways = on_gpu(scripted, CPU, Rerun)
    assert [name for name, one in ways.items() if isinstance(one.network, GraphedNetwork)] == [
        "float32_graphs",
        "bfloat16_graphs",
        "float16_graphs",
    ]
    found = agreement(model, ways, list(nights(0.03, [prepared])))
    assert found["float32_graphs_off_prepared"] < 1e-5 < found["bfloat16_graphs_off_prepared"]


def test_graphs_that_could_not_be_had_are_not_measured(scripted: Any) -> None:
    with pytest.raises(UsageError, match="precision float32: no CUDA graphs to measure"):
        on_gpu(scripted, CPU, refuses)


def test_a_stream_that_hears_its_company_is_found(model: Model) -> None:
    class Mixing(Surer):
        def step(self, *given: object) -> object:
            logits, after = super().step(*given)
            return logits + logits.mean(0), after

    assert company_off(model.runner) < 1e-5
    assert company_off(Mixing(model.runner, False)) > 0.01


def test_a_gpu_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tools.bench.runtimes.torch", SimpleNamespace(cuda=SimpleNamespace(is_available=bool))
    )
    assert main(["--only", "runtimes", "--device", "cuda", "--repeats", "1"]) == 2
    assert "--device cuda: torch finds no CUDA device here" in capsys.readouterr().err
