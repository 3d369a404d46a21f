"""Lessons: the teacher is asked causally, about what the network will see, and its word is what is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data import Cut, PreparedNight, fold_of, load_nights, save_night
from model.lessons import (
    ALTERED,
    BINS,
    SAYING,
    Lesson,
    Lessons,
    learnable,
    lesson,
    main,
    networks_asked,
    save,
    source,
    told,
)
from model.mc2sleepnet import MC2SleepNet
from model.settings import Settings
from model.size import SIZES
from model.streamed import Reach, Streamed, standardised
from model.train import Run
from streamer.errors import RecordingError, UsageError
from streamer.window import FRAMES
from tests.model.teacher import TEACHER

pytestmark = pytest.mark.train


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.py"
    path.write_text(TEACHER)
    return path


def night(recording: str = "one", subject: str = "20", epochs: int = 70) -> PreparedNight:
    rng = np.random.default_rng(len(recording))
    samples = (10 * rng.standard_normal(epochs * 3000)).astype(np.float16)
    stages = np.repeat(np.arange(5), epochs // 5).astype(np.int8)
    return PreparedNight(recording, subject, samples, stages, np.full((epochs, 5), 0.2, np.float32))


def spectra(streamed: Streamed, epochs: int = 30) -> np.ndarray:
    samples = 10 * np.random.default_rng(0).standard_normal(epochs * 3000)
    return streamed.spectrum(samples)[None]


def test_the_teacher_sees_nothing_of_the_future(teacher: Path) -> None:
    streamed = Streamed.load(teacher)
    decibel = spectra(streamed)
    whole = streamed(decibel, [0, 1])
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)
    changed = decibel.copy()
    changed[:, 25 * 30 :] += 10
    np.testing.assert_allclose(streamed(changed, [0, 1])[:, :25], whole[:, :25], atol=1e-5)
    np.testing.assert_allclose(streamed(decibel[:, : 10 * 30], [0, 1]), whole[:, :10], atol=1e-5)


def test_the_teacher_looks_as_far_back_as_it_is_told(teacher: Path) -> None:
    near, far = (Streamed.load(teacher, Reach(window, 1e9)) for window in (5, 12))
    tokens = torch.zeros(1, 30, 1)
    tokens[:, 9] = 1.0
    for one, last in ((near, 13), (far, 20)):
        changed = (one.staged(0, tokens) != one.staged(0, 0 * tokens)).any(-1)[0]
        assert changed.nonzero().flatten().tolist() == list(range(9, last + 1))
    decibel = spectra(near)
    short = Streamed.load(teacher, Reach(5, 2.0))
    assert not np.allclose(short(decibel, [0]), near(decibel, [0]), atol=1e-3)


def test_gain_and_tilt_do_not_reach_the_teacher(teacher: Path) -> None:
    streamed = Streamed.load(teacher)
    decibel = spectra(streamed)
    tilted = decibel + np.linspace(-6, 6, decibel.shape[-1], dtype=np.float32)
    np.testing.assert_allclose(streamed(tilted, [0]), streamed(decibel, [0]), atol=1e-4)


def test_a_long_stretch_is_standardised_to_itself() -> None:
    epochs = torch.randn(1, 200, 28, 4, generator=torch.Generator().manual_seed(0)) * 3 + 40
    late = standardised(epochs, 40.0)[:, 150:]
    assert late.mean().abs() < 0.05
    assert 1.2 < late.std() < 1.4  # the usual spread is less, and counts for 30 epochs


def test_white_noise_is_as_strong_in_the_teachers_spectrum_as_said(teacher: Path) -> None:
    streamed = Streamed.load(teacher)
    columns = streamed.spectrum(np.random.default_rng(0).standard_normal(60 * 3000))[:, 5:50]
    assert np.sqrt((10 ** (columns / 10)).mean() / 2) == pytest.approx(streamed.noise_gain, rel=0.1)


def test_a_lesson_follows_from_its_dice(teacher: Path) -> None:
    streamed, cut = Streamed.load(teacher), Cut(20, 3, augmentation=ALTERED)
    nights = [source(night(), streamed, np.random.default_rng(0))]
    ours, said, hints, tokens, asked = lesson(nights, streamed, [], cut, np.random.default_rng(1))
    again, *_ = lesson(nights, streamed, [], cut, np.random.default_rng(1))
    np.testing.assert_array_equal(ours, again)
    assert ours.shape == (3, 20, FRAMES, BINS)
    assert said.shape == (3, 20, len(SAYING), 5)
    np.testing.assert_allclose(said[:, :, 0].sum(-1), 1, atol=1e-4)
    assert hints.shape == (3, 20, len(asked), 1)
    assert not said[:, :, SAYING.index("networks")].any()  # no networks were asked
    assert tokens.size == 0


def test_a_network_of_ours_is_asked_of_what_the_lesson_shows(teacher: Path) -> None:
    streamed, cut = Streamed.load(teacher), Cut(20, 3, augmentation=ALTERED)
    ours = MC2SleepNet(replace(SIZES["small"], views="spectrum")).eval()
    made = lesson(
        [source(night(), streamed, np.random.default_rng(0))], streamed, [ours], cut, np.random.default_rng(1)
    )
    said, tokens = told(ours, made.spectrum)
    np.testing.assert_array_equal(made.said[:, :, SAYING.index("networks")], said)
    np.testing.assert_array_equal(made.tokens, tokens)
    assert tokens.shape == (3, 20, 2, SIZES["small"].width)


def test_nobody_who_is_held_out_is_in_a_lesson() -> None:
    out = next(f"{one:02}" for one in range(80) if fold_of(f"{one:02}") == 0)
    assert [one.recording for one in learnable([night("in", "20"), night("out", out)], 0, 60)] == ["in"]
    with pytest.raises(RecordingError, match="none of 1 nights"):
        learnable([night("out", out)], 0, 60)


@pytest.fixture
def lessons(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    nights = tmp_path / "nights"
    nights.mkdir()
    save_night(nights / "in.npz", night("in", "20"))
    save_night(nights / "out.npz", night("out", "00"))
    arguments = [str(nights), str(tmp_path / "lessons"), "--teacher", str(teacher), "--count", "3"]
    main([*arguments, "--epochs", "50", "--window", "9", "--trailing", "80", "--noise-uv", "8"])
    return tmp_path / "lessons"


@pytest.mark.slow
def test_the_command_goes_on_and_a_run_learns_from_them(lessons: Path, teacher: Path, tmp_path: Path) -> None:
    made = {path.name: path.stat().st_mtime_ns for path in lessons.iterdir()}
    assert sorted(made) == [f"lesson-0-{number:05}.npz" for number in range(3)]
    main(
        [str(tmp_path / "nights"), str(lessons), "--teacher", str(teacher), "--epochs", "50", "--count", "4"]
    )
    assert {name: (lessons / name).stat().st_mtime_ns for name in made} == made
    batches = Lessons([lessons], (1, 0, 0, 0), Cut(sequences=8), (0,), 8)
    seen = [batches[number].spectrum for number in range(8)]
    assert seen[0].shape[:2] == (8, 50)
    assert all(torch.equal(batches[number].spectrum, one) for number, one in enumerate(seen))
    assert len({float(one.sum()) for one in seen}) == 4  # all before any comes again
    assert {float(one.sum()) for one in seen[:4]} == {float(one.sum()) for one in seen[4:]}
    settings = Settings.model_validate(
        {
            "nights": [tmp_path / "nights"],
            "lessons": [lessons],
            "lesson_shares": (0.5, 0, 0.5, 0),
            "out": tmp_path / "run",
            "trained_on": "a test",
            "waveform": False,
            "level_hz": (0.5, 8.0, 30.0),
            "bands_hz": (0.5, 4.0, 12.0, 30.0),
            "trailing_epochs": 10,
            "spectrum_layers": 0,
            "frame_width": 4,
            "context": 5,
            "validation_nights": 1,
            "teacher": teacher,
            "teacher_window": 9,
            "phases": [
                {"objective": "repeat", "steps": 2, "learning_rate": 1e-3, "sequences": 4},
                {"objective": "rehearse", "steps": 2, "learning_rate": 1e-3, "sequences": 3, "epochs": 30},
            ],
        }
    )
    (tmp_path / "run").mkdir()
    run = Run(settings, load_nights(settings.nights), torch.device("cpu"))
    before = run.network.spectrum.mix.weight.clone()
    run.train()
    assert (tmp_path / "run" / "best.pt").exists()
    assert not torch.equal(before, run.network.spectrum.mix.weight)


def test_every_network_of_the_teacher_has_a_map_however_late_it_is_asked(tmp_path: Path) -> None:
    nothing = np.zeros((8, 2, 1, 1), np.float32)
    for number in range(30):  # more than the examples of a run
        asked = np.array([0, 6 if number == 29 else 1])
        save(tmp_path / f"lesson-0-{number:05}.npz", Lesson(nothing, nothing, nothing, nothing, asked))
    assert networks_asked([tmp_path]) == 7


def test_whose_word_is_missing_is_not_learnt_from(lessons: Path) -> None:
    with np.load(lessons / "lesson-0-00000.npz") as file:
        kept, said = dict(file), file["said"].copy()
    said[:, :7, SAYING.index("soft")] = 0
    np.savez(lessons / "lesson-0-00000.npz", **{**kept, "said": said})
    for path in sorted(lessons.glob("*.npz"))[1:]:
        path.unlink()
    both, alone = (
        Lessons([lessons], shares, Cut(sequences=8), (0,), 1)[0]
        for shares in ((0.5, 0, 0.5, 0), (1, 0, 0, 0))
    )
    assert not both.target[:, :7].any()
    assert (both.target[:, 7:].sum(-1) > 0.9).all()
    assert (alone.target.sum(-1) > 0.9).all()


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecordingError, match=r"model\.lessons"):
        Lessons([tmp_path], (1, 0, 0, 0), Cut(sequences=8), (0,), 1)
    (tmp_path / "teacher.py").write_text("class Teacher: ...\n")
    with pytest.raises(UsageError, match="RATE_HZ"):
        Streamed.load(tmp_path / "teacher.py")
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path / "out"), "--teacher", str(tmp_path / "nowhere.py")])
    assert "no such Python file" in capsys.readouterr().err
