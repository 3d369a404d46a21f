"""The runtimes: ONNX Runtime gives what TorchScript gives, and runs only what the contract names."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from model.export import export
from model.size import BANDS_HZ
from streamer.errors import ArtifactError
from streamer.network.artifact import GRAPHS
from streamer.network.onnx import OnnxRunner
from streamer.network.stager import Model, Session
from streamer.network.torchscript import TorchRunner
from tests.model.tiny import TINY, network
from tests.network.windows import windows

pytestmark = [pytest.mark.slow, pytest.mark.train]  # torch takes seconds to export a graph

SIZE = replace(TINY, bins=90, bands_hz=BANDS_HZ, trailing_epochs=4)  # with all that a stream remembers


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    export(network(SIZE), SIZE, "noise", path)
    return path


@pytest.fixture(scope="module")
def model(artifact: Path) -> Model:
    return Model.load(artifact, trusted=True)


def test_the_fastest_runtime_is_taken_unasked(model: Model) -> None:
    assert isinstance(model.runner, OnnxRunner)
    assert set(model.contract.graphs_sha256) == set(GRAPHS)


def test_both_runtimes_stage_alike(artifact: Path, model: Model) -> None:
    scripted = Model.load(artifact, runtime="torchscript", trusted=True)
    assert not isinstance(scripted.runner, OnnxRunner)
    ours, theirs = Session(model), Session(scripted)
    for window in windows(9):
        usable = window.epoch != 3
        mine, other = ours.score(window, usable), theirs.score(window, usable)
        assert mine.warmup == other.warmup
        assert mine.probabilities == (other.probabilities and pytest.approx(other.probabilities, abs=1e-5))


def test_off_the_grid_the_committed_past_stays_as_it_is(model: Model) -> None:
    quiet, hopping = Session(model), Session(model)
    for window, between in zip(windows(6), windows(6, seed=1), strict=True):
        hopping.score(replace(between, epoch=None), True)
        assert quiet.score(window, True) == hopping.score(window, True)


def test_a_graph_that_is_not_the_contracts_is_not_run(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "forged.pt"
    with zipfile.ZipFile(artifact) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + b" " * name.endswith("epoch.onnx"))
    with pytest.raises(ArtifactError, match="ONNX graphs are not those of its contract"):
        Model.load(path, trusted=True)


def test_an_artifact_with_graphs_of_a_former_form_is_run_by_torch(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "former.pt"
    with zipfile.ZipFile(artifact) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(
                name.replace("epoch.onnx", "hop.onnx"), old.read(name).replace(b"epoch.onnx", b"hop.onnx")
            )
    assert isinstance(Model.load(path, trusted=True).runner, TorchRunner)
    with pytest.raises(ArtifactError, match="export it again"):
        Model.load(path, runtime="onnx", trusted=True)


def test_asked_for_where_it_cannot_be_had(artifact: Path, tmp_path: Path) -> None:
    export(network(), TINY, "noise", tmp_path / "plain.pt", onnx=False)
    with pytest.raises(ArtifactError, match=r"has no ONNX graphs .* use runtime torchscript"):
        Model.load(tmp_path / "plain.pt", runtime="onnx", trusted=True)
    with pytest.raises(ArtifactError, match="serves the CPU, not cuda"):
        Model.load(artifact, "cuda", runtime="onnx", trusted=True)
