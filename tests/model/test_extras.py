"""A command of the checkout that lacks a library says which extra brings it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from model.extras import EXTRAS

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {"sklearn": "scikit-learn"}  # where a package is not named as it is imported
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def started(folder, module, *missing):
    """What `python -m` says on stderr, and its exit code, where libraries are missing."""
    (folder / "sitecustomize.py").write_text(WITHOUT.format(names=set(missing)))
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("model.train", "torch", "train"),
        ("model.draw", "tqdm", "train"),
        ("model.export", "torch", "train"),
        ("tools.evaluate", "torch", "train"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path, module, missing, extra):
    code, said = started(tmp_path, module, missing)
    advice = f"run: pip install '.[{extra}]' in the checkout"
    assert (code, said) == (1, f"{module}: needs {missing}, which is not installed; {advice}\n")


def test_any_other_error_is_told_in_full(tmp_path):
    code, said = started(tmp_path, "tools.schemas", "pydantic")
    assert code == 1
    assert "Traceback" in said


@pytest.mark.parametrize(("library", "extra"), EXTRAS.items())
def test_the_extra_that_is_named_brings_the_library(library, extra):
    names = {re.split(r"[<>=\[; ]", one)[0] for one in PROJECT["optional-dependencies"][extra]}
    assert PACKAGES.get(library, library) in names
