"""Runners: what a stream remembers does not depend on what runs its network, nor on who is beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.network.onnx import OnnxRunner
from streamer.network.runner import Given, Runner
from streamer.network.stager import Model, Session
from tests.network.windows import windows
from tests.paths import default_model

HERE = np.ones((1, 2), np.bool_)


@pytest.fixture(scope="module", params=["onnx", pytest.param("torchscript", marks=pytest.mark.train)])
def runner(request: pytest.FixtureRequest) -> Runner:
    return Model.load(runtime=request.param).runner


def epochs(count: int, seed: int = 0) -> Given:
    """A night with a lost epoch, a lost view and lost samples, the level drifting."""
    drawn = windows(count, seed)
    raw = np.stack([window.samples for window in drawn])
    spectrum = np.stack([window.spectrogram for window in drawn])
    spectrum += np.linspace(0, 8, count, dtype=np.float32)[:, None, None]
    raw[1, 100:300] = spectrum[1, :4] = np.nan
    present = np.ones((count, 2), np.bool_)
    present[2], present[3, 0] = False, False
    return Given(raw, spectrum, present)


def at(given: Given, number: int) -> Given:
    return Given(*(one[number : number + 1] for one in given))


def streamed(runner: Runner, given: Given, past: Any) -> tuple[np.ndarray, Any]:
    rows = []
    for number in range(len(given.raw)):
        logits, after = runner.step(at(given, number), past)
        past = after()
        rows.append(logits)
    return np.concatenate(rows), past


def test_blocks_say_what_single_epochs_say_and_leave_the_same_past(runner: Runner) -> None:
    given = epochs(13)
    expected, past = streamed(runner, given, runner.start())
    other, rows = runner.start(), []
    for begin, end in ((0, 4), (4, 5), (5, 13)):
        logits, other = runner.block(Given(*(one[begin:end] for one in given)), other)
        rows.append(logits)
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=1e-4, rtol=0)
    following = epochs(5, seed=1)
    np.testing.assert_allclose(
        streamed(runner, following, other)[0], streamed(runner, following, past)[0], atol=1e-4, rtol=0
    )


@pytest.mark.train
def test_all_runners_agree() -> None:
    given = epochs(9)
    found = [
        streamed(one, given, one.start())[0]
        for one in (Model.load(runtime="onnx").runner, Model.load(runtime="torchscript").runner)
    ]
    np.testing.assert_allclose(*found, atol=1e-4, rtol=0)


def test_a_step_leaves_the_past_as_it_is_until_it_is_asked_for(runner: Runner) -> None:
    given, past = epochs(5), runner.start()
    first, after = runner.step(at(given, 0), past)
    for number in (1, 3, 4):
        runner.step(at(given, number), past)
        assert np.array_equal(runner.step(at(given, 0), past)[0], first)
    assert not np.array_equal(runner.step(at(given, 0), after())[0], first)


def test_streams_with_pasts_of_different_lengths_step_side_by_side(runner: Runner) -> None:
    pasts = [streamed(runner, epochs(count, seed=count), runner.start())[1] for count in (4, 9, 6)]
    given = at(epochs(5, seed=7), 0)
    alone = [runner.step(given, past)[0] for past in pasts]
    together = Given(*(np.repeat(one, 3, 0) for one in given))
    logits, after = runner.together(together, pasts)
    np.testing.assert_allclose(logits, np.concatenate(alone), atol=1e-4, rtol=0)
    runner.together(together, pasts[::-1])  # what the pass before has left behind is its own
    following = epochs(5, seed=8)
    for at_place, past in enumerate(pasts):
        expected = streamed(runner, following, runner.step(given, past)[1]())[0]
        found = streamed(runner, following, after(at_place))[0]
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_the_packaged_model_runs_without_torch_on_a_cpu() -> None:
    assert isinstance(default_model().runner, OnnxRunner)


def test_a_session_stages_blocks_as_it_stages_epochs() -> None:
    one, many = Session(default_model()), Session(default_model())
    given = windows(14)
    usable = [number not in (3, 4) for number in range(14)]
    expected = [one.score(*pair) for pair in zip(given, usable, strict=True)]
    found = (
        many.score_block(given[:5], usable[:5])
        + many.score_block([], [])
        + many.score_block(given[5:], usable[5:])
    )
    for mine, other in zip(found, expected, strict=True):
        assert mine.warmup == other.warmup
        assert mine.probabilities == (other.probabilities and pytest.approx(other.probabilities, abs=1e-5))
    last = replace(windows(15)[14], epoch=None)
    assert many.score(last, True).probabilities == pytest.approx(
        one.score(last, True).probabilities, abs=1e-5
    )


def test_without_a_driver_nobody_asks_torch_for_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.network import stager

    def never(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(stager, "find_spec", never)
    assert stager.cuda_is_here([tmp_path / "nvidiactl"]) is False
