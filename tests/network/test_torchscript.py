"""TorchScript frozen and in fewer bits: the same probabilities, float32 outside, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from model.export import run
from streamer.errors import ArtifactError
from streamer.network.runner import Given
from streamer.network.stager import Model, Session
from streamer.network.torchscript import TorchNetwork, TorchRunner
from streamer.settings import Precision
from tests.model.tiny import network, signal
from tests.network.windows import windows

pytestmark = pytest.mark.train

OFF = {"float32": 1e-5, "bfloat16": 0.02, "float16": 0.005}  # of a probability; bits of a number: 24, 8, 11


@pytest.fixture(scope="module", params=get_args(Precision))
def model(artifact: Path, request: pytest.FixtureRequest) -> Model:
    return Model.load(artifact, precision=request.param, trusted=True)


def off(model: Model) -> float:
    return OFF[live(model).precision]


def live(model: Model) -> TorchNetwork:
    assert isinstance(model.runner, TorchRunner)
    assert isinstance(model.runner.network, TorchNetwork)
    return model.runner.network


@pytest.mark.parametrize("block", [1, 3])
def test_probabilities_are_the_eager_networks(model: Model, block: int) -> None:
    raw, spectrum, present = signal(11)
    with torch.inference_mode():
        eager = torch.softmax(network()(raw, spectrum, present)[0, :, 0], -1)
    found = run(model.runner, Given(raw[0].numpy(), spectrum[0].numpy(), present[0].numpy()), block)
    torch.testing.assert_close(found, eager, atol=off(model), rtol=0)


def test_fewer_bits_are_at_work(model: Model) -> None:
    given, net = signal(2), network()
    with torch.inference_mode():
        found, _ = live(model).advance(*given, net.initial_state(1))
        worst = float((found - net.advance(*given, net.initial_state(1))[0]).abs().max())
    assert worst < 1e-5 if live(model).precision == "float32" else worst > 1e-5


def test_what_goes_in_and_comes_out_is_float32(model: Model) -> None:
    with torch.inference_mode():
        logits, state = live(model).advance(*signal(2), live(model).initial_state(1))
        logits, state = live(model).advance(*signal(2), state)
    assert {one.dtype for one in (logits, *state._replace(seen=logits))} == {torch.float32}
    assert state.seen.dtype == torch.int64


def test_sessions_run_in_any_precision(artifact: Path, model: Model) -> None:
    exact = Session(Model.load(artifact, trusted=True))
    ours = Session(model)
    for window in windows(6):
        expected = exact.score(window, window.epoch != 2).probabilities
        found = ours.score(window, window.epoch != 2).probabilities
        assert found == (expected and pytest.approx(expected, abs=off(model)))


def test_onnx_runtime_has_float32_only(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="precision 'float16': runtime onnx has float32 only; use torch"):
        Model.load(artifact, runtime="onnx", precision="float16", trusted=True)


def test_fewer_bits_are_torchs_business_unasked() -> None:
    assert isinstance(Model.load(precision="bfloat16").runner, TorchRunner)  # the packaged one has graphs
