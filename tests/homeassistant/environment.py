"""The environment that Home Assistant runs in: made once in a folder, from a package index alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from streamer.errors import RunError

PROBE = """
import importlib.metadata, json, homeassistant, homeassistant.bootstrap as bootstrap
folder = homeassistant.__path__[0]
names = sorted(bootstrap.DEFAULT_INTEGRATIONS)
print(json.dumps([importlib.metadata.version("homeassistant"), folder, names]))
"""
WANTED = ("mqtt", "api", "input_boolean", "automation")  # besides what a core always starts
CONSTRAINTS = "package_constraints.txt"  # inside the package: the versions that it was released with


class Environment:
    """A virtual environment with one version of Home Assistant.

    Args:
        folder: of the environment; used again if it is there.
        python: that it is made with; default: the newest `python3.N` there is.

    """

    def __init__(self, folder: Path, python: str | None = None) -> None:
        self._folder = folder
        self._made_with = python or newest_python()
        self._python = folder / "bin" / "python"
        self.hass = folder / "bin" / "hass"

    def make(self, version: str | None = None) -> str:
        """Install Home Assistant unless it is there; its version.

        Args:
            version: default: the newest that this Python can have.

        Raises:
            RunError: something could not be installed, or it is too old to know our messages.

        """
        if not self._python.exists():
            _run([self._made_with, "-m", "venv", str(self._folder)])
            _run([str(self._python), "-m", "pip", "install", "--quiet", "uv"])
        if not self.hass.exists() or (version is not None and self._probe()[0] != version):
            self._install(version)
        found = self._probe()[0]
        if not new_enough(found):
            raise RunError(
                f"Home Assistant {found} is all that {self._made_with} can have, and it knows no device "
                "discovery (2024.11 does); give a newer Python with --python"
            )
        return found

    def _install(self, version: str | None) -> None:
        """First the package, for what it says of all others; then those."""
        asked = "homeassistant" if version is None else f"homeassistant=={version}"
        self._uv("--no-deps", "--prerelease=disallow", asked)
        found, folder, names = self._probe(alone=True)
        constraints = ["--constraint", str(folder / CONSTRAINTS)]
        self._uv(*constraints, f"homeassistant=={found}")
        _, folder, names = self._probe()
        self._uv(*constraints, *requirements(manifests(folder), [*names, *WANTED]))

    def _uv(self, *asked: str) -> None:
        uv = str(self._folder / "bin" / "uv")
        _run([uv, "pip", "install", "--quiet", "--python", str(self._python), *asked])

    def _probe(self, alone: bool = False) -> tuple[str, Path, list[str]]:
        """Version, folder, and the integrations that always start (`alone`: none yet)."""
        if alone:
            (folder,) = self._folder.glob("lib/python3*/site-packages/homeassistant")
            (about,) = folder.parent.glob("homeassistant-*.dist-info")
            return about.name.removeprefix("homeassistant-").removesuffix(".dist-info"), folder, []
        version, place, names = json.loads(_run([str(self._python), "-c", PROBE]))
        return version, Path(place), names


def newest_python(pyenv: Path | None = None) -> str:
    """The newest Python on the path or in pyenv: Home Assistant wants one of the last two or three.

    Args:
        pyenv: folder of its versions; default: where it puts them.

    """
    pyenv = Path.home() / ".pyenv" / "versions" if pyenv is None else pyenv
    for minor in range(20, 10, -1):
        name = f"python3.{minor}"
        on_path = shutil.which(name)
        found = [*([] if on_path is None else [on_path]), *map(str, sorted(pyenv.glob(f"*/bin/{name}")))]
        for python in found:
            if _works(python):
                return python
    return sys.executable


def _works(python: str) -> bool:
    """A name on the path may be one that a version manager has not switched on."""
    asked = [python, "-c", "import venv, ensurepip"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def new_enough(version: str) -> bool:
    """Whether a Home Assistant knows the discovery of devices, which came with 2024.11."""
    year, month = version.split(".")[:2]
    return (int(year), int(month)) >= (2024, 11)


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """What each integration says of itself, by name."""
    paths = folder.glob("components/*/manifest.json")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def requirements(said: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Packages that some integrations need, and all that these need in turn.

    Args:
        said: manifest of every integration, by name.
        names: of the integrations that are to run.

    """
    todo, seen, found = list(names), set[str](), set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in said:
            continue
        seen.add(name)
        found |= set(said[name].get("requirements", ()))
        todo += said[name].get("dependencies", ())
    return sorted(found)


def _run(command: list[str]) -> str:
    """Run to the end; its standard output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no word"]
        raise RunError(f"{' '.join(command[:5])} ... failed: {last[0]}")
    return done.stdout
