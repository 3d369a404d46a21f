"""Ways of running the network, side by side: what differs is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data import PreparedNight, save_night
from streamer.network.runner import Runner
from streamer.network.stager import Model
from tests.gpu.agreement import agreement, nights, probabilities

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def model(artifact: Path) -> Model:
    return Model.load(artifact, trusted=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs, of which the third was lost."""
    samples = np.random.default_rng(0).normal(0, 20, 12000).astype(np.float16)
    samples[6000:9000] = np.nan
    path = tmp_path_factory.mktemp("nights") / "night.npz"
    save_night(path, PreparedNight("night", "anna", samples, np.zeros(4, np.int8)))
    return path


class Surer:
    """A network that is surer of itself; or that says W for R, and the other way round."""

    def __init__(self, runner: Runner, twisted: bool) -> None:
        self._runner, self._twisted = runner, twisted
        self.start, self.order, self.together, self.block = (
            runner.start,
            runner.order,
            runner.together,
            runner.block,
        )

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
