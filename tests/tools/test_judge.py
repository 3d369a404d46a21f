"""The judge: what a teacher says of drawn nights, and how bands vary within an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.resynthesis import Measurements
from tests.model.test_draw import TEACHER
from tests.tools.test_night_figures import table
from tools.judge import PAIRS, band_powers, choose_recordings, combine, judge_scorers, main, measure_variation

pytestmark = pytest.mark.train


def test_bands_that_rise_and_fall_together_are_found_together() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(20 * 3000)
    swell = np.exp(0.8 * np.sin(2 * np.pi * np.arange(noise.size) / 700))
    calm, swelling = (
        measure_variation(band_powers((10 * one).astype(np.float32))) for one in (noise, noise * swell)
    )
    pair = list(PAIRS).index("alpha-sigma")
    assert abs(calm[1][:, pair].mean()) < 0.15
    assert swelling[1][:, pair].mean() > 0.5
    assert (swelling[0].mean(0) > calm[0].mean(0)).all()


def test_two_opinions_are_one() -> None:
    sure, unsure = np.eye(5, dtype=np.float32), np.full((5, 5), 0.2, np.float32)
    assert combine(sure, unsure).argmax(1).tolist() == [0, 1, 2, 3, 4]


def test_who_agrees_with_the_experts_has_a_kappa_of_one() -> None:
    stages = np.array([0, 1, 2, 3, 4, 2], np.int8)
    signal = np.zeros(6 * 3000, np.float32)
    table = judge_scorers([(signal, stages)], {"oracle": lambda _: np.eye(5, dtype=np.float32)[stages]})
    assert "| oracle | 1.000 | 1.000 | 1.00 |" in table[2]


def test_the_command_prints_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = table() | {"recording": np.repeat(["SC4101E0", "SC4102E0", "SC4111E0"], 60)}
    np.savez(tmp_path / "features.npz", **columns)
    (tmp_path / "teacher.py").write_text(TEACHER.replace("SOME", "None"))
    arguments = [str(tmp_path / "features.npz"), "--teacher", str(tmp_path / "teacher.py"), "--nights", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "window 21" in printed
    assert "experts' stages" in printed


def test_people_who_are_held_out_are_judged_only_when_asked_for() -> None:
    names = ["SC4001E0", "SC4102E0", "SC4111E0"]
    measurements = Measurements(table() | {"recording": np.repeat(names, 60)})
    assert choose_recordings(measurements, 6) == names[1:]
    assert choose_recordings(measurements, 6, held_out=True) == names[:1]


def test_what_cannot_be_done_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["f.npz"], "nothing to do"),
        (["f.npz", "--real", "a.edf"], "give --teacher"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert message in capsys.readouterr().err
    assert main(["nowhere.npz", "--nights", "1"]) > 0
    assert "no such file" in capsys.readouterr().err
