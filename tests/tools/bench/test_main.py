"""The benchmark's frame: which parts there are, and how repeats are summed up. No figure is asserted."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import UsageError
from tools.bench.__main__ import PARTS, main
from tools.bench.figures import median_of, missed
from tools.bench.peers import adapter

NEEDS_TORCH = {"growth"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.train] if name in NEEDS_TORCH else []) for name in PARTS]
)
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
    assert found["machine"]["cores"] >= 1
    assert "times_real_time" in capsys.readouterr().out


def test_a_peer_is_a_callable_or_a_command(tmp_path: Path) -> None:
    samples = np.zeros(6000, np.float32)
    assert adapter("numpy:ptp")(samples) >= 0
    kept = tmp_path / "kept.txt"
    code = f"import sys, numpy as np; open({str(kept)!r}, 'w').write(str(np.load(sys.argv[1]).shape))"
    assert adapter(f"{sys.executable} -c {shlex.quote(code)}")(samples) > 0
    assert kept.read_text() == "(6000,)"


@pytest.mark.parametrize("text", ["nowhere:stage", "math:stage", f"{sys.executable} -c exit(3)"])
def test_a_peer_that_is_not_there_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(UsageError, match=f"peer {re.escape(repr(text))}"):
        adapter(text)(np.zeros(6000, np.float32))
