"""What the test settings leave out: nothing runs on a GPU unasked, and with --no-skips nothing is skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("expression", "left_out"), [("", True), ("not slow", True), ("gpu", False)])
def test_what_needs_a_gpu_runs_only_by_its_name(expression: str, left_out: bool) -> None:
    path = Path(__file__).with_name("network") / "test_gpu.py"
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-m",
            expression,
            "-p",
            "no:cacheprovider",
            path,
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert ("deselected" in said, "::test_a_gpu_says" in said) == (left_out, not left_out)


SKIPS = """
import pytest
def test_by_itself():
    pytest.skip("of its own")
@pytest.mark.skip
def test_by_mark():
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_is_skipped_is_a_failure_if_asked_for(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_a.py").write_text(SKIPS)
    (tmp_path / "test_b.py").write_text("import pytest\npytest.skip('all of it', allow_module_level=True)")
    root = Path(__file__).parents[1]
    options = ["-c", root / "pyproject.toml", "--rootdir", tmp_path, "-p", "tests.conftest", "-n", processes]
    options += ["-p", "no:cacheprovider", "--continue-on-collection-errors", "--no-skips"]
    command = [sys.executable, "-m", "pytest", *options, tmp_path]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout
    assert " 1 failed, 2 errors in " in said.splitlines()[-1], said
