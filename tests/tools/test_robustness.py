"""Robustness: every change does what it is named for, and the falls are counted on shared epochs."""

from __future__ import annotations

import json
from pathlib import Path

import edfio
import numpy as np
import pytest

from model.data import save_night
from streamer.network.stager import Model
from tests.model.nights import night
from tests.recording_files import eeg, signal, write_edf
from tools.evaluate import Rows, StagedNight, compare, from_prepared, stage_night
from tools.robustness import (
    CONDITIONS,
    HUM_UV,
    Change,
    compare_pairs,
    hum,
    lose,
    main,
    noise,
    resample,
    select_off_grid,
    tilt,
)

pytestmark = pytest.mark.train

RATE_HZ = 200.0
SECONDS = 600


def rms_at(samples: np.ndarray, hz: float, rate_hz: float = RATE_HZ) -> float:
    """R.m.s. within 1 Hz of a frequency."""
    power = 2 * np.abs(np.fft.rfft(samples)) ** 2 / samples.size**2
    near = np.abs(np.fft.rfftfreq(samples.size, 1 / rate_hz) - hz) <= 1
    return float(np.sqrt(power[near].sum()))


def after(change: Change, samples: np.ndarray, rate_hz: float = RATE_HZ) -> tuple[np.ndarray, float]:
    made = change(samples, rate_hz, np.random.default_rng(0))
    assert made is not None
    return made


def test_hum_is_where_it_is_said_to_be_and_only_where_the_rate_holds_it() -> None:
    silence = np.zeros(round(SECONDS * RATE_HZ))
    made, _ = after(hum(60), silence)
    assert rms_at(made, 60) == pytest.approx(HUM_UV * np.sqrt(1 + 0.5**2 / 2), rel=0.1)
    assert rms_at(made, 50) < 0.1
    assert hum(50)(silence, 100.0, np.random.default_rng(0)) is None


def test_noise_is_flat_up_to_35_hz_and_ends_there() -> None:
    made, _ = after(noise(5.0), np.zeros(round(SECONDS * RATE_HZ)))
    assert made.std() == pytest.approx(5, rel=0.02)
    assert rms_at(made, 10) == pytest.approx(rms_at(made, 30), rel=0.3)
    assert rms_at(made, 40) < 1e-9


def test_a_tilt_turns_about_6_hz_and_keeps_what_was_lost_lost() -> None:
    t = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    wave = sum(np.sqrt(2) * np.sin(2 * np.pi * hz * t) for hz in (3.0, 6.0, 12.0))
    made, _ = after(tilt(0.3), wave)
    assert [rms_at(made, hz) for hz in (3.0, 6.0, 12.0)] == pytest.approx([2**-0.3, 1, 2**0.3], rel=0.01)
    wave[500:600] = np.nan
    assert np.flatnonzero(np.isnan(after(tilt(-0.3), wave)[0])).tolist() == list(range(500, 600))


def test_a_tenth_of_the_epochs_is_lost_whole() -> None:
    made, _ = after(lose, np.ones(round(SECONDS * RATE_HZ)))
    gone = np.isnan(made).reshape(20, -1)
    assert (gone.all(1) == gone.any(1)).all()
    assert gone.any(1).sum() == 2


def test_another_rate_holds_the_same_signal() -> None:
    t = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    made, rate_hz = after(resample(64), np.where(t < 300, np.sin(2 * np.pi * 10 * t), np.nan))
    assert (rate_hz, made.size) == (64, 64 * SECONDS)
    assert np.isnan(made).mean() == 0.5
    there = np.arange(64 * 290) / 64
    np.testing.assert_allclose(made[64 : 64 * 290], np.sin(2 * np.pi * 10 * there)[64:], atol=0.01)
    assert resample(200)(t, RATE_HZ, np.random.default_rng(0)) is None


def rows(truth: list[int], given: list[int]) -> Rows:
    probabilities = np.where(np.array(given)[:, None] < 0, np.nan, np.eye(5)[np.maximum(given, 0)])
    return Rows(probabilities, np.array(given), np.array(truth))


def test_a_fall_is_counted_on_the_epochs_staged_in_both() -> None:
    before = rows([0, 1, 2, 3, -1], [0, 1, 2, 0, 0])
    found = compare_pairs([before], [rows([0, 1, 2], [0, 2, -1])])
    assert (found["epochs"], found["staged"]) == (2, 0.5)
    assert (found["accuracy"], found["fall"]["accuracy"]) == (0.5, 0.5)


def test_windows_of_a_longer_hop_are_those_of_every_second_that_it_makes() -> None:
    end_s = np.array([second for second in range(31, 150) if second % 30])
    ends = StagedNight("a", "1", grid=rows([0], [0]), off_grid=Rows(np.empty((end_s.size, 5)), end_s, end_s))
    for hop_s in (1, 5, 10):
        assert select_off_grid(ends, hop_s).truth.tolist() == [one for one in end_s if one % hop_s == 0]


@pytest.mark.slow
def test_recordings_and_prepared_nights_through_the_packaged_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = [edfio.EdfAnnotation(30 * k, 30, f"Sleep stage {'WRW2'[k % 4]}") for k in range(6)]
    recording = write_edf(tmp_path / "a.edf", [signal(eeg(180, 200), 200)], annotations=notes)
    save_night(tmp_path / "b.npz", night(20, epochs=6))
    assert main([str(recording), str(tmp_path / "b.npz"), "--out", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out" / "robustness.json").read_text())
    tried = {name: row["recordings"] for name, row in figures["conditions"].items()}
    expected = {one.name: 1 + one.behind for one in CONDITIONS if one.name != "from 200 Hz"}  # its own rate
    assert tried == expected
    assert figures["conditions"]["a tenth of the epochs lost"]["staged"] == pytest.approx(10 / 12)
    assert "| hum 60 Hz, 30 µV | 1 | 100% |" in capsys.readouterr().out
    assert main([str(tmp_path / "b.npz"), "--out", str(tmp_path / "alone")]) == 0
    alone = json.loads((tmp_path / "alone" / "robustness.json").read_text())
    same = stage_night(from_prepared("b", night(20, epochs=6)), Model.load(trusted=True), hop_s=5)
    assert alone["as_it_is"] == compare([same.grid]).as_dict()
    assert same.off_grid is not None
    assert alone["hops"]["5"]["kappa"] == pytest.approx(compare([same.off_grid]).kappa)
    assert alone["hops"]["5"]["epochs"] == same.off_grid.truth.size
    assert main([str(tmp_path / "b.npz"), "--no-hops", "--out", str(tmp_path / "fast")]) == 0
    assert json.loads((tmp_path / "fast" / "robustness.json").read_text()) == alone | {"hops": {}}


def test_a_recording_that_nobody_scored_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = write_edf(tmp_path / "a.edf", [signal(eeg(60, 200), 200)])
    assert main([str(recording), "--out", str(tmp_path / "out")]) != 0
    assert "give a scored recording" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
