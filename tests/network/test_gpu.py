"""On a CUDA device: what the CPU says, by CUDA graphs, in any precision (`pytest -m gpu`). Not run yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from streamer.network.cuda_graph import SIZES, GraphedNetwork
from streamer.network.stager import Model, Session, score_together
from tests.network.windows import windows

pytestmark = pytest.mark.gpu


def probabilities(model: Model, count: int = 40) -> np.ndarray:
    session = Session(model)
    scored = [session.score(window, window.epoch % 9 != 3) for window in windows(count)]
    return np.array([one.probabilities for one in scored if one.probabilities])


@pytest.mark.parametrize(("precision", "off"), [("float32", 1e-4), ("float16", 0.02), ("bfloat16", 0.1)])
def test_a_gpu_says_what_a_cpu_says(precision: str, off: float, caplog: pytest.LogCaptureFixture) -> None:
    model = Model.load(device="cuda", precision=precision)
    assert caplog.messages == []  # or graphs could not be had
    assert isinstance(model.runner.network, GraphedNetwork)
    np.testing.assert_allclose(
        probabilities(model), probabilities(Model.load(device="cpu")), rtol=0, atol=off
    )


@pytest.mark.parametrize("streams", [2, 3, 16, 31, SIZES[-1], SIZES[-1] + 3])
def test_streams_share_a_graph(streams: int) -> None:
    model = Model.load(device="cuda")
    sessions = [Session(model) for _ in range(streams)]
    for epoch in range(4):
        for number, session in enumerate(sessions):
            session.score(windows(4, seed=number)[epoch], True)
    drawn = [replace(windows(1, seed=99 + at)[0], epoch=None) for at in range(streams)]
    asked = [(session, window, True) for session, window in zip(sessions, drawn, strict=True)]
    together = [one.probabilities for one in score_together(asked)]
    alone = [session.score(*given).probabilities for session, *given in asked]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-4)


def test_replays_are_those_of_the_network_itself() -> None:
    network = Model.load(device="cuda").runner.network
    raw = torch.randn(5, 1, 3000, device="cuda") * 20
    spectrum = torch.randn(5, 1, 29, 128, device="cuda") * 10 + 35
    given = raw, spectrum, torch.ones(5, 1, 2, dtype=torch.bool, device="cuda"), network.initial_state(5)
    with torch.inference_mode():
        found, expected = network.advance(*given)[0], network.network.advance(*given)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
