"""A model repository for Triton: read by NVIDIA's own schema, and the same network in another form."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from model.export import export
from model.triton import Forward, main, write_repository
from streamer.errors import ArtifactError
from streamer.network.stager import Model
from streamer.network.trust import PACKAGED
from streamer.remote import stateless
from tests.model.tiny import TINY, network


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "tiny.pt"
    export(network(), TINY, "noise", path, onnx=False)
    return Model.load(path, runtime="torchscript", trusted=True)


def test_the_repository_holds_what_the_server_wants(model: Model, tmp_path: Path) -> None:
    home = write_repository(model, TINY, tmp_path / "models")
    config = model_config_pb2.ModelConfig()
    text_format.Parse((home / "config.pbtxt").read_text(encoding="utf-8"), config)
    assert config.name == home.name == f"sleepstream-{model.contract.weights_sha256[:12]}"
    assert config.platform == "pytorch_libtorch"
    memory = stateless.memory_shape(model)
    for found, kinds in (
        (config.input, stateless.inputs(memory)),
        (config.output, stateless.outputs(memory)),
    ):
        described = {
            one.name: (model_config_pb2.DataType.Name(one.data_type)[5:], tuple(one.dims)) for one in found
        }
        assert described == dict(kinds)
        # the backend finds a tensor by the number at the end of its name
        assert [one.name.rpartition("__")[2] for one in found] == [str(at) for at in range(len(found))]
    assert config.parameters["weights_sha256"].string_value == model.contract.weights_sha256


def test_what_it_runs_is_the_artifacts_network(model: Model, tmp_path: Path) -> None:
    home = write_repository(model, TINY, tmp_path / "models")
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        served = torch.jit.load(str(home / "1" / "model.pt")).eval()
    rng = np.random.default_rng(1)
    given = {
        stateless.RAW: rng.normal(0, 20, (5, 3000)).astype(np.float32),
        stateless.SPECTRUM: rng.normal(35, 10, (5, 29, 128)).astype(np.float32),
        stateless.PRESENT: np.ones((5, 2), bool),
        stateless.MEMORY_IN: rng.standard_normal((5, *stateless.memory_shape(model))).astype(np.float32),
        stateless.SEEN_IN: np.array([[0], [1], [2], [3], [3]]),
    }
    with torch.inference_mode():
        found = served(*(torch.from_numpy(tensor) for tensor in given.values()))
    for name, one in zip(stateless.outputs(()), found, strict=True):
        np.testing.assert_allclose(one, stateless.step(model, given)[name], rtol=0, atol=1e-5)


def test_a_network_that_does_otherwise_is_refused(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Twisted(Forward):
        def forward(self, raw, spectrum, present, memory, seen):  # type: ignore[no-untyped-def]
            return super().forward(raw, spectrum, ~present, memory, seen)

    monkeypatch.setattr("model.triton.torch.jit.script", lambda module: Twisted(module.network, "00" * 32))
    with pytest.raises(ArtifactError, match="logits__0 differs"):
        write_repository(model, TINY, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_the_command_writes_the_packaged_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = sha256(PACKAGED.read_bytes()).hexdigest()
    main([str(PACKAGED), str(tmp_path / "models"), "--sha256", digest])
    said = capsys.readouterr().out
    assert "tritonserver --model-repository" in said
    (home,) = (tmp_path / "models").iterdir()
    assert (home / "1" / "model.pt").stat().st_size > 1e6
    with pytest.raises(SystemExit):
        main([str(PACKAGED), str(tmp_path / "models"), "--sha256", "0" * 64])
