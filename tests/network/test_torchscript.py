"""TorchScript frozen and in fewer bits: the same probabilities, float32 outside, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from model.export import export, in_blocks, streamed
from streamer.errors import ArtifactError
from streamer.network.stager import Model, Session
from streamer.network.torchscript import TorchNetwork
from streamer.settings import Precision
from tests.model.tiny import TINY, network, signal
from tests.network.test_stager import windows

OFF = {"float32": 1e-5, "bfloat16": 0.02, "float16": 0.005}  # of a probability; bits of a number: 24, 8, 11


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    export(network(), TINY, "noise", path, onnx=False)
    return path


@pytest.fixture(scope="module", params=get_args(Precision))
def model(artifact: Path, request: pytest.FixtureRequest) -> Model:
    return Model.load(artifact, precision=request.param, trusted=True)


def off(model: Model) -> float:
    return OFF[model.network.precision]


@pytest.mark.parametrize("blockwise", [False, True])
def test_probabilities_are_the_eager_networks(model: Model, blockwise: bool) -> None:
    net, (raw, spectrum, present) = network(), signal(11)
    with torch.inference_mode():
        eager = torch.softmax(net(raw, spectrum, present)[0, :, 0], -1)
        if blockwise:
            found = in_blocks(model.network, raw, spectrum, present, 3)
        else:
            found = streamed(model.network, raw, spectrum, present)
    torch.testing.assert_close(found, eager, atol=off(model), rtol=0)


def test_fewer_bits_are_at_work(model: Model) -> None:
    net, (raw, spectrum, _) = network(), signal(2)
    with torch.inference_mode():
        worst = float(
            (model.network.encode(raw[0], spectrum[0]) - net.encode(raw[0], spectrum[0])).abs().max()
        )
    assert worst < 1e-5 if model.network.precision == "float32" else worst > 1e-5


def test_what_goes_in_and_comes_out_is_float32(model: Model) -> None:
    live, (raw, spectrum, present) = model.network, signal(2)
    with torch.inference_mode():
        state = live.initial_state(1)
        for epoch in range(2):
            tokens = live.encode(raw[:, epoch], spectrum[:, epoch])
            logits, state = live.step(tokens, present[:, epoch], state)
        related = live.relate(tokens[:, None], present[:, -1:], state)
        heads = live.classify(*related[:2])
        whole = live.forward(raw, spectrum, present)
    found = (tokens, logits, state.memory, *related, heads, whole)
    assert {one.dtype for one in found} == {torch.float32}
    assert state.seen.dtype == torch.int64


def test_sessions_run_in_any_precision(artifact: Path, model: Model) -> None:
    exact = Session(Model.load(artifact, trusted=True))
    ours = Session(model)
    for window in windows(6):
        expected = exact.score(window, window.epoch != 2).probabilities
        found = ours.score(window, window.epoch != 2).probabilities
        assert found == (expected and pytest.approx(expected, abs=off(model)))


def test_the_weights_are_still_there(model: Model) -> None:
    assert isinstance(model.network, TorchNetwork)
    assert model.network.scripted.state_dict().keys() == network().state_dict().keys()


def test_onnx_runtime_has_float32_only(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="precision 'float16': runtime onnx has float32 only; use torch"):
        Model.load(artifact, runtime="onnx", precision="float16", trusted=True)


def test_fewer_bits_are_torchs_business_unasked() -> None:
    assert isinstance(Model.load(precision="bfloat16").network, TorchNetwork)  # the packaged one has graphs
