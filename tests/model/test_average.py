"""The mean of a network's weights and of what further training made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.average import main, mean_of
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.export import export
from model.size import Size
from streamer.errors import ArtifactError, UsageError
from tests.model.tiny import TINY, network

pytestmark = pytest.mark.train

BEFORE = replace(TINY, trailing_epochs=5)
AFTER = replace(TINY, trailing_epochs=9)


def saved(size: Size = BEFORE, seed: int = 0) -> Checkpoint:
    return Checkpoint(size, network(size, seed), f"seed {seed}", {})


def test_every_weight_and_scale_is_the_mean_and_the_shape_is_the_last_ones() -> None:
    first, last = saved(), saved(AFTER, 1)
    last.network.temperature.fill_(2.0)
    mean = mean_of([first, last], [0.25, 0.75])
    assert mean.size == AFTER
    assert mean.trained_on == "seed 1"
    assert float(mean.network.temperature) == pytest.approx(1.75)
    one, other, found = (each.network.state_dict() for each in (first, last, mean))
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * one[name] + 0.75 * other[name])
        else:
            assert torch.equal(value, other[name])


def test_the_command_takes_an_artifact_and_a_checkpoint(tmp_path: Path) -> None:
    first, last = saved(TINY), saved(TINY, 1)
    export(first.network, TINY, "rhythms", tmp_path / "before.pt", onnx=False)
    save_checkpoint(tmp_path / "after.pt", last)
    main([str(tmp_path / name) for name in ("before.pt", "after.pt", "mean.pt")] + ["--shares", ".5", ".5"])
    found = load_checkpoint(tmp_path / "mean.pt").network.state_dict()
    wanted = mean_of([first, last], [0.5, 0.5]).network.state_dict()
    assert all(torch.equal(found[name], one) for name, one in wanted.items())


def test_what_has_no_mean_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArtifactError, match="of one shape"):
        mean_of([saved(), saved(replace(TINY, context=3))], [0.5, 0.5])
    for shares in ([1.0], [0.5, 0.6], [1.5, -0.5]):
        with pytest.raises(UsageError, match="1 in all"):
            mean_of([saved(), saved()], shares)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nowhere.pt"), str(tmp_path / "out.pt"), "--shares", "1"])
    assert "no such file" in capsys.readouterr().err
