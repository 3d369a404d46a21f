"""What the test settings leave out: nothing that needs a GPU runs unasked, and it is said to be left out."""

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
