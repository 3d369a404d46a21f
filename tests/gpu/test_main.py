"""The command for a GPU, as far as a CPU can run it: what differs is a failure, what is left out is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from streamer.network.runner import Runner
from tests.gpu import measure, passes
from tests.gpu.__main__ import installed, main
from tools.bench import night, streams

pytestmark = pytest.mark.train


def asked(out: Path, **changed: object) -> list[str]:
    options = {"device": "cpu", "hours": "0.05", "most": "2", "sizes": "packaged"} | changed
    return [
        "--out",
        str(out),
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (passes, night):
        monkeypatch.setattr(part, "measure", lambda _: {"us": 1.0})
    monkeypatch.setattr(streams, "point", lambda *_: {"p99_ms": 1.0})
    monkeypatch.setattr(measure, "LONGEST_S", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_on_a_cpu_all_agrees_but_what_needs_a_gpu_is_left_out(tmp_path: Path) -> None:
    assert main(asked(tmp_path / "gpu.json")) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["failures"] == []
    assert found["left_out"] == ["pytest -m gpu: needs a CUDA device"]
    assert set(found["packaged"]) == {"float32", "bfloat16", "float16"}
    assert found["packaged"]["float32"]["off"] < 1e-5
    assert found["packaged"]["float32"]["us_of_2"] > 0
    assert found["passes"] == found["night"] == {"us": 1.0}
    assert found["streams"] == {"p99_ms": 1.0}


class Wrong:
    """Another network's runner, so to say."""

    def __init__(self, runner: Runner) -> None:
        self.start, self.order, self.together, self.block, self._step = (
            runner.start,
            runner.order,
            runner.together,
            runner.block,
            runner.step,
        )

    def step(self, *given: object) -> object:
        logits, after = self._step(*given)
        return logits[:, ::-1], after  # W for R, N1 for N3


@pytest.mark.usefixtures("quick")
@pytest.mark.slow
def test_what_differs_from_a_cpu_fails_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, made = measure.TorchRunner, []

    def runner(*given: object) -> object:
        made.append(real(*given))
        return (
            made[-1] if len(made) == 4 else Wrong(made[-1])
        )  # the fourth is what the others are held against

    monkeypatch.setattr(measure, "TorchRunner", runner)
    assert main(asked(tmp_path / "gpu.json")) == 1
    failures = json.loads((tmp_path / "gpu.json").read_text())["failures"]
    assert any("packaged float32: off the CPU's by" in one for one in failures)
    assert any("packaged bfloat16" in one and "of the stages are not the CPU's" in one for one in failures)
    assert "FAILED" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path / "gpu.json")]) == 1
    (failure,) = json.loads((tmp_path / "gpu.json").read_text())["failures"]
    assert failure.startswith("--device cuda: torch finds no CUDA device here")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_after_five_minutes_the_rest_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BUDGET_S", 0.0)
    assert main(asked(tmp_path / "gpu.json")) == 0
    left_out = json.loads((tmp_path / "gpu.json").read_text())["left_out"]
    assert "packaged float32 from 1 streams on: the five minutes are over" in left_out
    assert "night: the five minutes are over" in left_out


def test_a_folder_without_wheels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*asked(tmp_path / "gpu.json"), "--wheels", str(tmp_path)]) == 1
    assert "holds no wheels" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


def test_a_wheel_that_pip_refuses_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "torch-9-py3-none-any.whl").write_bytes(b"no wheel")
    assert not installed(tmp_path)
    assert "pip could not install them" in capsys.readouterr().err


def test_the_table_has_a_column_for_every_batch() -> None:
    row = measure._row({"alike": 1.0, "off": 0.0, "us_of_1": 12.3})
    assert len(row) == 2 + len(measure.BATCHES)
    assert row[:4] == ("100.00%", "0e+00", "12", "-")
