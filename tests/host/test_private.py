"""Health data is for its owner alone, whatever the umask; what was there before keeps its rights."""

import ast
import os
import re
import stat
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.clock import SystemClock
from streamer.host import private
from streamer.journal import Journal
from streamer.journal.file import connect
from streamer.sinks.jsonl import JsonlSink
from tests.journals import META, chunk, epoch
from tests.night import session, stages
from tests.test_layout import ROOT, SOURCES

UMASKS = 0o000, 0o777


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def everything_is_private(folder):
    found = list(folder.rglob("*"))
    assert found
    assert {oct(mode(path)) for path in found if path.is_file()} <= {"0o600"}
    assert {oct(mode(path)) for path in found if path.is_dir()} <= {"0o700"}


def test_a_session_with_all_that_lies_beside_it(tmp_path, umask):
    path = tmp_path / "of/anna/night.sqlite"
    private.make_folder(path.parent)
    with Journal.create(path, META, SystemClock()) as journal:
        journal.record(chunk(0, 10))
        journal.epoch(epoch(0))
        assert {found.name for found in path.parent.iterdir()} >= {
            f"night.sqlite{end}" for end in ("", "-wal", "-shm", ".lock")
        }
        everything_is_private(tmp_path)


def test_a_session_that_others_could_read_is_taken_back_when_it_goes_on(tmp_path):
    path = tmp_path / "night.sqlite"
    Journal.create(path, META, SystemClock()).close()
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).touch()
        path.with_name(path.name + end).chmod(0o644)
    connect(path).close()
    everything_is_private(tmp_path)


def test_reports_exports_and_lines(tmp_path, umask, capsys):
    night = session(tmp_path / "night.sqlite", stages("WW112233RR" * 2))
    out = tmp_path / "out"
    assert main(["report", str(night), "--out", str(out / "report")]) == 0
    for kind, name in (
        ("edf", "a.edf"),
        ("bids", "b"),
        ("csv", "c.csv"),
        ("json", "d.json"),
        ("npz", "e.npz"),
    ):
        assert main(["export", str(night), "--to", kind, "--out", str(out / name)]) == 0, capsys.readouterr()
    with JsonlSink(out / "lines/epochs.jsonl") as lines:
        lines.hear("anna", epoch(0))
    everything_is_private(out)


def test_what_was_there_keeps_its_rights(tmp_path):
    folder, lines = tmp_path / "shared", tmp_path / "shared/epochs.jsonl"
    folder.mkdir()
    lines.touch()
    folder.chmod(0o755)
    lines.chmod(0o640)
    private.make_folder(folder)
    with JsonlSink(lines) as sink:
        sink.hear("anna", epoch(0))
    assert (mode(folder), mode(lines)) == (0o755, 0o640)
    assert private.seen_by_others(folder)


def test_a_device_is_not_taken_from_everyone(tmp_path):
    before = mode(Path("/dev/null"))
    private.write(Path("/dev/null"), "to nobody")
    assert mode(Path("/dev/null")) == before


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OSError):
            private.make_folder(path)


MAKERS = {"mkdir", "makedirs", "write_text", "write_bytes", "touch", "mkfifo"}
MAKE_THEIR_OWN = {
    "host/private.py",
    "host/local.py",
    "network/trust.py",
    "host/standard.py",
}  # beside the model; /dev/null


def unguarded(path):
    """Calls that make a file or folder with the rights that the umask happens to leave."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [
            one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
        ]
        writes = name in ("open", "FileIO") and any(
            re.fullmatch(r"[rwaxb+]*[wax+][rwaxb+]*", m) for m in modes
        )
        guarded = any(word.arg == "opener" for word in node.keywords)
        if (
            name in MAKERS
            or (writes and not guarded)
            or ("O_CREAT" in ast.unparse(node) and name == "open" and not guarded)
        ):
            yield ast.unparse(node)


def test_nothing_in_the_engine_makes_files_past_this():
    sources = [path for path in SOURCES if path.is_relative_to(ROOT / "streamer")]
    found = {str(path.relative_to(ROOT / "streamer")): list(unguarded(path)) for path in sources}
    assert {path: calls for path, calls in found.items() if calls and path not in MAKE_THEIR_OWN} == {}
