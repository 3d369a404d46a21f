"""Training nights are drawn behind the engine's own filter, the same ones for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import welch

from model.data import load_nights
from model.draw import draw_night, main
from model.resynthesis import FRONTAL, Measurements
from model.teacher import load_teacher
from streamer.errors import UsageError
from streamer.sources.synthesis import synthesise
from tests.tools.test_night_figures import NAMES, table

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def measurements() -> Measurements:
    return Measurements(table())


def test_a_night_belongs_to_its_seed(measurements: Measurements) -> None:
    first, again, other = (draw_night(measurements, NAMES[0], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)
    np.testing.assert_array_equal(first.stages, measurements.stages(NAMES[0]))
    assert first.soft is None


def test_at_one_place_its_events_may_be_its_own(measurements: Measurements) -> None:
    usual, own = (draw_night(measurements, NAMES[0], 0, at=FRONTAL, own_style=own) for own in (False, True))
    assert not np.array_equal(usual.samples, own.samples)
    powers = [np.square(one.samples.astype(np.float64)).mean() for one in (usual, own)]
    assert powers[0] == pytest.approx(powers[1], rel=0.2)  # what was measured stays


def test_it_lies_behind_the_engines_band_pass(measurements: Measurements) -> None:
    night = draw_night(measurements, NAMES[0], 0, at=FRONTAL)
    assert night.soft is None
    hz, power = welch(night.samples.astype(np.float64), 100, nperseg=1000)
    raw = np.concatenate(list(synthesise(measurements.measured(NAMES[0]), 0)))
    _, before = welch(raw.astype(np.float64), 100, nperseg=1000)
    share = power / before
    assert np.median(share[(hz > 2) & (hz < 15)]) == pytest.approx(1, abs=0.25)
    assert share[(hz > 0.05) & (hz < 0.15)].max() < 0.1
    assert share[hz > 48].max() < 0.1


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "features.npz", **table())
    out = tmp_path / "nights"
    main([str(tmp_path / "features.npz"), str(out), "--seed", "4"])
    nights = load_nights([out])
    assert [night.recording for night in nights] == sorted(NAMES)
    assert [night.subject for night in nights] == ["00", "01", "02"]
    main([str(tmp_path / "features.npz"), str(tmp_path / "fold"), "--fold", "9"])
    assert not list((tmp_path / "fold").iterdir())  # people 0 to 2 belong to fold 0
    monkeypatch.setattr("model.draw.draw_night", None)  # nothing is left to draw
    main([str(tmp_path / "features.npz"), str(out), "--seed", "4"])


TEACHER = """
import numpy as np
class Teacher:
    def probabilities(self, samples_uv, rate_hz=100, window=81):
        said = np.full((len(samples_uv) // 3000, 5), 0.1)
        said[:, 2] = 0.6
        return said[: SOME]
"""


def test_two_scorers_are_one_opinion(measurements: Measurements, tmp_path: Path) -> None:
    file = tmp_path / "teacher.py"
    file.write_text(TEACHER.replace("SOME", "None"))

    def other(samples: np.ndarray) -> np.ndarray:
        return np.full((len(samples) // 3000, 5), 0.2, np.float32)

    night = draw_night(measurements, NAMES[0], 0, [other, load_teacher(file)])
    assert night.soft is not None
    expected = np.sqrt(np.array([0.1, 0.1, 0.6, 0.1, 0.1]) * 0.2)
    np.testing.assert_allclose(night.soft, np.tile(expected / expected.sum(), (60, 1)), rtol=0.02)
    np.testing.assert_array_equal(night.samples, draw_night(measurements, NAMES[0], 0).samples)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such Python file"), ("x = 1", "no class Teacher"), (TEACHER.replace("SOME", "7"), "gave")],
)
def test_a_teacher_that_is_none_is_one_line(
    measurements: Measurements, tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "teacher.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=message):
        draw_night(measurements, NAMES[0], 0, [load_teacher(file)])
