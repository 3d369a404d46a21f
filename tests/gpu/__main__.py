"""One command for a machine with a GPU: whether it says what a CPU says, and how fast.

    python -m tests.gpu --out gpu.json [--wheels DIR]

Takes about five minutes at most and fetches nothing; wheels are installed from a folder, before anything is
imported that may come with them. It runs `pytest -m gpu`, then the packaged network and the published size in
every precision, with and without CUDA graphs, 1 to 512 streams at once, then the parts passes, night and
streams of `tools.bench`. It writes one JSON, prints one table, and fails where a result is not the CPU's:
by more than 1e-4 of a probability in float32, or in more than .5 % of the stages in half as many bits. With
`--device cpu` it runs what a CPU can.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

SIZES = ("packaged", "small", "base")


def main(arguments: list[str] | None = None) -> int:
    """Install what is given, then measure; exit code 1 where something differs or fails."""
    asked = _parser().parse_args(arguments)
    if asked.wheels is not None and not installed(asked.wheels):
        return 1
    try:
        measure = import_module("tests.gpu.measure")
    except ModuleNotFoundError as error:
        print(f"tests.gpu: needs {error.name}; pip install -e '.[dev]', or give --wheels", file=sys.stderr)
        return 1
    code: int = measure.run(asked)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the figures (default: gpu.json)")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="install what lies there, and nothing else"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--hours", type=float, default=1.0, help="of the night that is compared (default: 1)")
    parser.add_argument("--most", type=int, default=512, help="streams in a pass (default: 512)")
    parser.add_argument("--streams", type=int, default=200, help="sleepers of the engine (default: 200)")
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=["packaged", "base"], help="of the network"
    )
    return parser


def installed(wheels: Path) -> bool:
    """Install what lies in a folder, and nothing from elsewhere; say why not."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        print(f"--wheels {wheels}: holds no wheels; put torch's there, and what it needs", file=sys.stderr)
        return False
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--find-links",
        str(wheels),
        *files,
    ]
    if subprocess.run(command, check=False).returncode:
        print(f"--wheels {wheels}: pip could not install them; see above", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
