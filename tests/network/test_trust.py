"""A model file is run only if somebody outside of it says which one it has to be."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from streamer.errors import ArtifactError, SettingsError
from streamer.network.stager import Model
from streamer.network.trust import PACKAGED, SUMS, recorded
from streamer.settings import validate


def told(path, **how):
    with pytest.raises(ArtifactError) as caught:
        Model.load(path, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_packaged_model_is_the_recorded_one():
    """Fails when default.pt was replaced by hand: python -m model.export renews the record."""
    assert recorded(PACKAGED) == sha256(PACKAGED.read_bytes()).hexdigest()
    assert PACKAGED.with_name(SUMS).read_text() == f"{recorded(PACKAGED)}  {PACKAGED.name}\n"


@pytest.mark.parametrize("spoil", ["replaced", "unrecorded"])
def test_a_packaged_model_that_is_not_the_recorded_one_is_refused(tmp_path, spoil):
    """In a copy of the engine, whose package alone is on the path."""
    shutil.copytree(PACKAGED.parents[1], tmp_path / "streamer", ignore=shutil.ignore_patterns("__pycache__"))
    weights = tmp_path / "streamer" / "weights"
    if spoil == "replaced":
        with (weights / "default.pt").open("ab") as file:
            file.write(b"\0")
    else:
        (weights / SUMS).unlink()
    code = "from streamer.network.trust import read_trusted; read_trusted(None)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "install sleepstream again" in ran.stderr.splitlines()[-1]


def test_another_file_needs_a_digest_or_trust_and_the_error_says_what_to_write(tmp_path):
    path = Path(shutil.copy(PACKAGED, tmp_path / "mine.pt"))
    digest = recorded(PACKAGED)
    assert f'write sha256 = "{digest}" below [model]' in told(path)
    assert digest in told(path, sha256="0" * 64)
    assert "0" * 64 in told(path, sha256="0" * 64)
    loaded = Model.load(path, sha256=digest).contract
    assert loaded == Model.load(path, trusted=True).contract == Model.load().contract


@pytest.mark.train
def test_nothing_in_a_file_runs_before_its_digest_is_known(tmp_path, monkeypatch):
    path = Path(shutil.copy(PACKAGED, tmp_path / "mine.pt"))

    def load(*_args, **_more):
        raise AssertionError("loaded")

    monkeypatch.setattr("torch.jit.load", load)
    told(path)
    told(path, sha256="0" * 64)
    with pytest.raises(AssertionError, match="loaded"):
        Model.load(path, runtime="torchscript", trusted=True)


@pytest.mark.train
def test_what_was_checked_is_what_is_loaded(tmp_path, monkeypatch):
    """A file that is exchanged between the two reads nothing into the process."""
    path = Path(shutil.copy(PACKAGED, tmp_path / "mine.pt"))
    import torch

    real = torch.jit.load

    def load(source, **more):
        path.write_bytes(b"another")
        return real(source, **more)

    monkeypatch.setattr(torch.jit, "load", load)
    assert Model.load(path, runtime="torchscript", sha256=recorded(PACKAGED)).contract.size


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"path": "a.pt", "sha256": "abc"}, "model.sha256"),
        ({"path": "a.pt", "sha256": "0" * 64, "trusted": True}, "give only one of them"),
        ({"sha256": "0" * 64}, "path is missing"),
        ({"trusted": True}, "path is missing"),
    ],
)
def test_what_the_settings_may_say(table, word):
    data = {"stream": [{"source": {"kind": "simulated"}}]}
    assert not validate({**data, "model": {"path": "a.pt"}}, "x").model.trusted
    with pytest.raises(SettingsError, match=word):
        validate({**data, "model": table}, "x")
