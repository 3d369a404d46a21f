"""The texture's fit: it learns through the teacher, from nobody who is held out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.resynthesis import Measurements
from model.teacher import load_networks
from model.texture import Texture
from tests.tools.test_night_figures import table
from tools.fit_texture import begin, distance, draw_pieces, fit, main, peaked, textured, variation

pytestmark = pytest.mark.train

PEOPLE = ("SC4001E0", "SC4102E0", "SC4111E0")  # the first of them is held out
TEACHER = '''
"""Calls what varies from second to second wake, and what does not N3."""
import torch
from torch import nn

RATE_HZ = 60


class Network(nn.Module):
    def forward(self, x):
        seconds = x[:, :, 0].unflatten(-1, (30, 60)).square().mean(-1).clamp(min=1e-9).log()
        varies = 4 * (seconds.std(-1) - 0.5)
        return torch.stack([varies, 0 * varies, 0 * varies, -varies, 0 * varies], -1)


class Teacher:
    def __init__(self):
        self.networks = {"only": Network()}
'''


@pytest.fixture
def features(tmp_path: Path) -> Path:
    path = tmp_path / "features.npz"
    np.savez(path, **(table() | {"recording": np.repeat(PEOPLE, 60)}))
    return path


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.py"
    path.write_text(TEACHER)
    return path


def test_pieces_are_of_nobody_who_is_held_out(features: Path) -> None:
    pieces = draw_pieces(Measurements.load(features), 9, 12, 60, np.random.default_rng(0))
    assert sorted(one.recording for one in pieces) == ["SC4102E0", "SC4111E0"]
    assert all(one.bands.shape == (8, 12 * 1800) and len(one.stages) == 12 for one in pieces)


def test_it_gives_wake_what_the_teacher_looks_for(features: Path, teacher: Path) -> None:
    rng = np.random.default_rng(0)
    pieces = draw_pieces(Measurements.load(features), 2, 20, 60, rng)
    networks, rate_hz = load_networks(teacher)
    torch.manual_seed(0)
    texture = fit(pieces, networks, rate_hz, 12, rng, statistics=0.0, cuts=[(10, 2)])
    with torch.no_grad():
        logits = torch.cat([networks[0](textured(texture, one, rng)[None, :, None])[0] for one in pieces])
    stages = torch.cat([one.stages for one in pieces])
    untaught = begin(torch.cat([one.seen for one in pieces]))
    with torch.no_grad():
        before = torch.cat([networks[0](textured(untaught, one, rng)[None, :, None])[0] for one in pieces])
    losses = [torch.nn.functional.cross_entropy(one, stages).item() for one in (before, logits)]
    assert losses[1] < losses[0]


def test_what_is_saved_is_the_texture_that_nights_are_drawn_with(features: Path, tmp_path: Path) -> None:
    piece = draw_pieces(Measurements.load(features), 1, 20, 100, np.random.default_rng(1))[0]
    texture = begin(piece.seen).eval().requires_grad_(False)
    for name, one in texture.maps.items():
        one.weight.normal_(std=0.1 if name == "hidden" else 0.3)
    (tmp_path / "texture.json").write_text(json.dumps(texture.saved("a test")))
    loaded = Texture.load(tmp_path / "texture.json")
    ours, theirs = (textured(one, piece, np.random.default_rng(2)).ravel() for one in (texture, loaded))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999
    assert np.corrcoef(ours, piece.bands.sum(0))[0, 1] < 0.99


def test_statistics_are_near_where_bands_vary_as_they_do_in_real_eeg() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.standard_normal((40, 1800)).astype(np.float32))
    swell = torch.exp(0.6 * torch.sin(torch.arange(1800) / 60))
    spread, together = variation(noise, 60)
    _, swelling = variation(noise * swell, 60)
    assert spread.shape == together.shape == (40, 7)
    assert swelling.mean() > 0.3 + together.mean()
    wake = torch.zeros(40, dtype=torch.int64)
    assert distance(noise * swell, wake, 60) < distance(noise, wake, 60)


def test_the_kurtosis_of_an_epoch_is_the_excess_over_gaussian_noise() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3000)).astype(np.float32))
    assert peaked(noise).abs().max() < 0.3
    assert peaked(noise * torch.exp(torch.sin(torch.arange(3000) / 60))).min() > 0.5


def test_the_command_writes_a_texture_that_loads(features: Path, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "texture.json"
    few = ["--pieces", "1", "--epochs", "12", "--steps", "2"]
    assert main([str(features), "--teacher", str(teacher), "--out", str(out), *few]) == 0
    assert set(Texture.load(out).maps) == {"hidden", "slow", "fast", "own", "shape"}
    assert "tools.fit_texture" in json.loads(out.read_text())["source"]


def test_a_teacher_without_networks_is_refused(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.py"
    path.write_text("class Teacher: ...\n")
    assert main([str(features), "--teacher", str(path), "--out", str(tmp_path / "t.json")]) > 0
    assert "holds no RATE_HZ" in capsys.readouterr().err
