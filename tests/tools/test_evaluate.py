"""Evaluation: figures worked out by hand, and the engine itself behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data import save_night
from streamer.messages import Score
from streamer.network.stager import Model
from tests.model.nights import night
from tools.evaluate import (
    Rows,
    changes_per_hour,
    compare,
    delays_s,
    from_prepared,
    main,
    stage_night,
    with_truth,
)

pytestmark = pytest.mark.train


def rows(truth: list[int], given: list[int]) -> Rows:
    probabilities = np.where(np.array(given)[:, None] < 0, np.nan, np.eye(5)[np.maximum(given, 0)])
    return Rows(probabilities, np.array(given), np.array(truth))


def score(end_s: int) -> Score:
    return Score(end_s * 100, None, "N2", "N2", (0.2,) * 5, warmup=False)


def test_windows_are_compared_with_the_stage_of_most_of_them() -> None:
    truth = np.array([0, 1, 2])
    scores = [score(end_s) for end_s in (30, 40, 50, 60, 80, 90, 120)]
    end_s, rows = with_truth(scores, truth)
    assert end_s.tolist() == [30, 40, 50, 60, 80, 90, 120]
    assert rows.truth.tolist() == [0, 0, 1, 1, 2, 2, -1]


def test_unscored_epochs_are_left_out_on_either_side() -> None:
    found = compare([rows([0, 0, -1, 2], [0, -1, 1, 2])])
    assert (found.epochs, found.accuracy) == (2, 1.0)


def test_changes_and_delays() -> None:
    assert changes_per_hour([np.array([0, 0, 1, 1] * 30)]) == pytest.approx(59)
    late = rows([0, 0, 0, 2, 2, 2, 2, 1, 2, 2], [0, 0, 0, 0, 0, 2, 2, 1, 2, 2])
    assert list(delays_s(late)) == [60.0]  # the single epoch of N1 is no stable stage
    assert list(delays_s(rows([0, 0, 0, 2, 2, 2], [0] * 6))) == [float("inf")]


def test_prepared_nights_through_the_packaged_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in (0, 20):
        save_night(tmp_path / f"{subject}.npz", night(subject, epochs=6))
    files = [str(tmp_path / "0.npz"), str(tmp_path / "20.npz")]
    assert main([*files, "--fold", "0", "--out", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (figures["recordings"], figures["pooled"]["epochs"]) == (1, 6)
    assert "| **all** | 6 |" in capsys.readouterr().out


def test_a_prepared_night_staged_in_blocks_is_staged_the_same() -> None:
    made = night(20, epochs=9)
    model = Model.load(trusted=True)
    one, blocks = (stage_night(from_prepared("a", made), model, block=size) for size in (1, 4))
    np.testing.assert_allclose(one.grid.probabilities, blocks.grid.probabilities, atol=1e-5)
    assert one.grid.probabilities.shape == (9, 5)


def test_a_prepared_epoch_that_lost_more_than_a_tenth_is_not_scored(tmp_path: Path) -> None:
    made = night(20, epochs=6)
    made.samples[3000 : 3000 + 290] = np.nan
    made.samples[9000 : 9000 + 310] = np.nan
    save_night(tmp_path / "a.npz", replace(made, subject="shhs1-200001"))
    assert main([str(tmp_path / "a.npz"), "--fold", "7", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["pooled"]["epochs"] == 5


def test_a_fold_without_its_subjects_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_night(tmp_path / "0.npz", night(0, epochs=4))
    assert main([str(tmp_path / "0.npz"), "--fold", "3", "--out", str(tmp_path)]) == 2
    assert "fold 3" in capsys.readouterr().err
