"""The stager: one stream's past is committed on the grid only, and a bad file never becomes a stage."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.export import export
from streamer.errors import ArtifactError
from streamer.network.stager import Model, Session
from tests.model.tiny import TINY, network
from tests.network.windows import windows

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def model(artifact: Path) -> Model:
    return Model.load(artifact, trusted=True)


def test_probabilities_and_warmup(model: Model) -> None:
    session = Session(model)
    scored = [session.score(window, True) for window in windows(6)]
    for probabilities, _ in scored:
        assert probabilities is not None
        assert len(probabilities) == 5
        assert sum(probabilities) == pytest.approx(1)
    needed = model.contract.warmup_epochs
    assert [warmup for _, warmup in scored] == [epoch + 1 < needed for epoch in range(6)]


def test_scoring_off_the_grid_does_not_disturb_the_committed_past(model: Model) -> None:
    quiet, hopping = Session(model), Session(model)
    for window, between in zip(windows(6), windows(6, seed=1), strict=True):
        hopping.score(replace(between, epoch=None), True)
        hopping.score(replace(between, epoch=None), False)
        assert quiet.score(window, True) == hopping.score(window, True)


def test_off_the_grid_the_past_counts(model: Model) -> None:
    fresh, session = Session(model), Session(model)
    for window in windows(3):
        session.score(window, True)
    last = replace(windows(4)[3], epoch=None)
    assert fresh.score(last, True)[0] != session.score(last, True)[0]


def test_a_lost_epoch_is_committed_as_the_mask(model: Model) -> None:
    first, second, third = windows(3)
    told, skipped, other = Session(model), Session(model), Session(model)
    for session in (told, skipped, other):
        session.score(first, True)
    assert told.score(second, False)[0] is None
    lost = replace(
        second, samples=np.full(3000, np.nan, np.float32), spectrogram=np.full((29, 128), np.nan, np.float32)
    )
    assert other.score(lost, False)[0] is None
    after = told.score(third, True)[0]
    assert after == other.score(third, True)[0]  # whatever the lost epoch held
    assert after != skipped.score(third, True)[0]  # and the clock went on


def test_holes_give_finite_probabilities(model: Model) -> None:
    window = windows(1)[0]
    window.samples[100:300] = np.nan
    window.spectrogram[:4] = np.nan
    probabilities, _ = Session(model).score(window, True)
    assert probabilities is not None
    assert np.isfinite(probabilities).all()


def test_reset_forgets(model: Model) -> None:
    session = Session(model)
    first = session.score(windows(1)[0], True)
    for window in windows(4):
        session.score(window, True)
    session.reset()
    assert session.score(windows(1)[0], True) == first


def test_sessions_share_weights_and_nothing_else(model: Model) -> None:
    """Also from threads at the same time: torch's inference mode is per thread."""
    expected = [Session(model).score(window, True) for window in windows(4)]
    found: dict[int, object] = {}

    def run(number: int) -> None:
        found[number] = Session(model).score(windows(4)[number], True)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == expected


def test_the_packaged_model_loads_and_stages() -> None:
    model = Model.load()
    probabilities, _ = Session(model).score(windows(1)[0], True)
    assert probabilities is not None
    assert set(model.contract.size.split(" + ")) <= {"small", "base"}


def refused(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        Model.load(path, trusted=True)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_missing_random_and_empty_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nowhere.pt")
    path = tmp_path / "noise.pt"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "not a model" in refused(path)
    path.write_bytes(b"")
    assert "not a model" in refused(path)
    assert "is it a file?" in refused(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file(artifact: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(artifact.read_bytes()[: int(artifact.stat().st_size * share)])
    assert "not a model" in refused(path)


def test_a_zip_that_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holiday.txt", "sun")
    assert "has no contract.json" in refused(path)


def test_a_contract_without_a_network(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "hollow.pt"
    rewrite(artifact, path, keep=lambda name: "/extra/" in name)
    assert "damaged" in refused(path)


def test_changed_weights(artifact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    export(network(seed=1), TINY, "noise", other, onnx=False)
    with zipfile.ZipFile(artifact) as archive:
        name = next(name for name in archive.namelist() if name.endswith("contract.json"))
        contract = archive.read(name)
    path = tmp_path / "forged.pt"
    rewrite(other, path, contract=contract)
    assert "sha256" in refused(path)


def test_damaged_weights(artifact: Path, tmp_path: Path) -> None:
    data = bytearray(artifact.read_bytes())
    with zipfile.ZipFile(artifact) as archive:
        info = max(archive.infolist(), key=lambda info: info.file_size if "/data/" in info.filename else 0)
    at = info.header_offset + 400
    data[at : at + 64] = bytes(byte ^ 0xFF for byte in data[at : at + 64])
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    refused(path)


def test_another_version(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "later.pt"
    rewrite(artifact, path, replace_in_contract=(b"sleepstream/model/2", b"sleepstream/model/3"))
    assert "'schema'" in refused(path)


def test_unknown_and_absent_devices(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="unknown; use auto, cpu or cuda"):
        Model.load(artifact, "abacus", trusted=True)
    if not torch.cuda.is_available():
        with pytest.raises(ArtifactError, match="no CUDA device"):
            Model.load(artifact, "cuda", trusted=True)


def rewrite(
    source: Path,
    target: Path,
    keep: Callable[[str], bool] = lambda name: True,
    contract: bytes | None = None,
    replace_in_contract: tuple[bytes, bytes] | None = None,
) -> None:
    """Copy an artifact's entries, some left out or changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in filter(keep, old.namelist()):
            data = old.read(name)
            if name.endswith("contract.json"):
                data = contract or data
                if replace_in_contract:
                    data = data.replace(*replace_in_contract)
            new.writestr(name, data)
