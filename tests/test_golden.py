"""A seeded night and the scores it had when the artifact was made: a change that moves them must be meant.

After a new artifact, renew them on purpose with `python -m tests.test_golden`.
"""

import json
from pathlib import Path

import pytest

from streamer.clock import SystemClock
from streamer.sources.settings import SimulatedSettings
from streamer.sources.simulated import SimulatedSource
from tests.paths import default_model, run, scores

GOLDEN = Path(__file__).parent / "golden" / "simulated.json"
TOLERANCE = 1e-3  # of a probability: processors and torch versions sum in different orders
NIGHT = SimulatedSettings(seed=7, hours=1.0, rate_hz=256, dropouts_per_hour=4, artefacts_per_hour=4)


def _scored():
    source = SimulatedSource(NIGHT, SystemClock())
    return {
        "weights_sha256": default_model().contract.weights_sha256,
        "epochs": [
            [score.stage, None if score.probabilities is None else [round(p, 5) for p in score.probabilities]]
            for score in scores(run(source.items(), NIGHT.rate_hz))
        ],
    }


@pytest.fixture(scope="module")
def pair():
    return json.loads(GOLDEN.read_text(encoding="utf-8")), _scored()


def test_the_golden_scores_belong_to_the_packaged_model(pair):
    golden, found = pair
    assert golden["weights_sha256"] == found["weights_sha256"]


def test_the_scores_are_those_of_the_day_the_artifact_was_made(pair):
    golden, found = pair
    assert [stage for stage, _ in found["epochs"]] == [stage for stage, _ in golden["epochs"]]
    for (_, now), (_, then) in zip(found["epochs"], golden["epochs"], strict=True):
        assert (now is None) == (then is None)
        if now is not None:
            assert now == pytest.approx(then, abs=TOLERANCE)


def test_the_golden_night_has_losses_and_several_stages(pair):
    golden, _ = pair
    assert len(golden["epochs"]) == 120
    assert "unscored" in {stage for stage, _ in golden["epochs"]}
    assert len({stage for stage, _ in golden["epochs"]}) >= 4


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(_scored(), indent=0) + "\n", encoding="utf-8")
