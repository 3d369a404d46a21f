"""The README's promise: nothing leaves this machine, and no file lies where none was asked for."""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from streamer.host import private
from streamer.host.local import CACHES, SILENT
from tests.mosquitto import free_port
from tests.night import session, stages
from tests.paths import SHORT_NIGHT
from tests.test_cli import write_edf
from tests.test_layout import ROOT, SOURCES
from tests.traced import STRACE, traced

HERE = Path(sys.executable).parent
SLEEPSTREAM = HERE / "sleepstream"
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
COMMANDS = {
    "demo": f"demo --hours 0.02 --speed 100 --port {free_port()} --web-port {free_port()} --out out",
    "run": "run settings.toml --log text",
    "replay": "replay night.edf --out out",
    "report": "report night.sqlite --out out",
    "doctor": "doctor settings.toml",
    "score": "-m tools.score night.edf --out out --processes 1",
    "score over Ray": "-m tools.score night.edf --out out --processes 1 --ray local",
}


@pytest.fixture
def outside(tmp_path):
    """A home of its own for a traced program, and what is in it beforehand."""
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    (folder / "settings.toml").write_text(SHORT_NIGHT.format(port=free_port(), speed=100))
    with tempfile.TemporaryDirectory() as temporary:  # of a short name, for Ray's sockets lie in it
        (tmp_path / "temporary").symlink_to(temporary)
        yield folder


def environment(folder):
    """As on a machine where nobody has switched anything off."""
    asked = {
        "HOME": folder.parent / "home",
        "TMPDIR": (folder.parent / "temporary").resolve(),
        "PYTHONPATH": ROOT,
        "LSLAPICFG": os.environ["LSLAPICFG"],
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "0",
        "RAY_USAGE_STATS_ENABLED": "1",
    }
    unset = {name: "" for name in (*CACHES, "XDG_CACHE_HOME", "XDG_CONFIG_HOME") if name in os.environ}
    return {name: str(value) for name, value in (asked | unset).items()}


def elsewhere(paths, folder):
    """What was written that nobody asked for: devices, the kernel's files and compiled Python aside."""
    fine = (
        folder / "night",
        folder / "out",
        (folder.parent / "temporary").resolve(),
        Path("/dev"),
        Path("/proc"),
    )
    return {
        path
        for path in paths
        if not any(path.is_relative_to(place) for place in fine) and "__pycache__" not in path.parts
    }


@pytest.mark.slow
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
@pytest.mark.parametrize("name", COMMANDS)
def test_no_address_but_loopback_and_no_file_but_what_was_asked_for(name, outside):
    if "night.edf" in COMMANDS[name]:
        write_edf(outside / "night.edf", [np.random.default_rng(1).standard_normal(100 * 60 * 3) * 20])
    if name == "report":
        session(outside / "night.sqlite", stages("WW112233RR" * 4))
    program = sys.executable if COMMANDS[name].startswith("-m ") else SLEEPSTREAM
    done = traced([program, *COMMANDS[name].split()], outside, environment(outside))
    assert done.exit_code == 0 or name == "doctor", done.said
    assert done.addresses <= LOOPBACK
    assert elsewhere(done.written, outside) == set()
    made = [path for place in ("night", "out") for path in (outside / place).rglob("*")]
    assert [path for path in made if private.seen_by_others(path)] == []
    assert list((outside.parent / "home").rglob("*")) == []
    assert name == "doctor" or any(path.is_relative_to(outside) for path in done.written), "nothing was seen"


@pytest.mark.slow
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_the_trace_would_see_a_byte_sent_and_a_file_left(outside):
    telltale = (
        "import socket, pathlib; socket.socket(2, 2).connect(('192.0.2.1', 9));"
        "pathlib.Path.home().joinpath('id').write_text('me'); pathlib.Path('sub').mkdir()"
    )
    done = traced([sys.executable, "-c", telltale], outside, environment(outside))
    assert done.addresses == {"192.0.2.1"}
    assert elsewhere(done.written, outside) == {outside.parent / "home/id", outside / "sub"}


@pytest.mark.parametrize("package", ["streamer", "model", "tools"])
def test_every_library_is_silenced_before_anything_is_imported(package):
    """Whatever the environment says, and in every process: each imports one of these first."""
    names = ", ".join(f"os.environ[{name!r}]" for name in SILENT)
    code = f"import os, {package}; print([{names}] == {list(SILENT.values())})"
    told = {**os.environ, "ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=told, capture_output=True, text=True)
    assert ran.stdout.strip() == "True", ran.stderr


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_onnx_runtime_is_imported_in_one_place_which_switches_it_off():
    named = {str(path.relative_to(ROOT)) for path in SOURCES if "onnxruntime" in imports(path)}
    assert named == {"streamer/network/runtime.py"}
    below = [path for path in SOURCES if any(name.startswith("onnxruntime.") for name in imports(path))]
    first = {"streamer.network.onnx", "streamer.network.runtime"}
    assert all(first & set(imports(path)) for path in below)


def test_onnx_runtime_is_told_through_its_interface_too(monkeypatch):
    import importlib

    import onnxruntime

    from streamer.network import runtime

    told = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: told.append("off"))
    importlib.reload(runtime)
    assert told == ["off"]
