"""Export: what is written is what was trained, or nothing is written."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.export import export, main, run
from model.mc2sleepnet import MC2SleepNet, State
from model.size import BANDS_HZ, Size
from streamer.errors import ArtifactError
from streamer.network.artifact import GRAPHS
from streamer.network.runner import Given
from streamer.network.stager import Model
from streamer.network.trust import PACKAGED
from streamer.settings import ModelSettings
from tests.model.tiny import TINY, network, signal

pytestmark = pytest.mark.train


class Amnesiac(MC2SleepNet):
    """Forgets the night at every step, so that its streamed pass is not what was trained."""

    def advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        return super().advance(raw, spectrum, present, self.initial_state(1))[0], state


def test_scripted_equals_eager(tmp_path: Path) -> None:
    net, (raw, spectrum, present) = network(), signal(11)
    export(net, TINY, "noise", tmp_path / "tiny.pt", onnx=False)
    with torch.inference_mode():
        eager = torch.softmax(net(raw, spectrum, present)[0, :, 0], -1)
    model = Model.load(tmp_path / "tiny.pt", trusted=True)
    scripted = run(model.runner, Given(raw[0].numpy(), spectrum[0].numpy(), present[0].numpy()))
    torch.testing.assert_close(scripted, eager, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_no_artifact_says_where_the_code_lay(tmp_path: Path) -> None:
    export(network(), TINY, "noise", tmp_path / "tiny.pt")
    for path in (tmp_path / "tiny.pt", PACKAGED):
        with ZipFile(path) as found:
            files = {name: found.read(name) for name in found.namelist()}
        assert any(name.endswith(GRAPHS[0]) for name in files)
        assert [
            name for name, data in files.items() if b"graphs.py" in data or b"mc2sleepnet.py" in data
        ] == []
        assert [name for name in files if name.endswith(".debug_pkl")] == []


def test_refuses_a_network_whose_streamed_pass_differs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ArtifactError, match="eager streamed pass differs"):
        export(Amnesiac(TINY), TINY, "noise", tmp_path / "bad.pt", onnx=False)
    assert list(tmp_path.iterdir()) == []


class Crowded(MC2SleepNet):
    """Takes a few epochs otherwise than one or many."""

    def advance(self, raw: Tensor, spectrum: Tensor, present: Tensor, state: State) -> tuple[Tensor, State]:
        logits, after = super().advance(raw, spectrum, present, state)
        return logits * (1.0 + float(1 < raw.size(1) < 4)), after


def test_refuses_a_network_whose_blockwise_pass_differs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ArtifactError, match="eager blockwise pass differs"):
        export(Crowded(TINY), TINY, "noise", tmp_path / "bad.pt", onnx=False)


def test_refuses_a_network_that_has_diverged(tmp_path: Path) -> None:
    net = network()
    torch.nn.init.constant_(net.joint.weight, torch.nan)
    with pytest.raises(ArtifactError, match=r"NaN or infinity in joint\.weight"):
        export(net, TINY, "noise", tmp_path / "bad.pt", onnx=False)


def test_refuses_scales_that_were_fitted_on_losses(tmp_path: Path) -> None:
    """Such a network is blind, not broken: its probabilities are finite."""
    net = network()
    net.standard.centre_db.fill_(torch.nan)
    with pytest.raises(ArtifactError, match=r"NaN or infinity in standard\.centre_db"):
        export(net, TINY, "noise", tmp_path / "bad.pt", onnx=False)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_contract_that_tells_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = network()
    net.temperature.fill_(1.25)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(TINY, net, "noise", {}))
    main([str(tmp_path / "best.pt"), str(tmp_path / "out.pt"), "--no-onnx"])
    printed = capsys.readouterr().out
    wanted = ModelSettings.model_validate(tomllib.loads(printed.partition("\n\n")[2])["model"])
    contract = Model.load(**wanted.model_dump()).contract
    assert (contract.size, contract.context_epochs, contract.temperature) == ("tiny", 4, 1.25)
    assert contract.trained_on == "noise"
    assert str(contract.parameters) in printed
    assert not wanted.trusted


def test_the_record_beside_the_packaged_model_is_renewed(tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  default.pt\n{'1' * 64}  other.pt\n")
    save_checkpoint(tmp_path / "best.pt", Checkpoint(TINY, network(), "noise", {}))
    main([str(tmp_path / "best.pt"), str(tmp_path / "default.pt"), "--no-onnx"])
    digest = sha256((tmp_path / "default.pt").read_bytes()).hexdigest()
    assert sums.read_text() == f"{'1' * 64}  other.pt\n{digest}  default.pt\n"


def test_a_checkpoint_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "best.pt"), str(tmp_path / "out.pt")])
    assert capsys.readouterr().err.endswith("best.pt: no such file; train that run first\n")


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(ArtifactError, match="not made by"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_bidirectional_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = replace(TINY, causal=False)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(size, network(size), "noise", {}))
    with pytest.raises(SystemExit):
        main([str(tmp_path / "best.pt"), str(tmp_path / "out.pt")])
    assert "train with causal = true" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


SUMMARY = replace(
    TINY,
    channels=(),
    convolutions=(),
    spectrum_layers=0,
    level_hz=BANDS_HZ,
    bands_hz=(0.5, 1.0, 2.0, 4.0, 8.0, 11.0, 13.0, 16.0, 25.0, 30.0),
    trailing_epochs=9,
)


@pytest.mark.parametrize("frame_width", [0, 6])
def test_a_network_that_sums_up_its_frames_is_the_same_everywhere(tmp_path: Path, frame_width: int) -> None:
    size = replace(SUMMARY, frame_width=frame_width)
    contract = export(network(size), size, "noise", tmp_path / "out.pt", onnx=False)  # refuses what differs
    assert contract.context_epochs == SUMMARY.context


@pytest.mark.parametrize("size", [replace(TINY, views="raw"), replace(TINY, context=1)])
def test_other_causal_networks_can_be_exported(tmp_path: Path, size: Size) -> None:
    assert (
        export(network(size), size, "noise", tmp_path / "out.pt", onnx=False).context_epochs == size.context
    )


def test_a_checkpoint_from_before_there_were_views_is_causal_with_both(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", Checkpoint(TINY, network(), "noise", {}))
    saved = torch.load(tmp_path / "best.pt", weights_only=True)
    del saved["size"]["causal"], saved["size"]["views"]
    torch.save(saved, tmp_path / "old.pt")
    assert load_checkpoint(tmp_path / "old.pt").size == TINY
