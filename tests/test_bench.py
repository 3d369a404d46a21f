"""The benchmark's frame: which parts there are, and how repeats are summed up. No figure is asserted."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from tools.bench.__main__ import PARTS, main
from tools.bench.figures import median_of, missed


@pytest.mark.parametrize("name", PARTS)
def test_every_part_can_be_measured(name: str) -> None:
    part = import_module(f"tools.bench.{name}")
    assert callable(part.measure)
    assert all(sign in ("<=", ">=") for sign, _ in getattr(part, "WANTED", {}).values())


def test_repeats_give_the_median_and_the_largest_maximum() -> None:
    runs = [{"a_ms": value, "a_max_ms": value, "name": "x"} for value in (1.0, 9.0, 2.0)]
    assert median_of(runs) == {"a_ms": 2.0, "a_max_ms": 9.0, "name": "x"}


def test_what_is_not_as_wanted_is_named() -> None:
    figures = {"fast": 1.0, "slow": 3.0, "nothing": float("nan")}
    wanted = {"fast": ("<=", 2.0), "slow": ("<=", 2.0), "nothing": ("<=", 2.0)}
    assert missed(figures, wanted) == ["slow", "nothing"]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "night,nap"])
    assert "no part 'nap'; there are" in capsys.readouterr().err


def test_a_part_runs_and_leaves_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--only", "night", "--hours", "0.05", "--repeats", "1", "--json", str(tmp_path / "figures.json")])
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["night"]["epochs"] == 6
    assert found["machine"]["torch_threads"] == 1
    assert "times_real_time" in capsys.readouterr().out
