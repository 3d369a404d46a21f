"""A smaller network repeats a larger one: it takes over what fits and comes closer with every step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.join import join
from model.lessons import BINS, Lesson, save
from model.slim import ask, main, smaller, stage_losses, token_losses
from streamer.errors import ArtifactError
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train

LARGE = replace(TINY, bins=BINS, bands_hz=(0.5, 4.0, 12.0, 30.0), views="spectrum", sequence_layers=2)


def large() -> Checkpoint:
    return Checkpoint(LARGE, network(LARGE), "a test", {})


@pytest.fixture
def lessons(tmp_path: Path) -> Path:
    (tmp_path / "lessons").mkdir()
    rng = np.random.default_rng(0)
    spectrum = (35 + 10 * rng.standard_normal((8, 12, 29, BINS))).astype(np.float32)
    nothing = np.zeros((8, 12, 4, 5), np.float32)
    lesson = Lesson(spectrum, nothing, nothing, np.zeros((8, 12, 2, 0), np.float32), np.arange(2))
    save(tmp_path / "lessons" / "lesson-0-00000.npz", lesson)
    return tmp_path / "lessons"


def test_it_begins_with_all_that_fits() -> None:
    whole = large()
    small = smaller(whole, 4, 1)
    before, after = whole.network.state_dict(), small.network.state_dict()
    shared = [name for name in after if not name.startswith("spectrum.")]
    assert {"mask", "joint.weight", "spectrum_layers.0.norm_self.weight"} <= set(shared)
    assert all(torch.equal(after[name], before[name]) for name in shared)
    assert not any("_layers.1." in name for name in after)
    assert sum(map(torch.numel, after.values())) < sum(map(torch.numel, before.values()))


def test_what_is_asked_is_what_the_larger_network_says(lessons: Path) -> None:
    whole = large().network
    known = ask([whole], sorted(lessons.iterdir()))
    with np.load(lessons / "lesson-0-00000.npz") as file:
        spectrum = torch.from_numpy(file["spectrum"].astype(np.float32))
    present = torch.ones(8, 12, 2, dtype=torch.bool)
    with torch.inference_mode():
        said = whole(torch.empty(8, 12, 0), spectrum, present)[:, :, 0].softmax(-1)
    torch.testing.assert_close(known.said.float(), said, atol=1e-3, rtol=0)


def test_several_are_repeated_as_their_mean(lessons: Path) -> None:
    both = [network(LARGE, seed) for seed in (0, 1)]
    paths = sorted(lessons.iterdir())
    one, other = (ask([each], paths) for each in both)
    mean = ask(both, paths)
    torch.testing.assert_close(mean.said.float(), (one.said + other.said).float() / 2, atol=1e-3, rtol=0)
    assert torch.equal(mean.tokens, one.tokens)  # it begins as the first
    assert not torch.equal(one.tokens, other.tokens)


def test_what_is_small_already_keeps_its_convolutions() -> None:
    narrow = replace(LARGE, frame_width=4)
    whole = Checkpoint(narrow, network(narrow), "a test", {})
    before, after = whole.network.state_dict(), smaller(whole, 4, 1).network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after)


@pytest.mark.slow
def test_each_phase_brings_it_closer(lessons: Path, tmp_path: Path) -> None:
    whole = large()
    save_checkpoint(tmp_path / "large.pt", whole)
    arguments = [str(tmp_path / "large.pt"), str(tmp_path / "small.pt"), "--lessons", str(lessons)]
    main([*arguments, "--frame-width", "4", "--steps", "60", "60"])
    small = load_checkpoint(tmp_path / "small.pt").network.eval()
    known = ask([whole.network], sorted(lessons.iterdir()))
    begun = smaller(whole, 4, 1).network.eval()

    def losses(one: torch.nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            tokens = next(token_losses(one, whole.network, known, np.random.default_rng(1)))
            return float(tokens), float(next(stage_losses(one, known, np.random.default_rng(1))))

    before, after = losses(begun), losses(small)
    assert after[0] < 0.8 * before[0]
    assert after[1] < 0.8 * before[1]


def test_it_streams_beside_a_network_with_more_layers() -> None:
    whole = large()
    pair = join([smaller(whole, 4, 1), whole], [0.5, 0.5]).eval()
    raw, spectrum, present = signal(7, 2)
    with torch.inference_mode():
        at_once = pair(raw, spectrum, present)[:, :, 0]
        state, steps = pair.initial_state(2), []
        for epoch in range(7):
            here = slice(epoch, epoch + 1)
            logits, state = pair.advance(raw[:, here], spectrum[:, here], present[:, here], state)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), at_once, atol=1e-5, rtol=0)


def test_another_kind_of_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = replace(TINY, views="raw")
    with pytest.raises(ArtifactError, match="reads the spectrum"):
        smaller(Checkpoint(blind, network(blind), "a test", {}), 4, 1)
    with pytest.raises(ArtifactError, match="at least 3 sequence layers"):
        smaller(large(), 4, 3)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nowhere.pt"), str(tmp_path / "out.pt"), "--lessons", str(tmp_path)])
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out.pt"), "--lessons", str(tmp_path)])
    assert "one network or more" in capsys.readouterr().err
