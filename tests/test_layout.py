"""The shape of the project: who may import whom, how long a file may be, what the wheel holds."""

import ast
import graphlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("streamer", "model", "tools")
FORBIDDEN = {"streamer": {"model", "tools", "tests"}, "model": {"tools", "tests"}, "tools": {"tests"}}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES
}


def _imported(nodes):
    """Modules, or names in them: `from a.b import c` is a.b.c."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _needs(module):
    """What of ours this module imports, wherever it does, and the packages that this runs on the way."""
    for name in _imported(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))):
        found = name if name in MODULES else name.rpartition(".")[0]
        while found in MODULES and not f"{module}.".startswith(f"{found}."):
            yield found
            found = found.rpartition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in _imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_no_two_modules_need_each_other():
    graph = {module: set(_needs(module)) for module in MODULES}
    assert "streamer.messages" in graph["streamer.pipeline"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_two_folders_of_the_engine_need_each_other():
    """The top apart: what lies there is used by all, and puts all together."""
    folders = {module: path.parent.relative_to(ROOT).parts[1:] for module, path in MODULES.items()}
    engine = {module for module in MODULES if module.startswith("streamer.") and folders[module]}
    arrows = {
        (folders[module], folders[needed])
        for module in engine
        for needed in set(_needs(module)) & engine
        if folders[module] != folders[needed]
    }
    assert [(one, other) for one, other in sorted(arrows) if (other, one) in arrows and one < other] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_named_after_its_folder(path):
    assert not path.stem.startswith(path.parent.name.removesuffix("s") + "_")
    assert path.stem != path.parent.name


def test_the_readme_names_every_part_of_the_engine():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## How it works")[1].split("\n## ")[0]
    parts = [path.name for path in sorted((ROOT / "streamer").glob("[!_]*.py"))]
    parts += [f"{path.name}/" for path in sorted((ROOT / "streamer").iterdir()) if any(path.glob("*.py"))]
    assert [part for part in parts if part not in tree] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_for_and_stays_small(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


# What changes the whole process, and who may. (torch has one number of threads for all.)
OF_THE_PROCESS = {
    "gc.freeze": {"streamer/commands/driving.py"},
    "gc.set_threshold": {"streamer/commands/driving.py"},
    "torch.set_num_threads": {"streamer/network/torch_loader.py"},
    "setLevel": {"streamer/cli.py"},
    "logging.basicConfig": {"streamer/cli.py"},
    "random.uniform": {"streamer/clock.py"},  # one way to wait ever longer
}


def test_what_changes_the_whole_process_stands_at_its_entry():
    engine = [path for path in SOURCES if path.is_relative_to(ROOT / "streamer")]
    text = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in engine}
    users = {name: {path for path in text if name in text[path]} for name in OF_THE_PROCESS}
    assert users == OF_THE_PROCESS


@pytest.mark.slow
def test_the_wheel_holds_the_engine_and_its_model_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"streamer", "sleepstream"}
    assert {
        "streamer/cli.py",
        "streamer/weights/default.pt",
        "streamer/weights/SHA256SUMS",
        "streamer/py.typed",
        "streamer/sources/figures.json",
        "streamer/web/static/page.js",
    } <= set(names)
    assert wheel.stat().st_size < 30e6
