"""What a command loads before it does anything: only what it needs, no native library that may be missing."""

import json
import subprocess
import sys

import pytest

from streamer.cli import COMMANDS
from streamer.doctor.checks import check_native
from streamer.errors import SourceError
from streamer.sources.board import load_brainflow
from streamer.sources.liblsl import load_pylsl

HEAVY = {
    *(
        "scipy",
        "onnxruntime",
        "rich",
        "amqtt",
        "matplotlib",
        "torch",
        "plotly",
        "edfio",
        "pyxdf",
        "websockets",
    ),
    *("pylsl", "brainflow", "pkg_resources"),
}
LOOK = """
import contextlib, io, json, sys
{before}
from streamer.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
    try:
        code = main(sys.argv[1:])
    except SystemExit as end:
        code = end.code
print(json.dumps([code, said.getvalue(), sorted({{name.split(".")[0] for name in sys.modules}})]))
"""
NO_LIBRARY = """
import ctypes, ctypes.util, os
os.environ.pop("PYLSL_LIB", None)
ctypes.util.find_library = lambda _name: None
class Missing:
    def __init__(self, name, *_, **__):
        if "lsl" in str(name) or "Board" in str(name):
            raise OSError(f"{name}: wrong ELF class")
        real(self, name)
real = ctypes.CDLL.__init__
ctypes.CDLL.__init__ = Missing.__init__
"""


def loads(*arguments, before=""):
    """The exit code of a command in a process of its own, what it said on stderr, and what it imported."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::ImportWarning",
            "-c",
            LOOK.format(before=before),
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    code, said, modules = json.loads(done.stdout)
    return code, said, set(modules)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["nonsense"]])
def test_the_first_look_loads_nothing(arguments):
    code, _, modules = loads(*arguments)
    assert code == (2 if arguments == ["nonsense"] else 0)
    assert modules & (HEAVY | {"numpy", "pydantic", "aiomqtt", "asyncio"}) == set()


def test_status_and_command_load_only_what_they_need(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(
        f'session_dir = "{tmp_path}"\n[mqtt]\nport = 1\n[[stream]]\nname = "anna"\n'
        '[stream.source]\nkind = "lsl"\ntype = "EEG"\n'
    )
    code, _, modules = loads("status", config)
    assert code == 0
    assert modules & HEAVY == set()
    code, said, modules = loads("command", "anna", "mark", "--config", config)
    assert code == 1
    assert "127.0.0.1:1" in said  # as far as the broker, which is away
    assert modules & HEAVY == set()


@pytest.mark.parametrize("light", ["streamer.errors", "streamer.clock", "streamer.host.printable"])
def test_small_modules_stay_light(light):
    code = f"import sys, {light}; print(sorted({{'numpy', 'pydantic'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_takes(name, capsys):
    from streamer.cli import main

    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: sleepstream {name}" in capsys.readouterr().out


def test_without_native_libraries_the_rest_works(tmp_path):
    """As on Linux on ARM, where neither pylsl's nor BrainFlow's wheel brings one."""
    config = tmp_path / "c.toml"
    config.write_text(
        f'session_dir = "{tmp_path}"\n[lsl]\n[[stream]]\n'
        '[stream.source]\nkind = "simulated"\nhours = 0.02\nspeed = "max"\n'
    )
    code, said, modules = loads("run", config, "--log", "text", before=NO_LIBRARY)
    assert (code, said) == (0, "")
    assert "brainflow" not in modules
    code, said, _ = loads("sources", before=NO_LIBRARY)
    assert code == 1
    assert said.startswith("sleepstream: LSL cannot be used")
    assert "liblsl" in said
    assert said.count("\n") == 1


def test_what_to_install_is_said():
    def missing(error):
        def load(name):
            raise error

        return load

    with pytest.raises(SourceError, match=r"install liblsl .* or set PYLSL_LIB"):
        load_pylsl(missing(RuntimeError("LSL binary library file was not found.\nPlease make sure ...")))
    with pytest.raises(SourceError, match="pip install pylsl"):
        load_pylsl(missing(ModuleNotFoundError("No module named 'pylsl'", name="pylsl")))
    with pytest.raises(SourceError, match="no library that loads on this computer"):
        load_brainflow(missing(OSError("libBoardController.so: wrong ELF class")))


def test_the_doctor_says_what_to_install_and_fails_only_where_it_is_needed():
    def load():
        return str(load_pylsl(lambda _name: (_ for _ in ()).throw(RuntimeError("no liblsl"))))

    idle, needed = check_native("LSL", load, wanted=False), check_native("LSL", load, wanted=True)
    assert (idle.status, needed.status) == ("warning", "failed")
    assert idle.found.startswith("LSL cannot be used: no liblsl (")
    assert "install liblsl" in needed.advice
    assert check_native("LSL", lambda: "loads", wanted=True).status == "ok"
