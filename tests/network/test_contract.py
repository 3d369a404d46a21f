"""The contract: refuses what this engine cannot feed, in one line that says why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from streamer.errors import ArtifactError
from streamer.network.contract import Contract, Shape, read_contract, weights_sha256


def contract() -> Contract:
    return Contract(
        size="tiny",
        parameters=10,
        context_epochs=4,
        warmup_epochs=2,
        state=Shape(memory=(1, 2, 2, 2, 2, 3, 4), features=5),
        temperature=1.0,
        trained_on="noise",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        versions={"torch": "2"},
        weights_sha256="0" * 64,
    )


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(contract().model_dump_json(by_alias=True)) | fields)


def test_round_trip() -> None:
    made = contract()
    assert read_contract(made.model_dump_json(by_alias=True), "x") == made
    assert '"schema":"sleepstream/model/2"' in made.model_dump_json(by_alias=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "contract.json"),
        ("[]", "contract.json"),
        (changed(schema="sleepstream/model/3"), "schema"),
        (changed(surprise=1), "surprise"),
        (changed(temperature=-1), "temperature"),
        (changed(weights_sha256="short"), "weights_sha256"),
        (changed(signal={"rate_hz": 128}), "rate_hz 128, this engine serves 100"),
        (changed(signal={"band_hz": [0.3, 30.0]}), "band_hz"),
        (changed(signal={"stages": ["W", "N1", "N2", "R", "N3"]}), "stages"),
        (changed(signal={"unit": "V"}), "unit"),
    ],
)
def test_what_does_not_fit_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_contract(text, "here.pt")
    assert reason in str(caught.value)
    assert "here.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.train
def test_digest_sees_every_change() -> None:
    import torch

    state = {"a": torch.arange(3.0), "b": torch.tensor(1)}
    digest = weights_sha256(state)
    assert digest == weights_sha256(dict(reversed(state.items())))
    others: list[dict[str, torch.Tensor]] = [
        state | {"a": torch.tensor([0.0, 1.0, 2.0000002])},
        state | {"a": torch.arange(3.0)[None]},
        {"a": state["a"], "c": state["b"]},
        state | {"b": torch.tensor(1, dtype=torch.int32)},
    ]
    assert digest not in [weights_sha256(other) for other in others]
