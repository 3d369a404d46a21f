"""Settings for every test: skips can be turned into failures, hypothesis is bounded and repeatable."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.lsl_alone import keep_apart
from tests.patience import be_patient

TORCH = find_spec("torch") is not None
WORKERS = 2  # test processes at the same time
ALL_TRAIN = re.compile(r"^pytestmark = .*pytest\.mark\.(train|gpu)", re.MULTILINE)

try:
    import torchaudio
except (ImportError, OSError):  # OSError: its wheel looks for CUDA libraries
    torchaudio = None

# One thread: with more, tiny networks wait for threads that a busy machine has put aside, minutes on end.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Test processes at the same time must not take each other's nodes and streams for theirs.
os.environ["SLEEPSTREAM_MACHINE"] = f"tests-{os.getpid()}"
APART = Path(tempfile.mkdtemp(prefix="sleepstream-tests-"))
keep_apart(APART)

settings.register_profile(
    "sleepstream",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sleepstream")


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """No test is about how fast this machine is."""
    be_patient()


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network as TorchScript alone; to be read, not changed."""
    from model.export import export  # where there is no torch, nobody asks for it
    from tests.model.tiny import TINY, network

    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    export(network(), TINY, "noise", path, onnx=False)
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that CI uses."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to leave out in silence what needs torch, where there is none."""
    if not TORCH and "not train" not in config.option.markexpr:
        raise pytest.UsageError(
            "torch is not installed: pip install -e '.[dev]', or leave out what needs it: -m 'not train'"
        )


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(APART, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes at a time; none beside this one for a single file, which would run in one anyway."""
    single = len(config.args) == 1 and Path(config.args[0].partition("::")[0]).is_file()
    return 0 if single else WORKERS


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without torch, leave files that are all about it unread: they import it at their top."""
    if TORCH or collection_path.suffix != ".py":
        return None
    return True if ALL_TRAIN.search(collection_path.read_text(encoding="utf-8")) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long; leave out what needs a GPU, unless `-m` names it.

    That is not done by `addopts`, which any other `-m` would undo.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)  # else one process would end with them alone
    if "gpu" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """With --no-skips, report a file that skips itself as a failure."""
    report = yield
    if report.skipped and collector.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips forbids: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With --no-skips, report a skip as a failure with its reason."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips forbids: {report.longrepr}"
    return report


def pytest_report_header() -> str:
    """Say which optional oracles take part."""
    return f"torchaudio as an oracle: {'no, it cannot be imported here' if torchaudio is None else 'yes'}"
