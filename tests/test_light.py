"""Light beside the bed: no command needs torch, and what a night does not use it does not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.mosquitto import free_port
from tests.night import session, stages
from tests.paths import SHORT_NIGHT
from tests.test_cli import write_edf
from tests.test_layout import ROOT

HEAVY = (
    "torch",
    "matplotlib",
    "scipy.signal",
    "scipy.stats",
    "scipy.fft",
    "pylsl",
    "brainflow",
    "pyxdf",
    "ray",
)
# `import torch` fails, as where it is not installed; what was imported by the end is the last line.
CODE = f"""
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from {{module}} import main
code = main({{arguments}})
print([name for name in {HEAVY} if sys.modules.get(name)])
sys.exit(code)
"""
COMMANDS: dict[str, tuple[str, set[str]]] = {  # what each may import of the above
    "run settings.toml": ("streamer.cli", set()),
    "run settings.toml --log text": ("streamer.cli", set()),
    "replay night.edf --out out": ("streamer.cli", set()),
    "export night.sqlite --to json": ("streamer.cli", set()),
    "export night.sqlite --to edf": ("streamer.cli", set()),
    "status settings.toml": ("streamer.cli", set()),
    "report night.sqlite --out out": (
        "streamer.cli",
        {"matplotlib", "scipy.signal", "scipy.stats", "scipy.fft"},
    ),
    "doctor settings.toml": ("streamer.cli", {"pylsl", "brainflow"}),
    "night.edf --out out --processes 1": ("tools.score.__main__", set()),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_needs_torch_or_imports_what_it_does_not_use(command: str, tmp_path: Path) -> None:
    module, used = COMMANDS[command]
    (tmp_path / "settings.toml").write_text(SHORT_NIGHT.format(port=free_port(), speed='"max"'))
    (tmp_path / "night").mkdir(mode=0o700)
    if "night.edf" in command:
        write_edf(tmp_path / "night.edf", [np.random.default_rng(1).standard_normal(9500) * 20])
    if "night.sqlite" in command or "status" in command:
        session(tmp_path / "night.sqlite", stages("W122"))
    code = CODE.format(module=module, arguments=command.split())
    here = os.environ | {"PYTHONPATH": str(ROOT)}  # tools and model are not installed
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert set(eval(done.stdout.splitlines()[-1])) <= used
