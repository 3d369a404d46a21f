"""Steppers: what a stream remembers does not depend on what runs its network, nor on who is beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from streamer.network.stager import PRESENT, Model
from streamer.network.stepper import OnnxStepper, Stepper, TorchStepper

EPOCHS = 4  # more than one, so that the order of what is remembered counts


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load()


@pytest.fixture(params=["onnx", "torch"])
def stepper(model: Model, request: pytest.FixtureRequest) -> Stepper:
    if request.param == "onnx":
        return model.stepper
    return TorchStepper(model.network.scripted, model.device)


def epochs(seed: int, count: int = EPOCHS) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    made = [
        (rng.normal(0, 20, (1, 3000)).astype(np.float32), rng.normal(35, 10, (1, 29, 128)).astype(np.float32))
        for _ in range(count)
    ]
    made[1][0][:, 100:400] = made[1][1][:, :4] = np.nan
    return made


def run(stepper: Stepper, seed: int, past: Any = None) -> tuple[list[Any], Any]:
    """Logits of each epoch, the third of them lost, and the past after the last."""
    past, rows = past or stepper.start(), []
    for number, (raw, spectrum) in enumerate(epochs(seed)):
        logits, after = stepper.step(stepper.encode(raw, spectrum), PRESENT[number != 2], past)
        rows.append(logits)
        past = after()
    return rows, past


def test_the_packaged_model_is_run_by_onnx(model: Model) -> None:
    assert isinstance(model.stepper, OnnxStepper)


def test_both_runtimes_say_and_remember_the_same(model: Model) -> None:
    ours = model.stepper
    assert isinstance(ours, OnnxStepper)
    for network in (model.network.scripted, model.network):  # TorchScript; ONNX Runtime with tensors
        (rows, past), (others, state) = run(ours, 0), run(TorchStepper(network, model.device), 0)
        np.testing.assert_allclose(rows, others, atol=2e-5, rtol=0)
        handed_over = ours.past(state.memory.numpy(), state.seen.numpy())
        np.testing.assert_allclose(past.memory, handed_over.memory, atol=2e-5, rtol=0)
        assert past.seen.tolist() == handed_over.seen.tolist() == [EPOCHS]
        np.testing.assert_allclose(run(ours, 1, past)[0], run(ours, 1, handed_over)[0], atol=2e-5, rtol=0)


def test_a_step_leaves_the_past_as_it_is_until_it_is_asked_for(stepper: Stepper) -> None:
    _, past = run(stepper, 0)
    (raw, spectrum), *_ = epochs(1)
    tokens = stepper.encode(raw, spectrum)
    first, after = stepper.step(tokens, PRESENT[True], past)
    for _ in range(2):
        after()
        assert np.array_equal(stepper.step(tokens, PRESENT[True], past)[0], first)
    assert not np.array_equal(stepper.step(tokens, PRESENT[True], after())[0], first)


def test_streams_with_pasts_of_different_lengths_step_side_by_side(stepper: Stepper) -> None:
    pasts = [stepper.start(), run(stepper, 0)[1], run(stepper, 2, run(stepper, 1)[1])[1]]
    (raw, spectrum), *_ = epochs(3)
    alone = [stepper.step(stepper.encode(raw, spectrum), PRESENT[True], past)[0] for past in pasts]
    tokens = stepper.encode(np.repeat(raw, 3, 0), np.repeat(spectrum, 3, 0))
    logits, _ = stepper.step(tokens, np.ones((3, 2), np.bool_), stepper.joined(pasts))
    np.testing.assert_allclose(logits, np.concatenate(alone), atol=1e-5, rtol=0)
    assert np.abs(logits - logits[0]).max() > 1e-3  # their pasts are not the same, and count


def test_torch_is_not_asked_to_differentiate(model: Model) -> None:
    stepper = TorchStepper(model.network.scripted, model.device)
    assert stepper.start().memory.is_inference()
    assert run(stepper, 0)[1].memory.is_inference()
    assert not torch.is_inference_mode_enabled()
