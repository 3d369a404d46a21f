"""The JSONL sink: a line per epoch, at once; appends; a torn line damages no other."""

from __future__ import annotations

import json
import os
import resource
import signal

import pytest

from streamer.errors import SinkError
from streamer.payloads import to_json
from streamer.sinks.jsonl import JsonlSink
from tests.sinks.samples import epoch


def _lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_a_line_is_there_when_write_returns_and_a_second_run_appends(tmp_path):
    path = tmp_path / "new" / "folder" / "epochs.jsonl"
    with JsonlSink(path) as sink:
        sink.hear("anna", epoch(0))
        assert _lines(path) == [to_json(epoch(0))]
        sink.hear("anna", epoch(1))
    with JsonlSink(path) as sink:
        sink.hear("anna", epoch(2))
    assert [json.loads(line)["epoch"] for line in _lines(path)] == [0, 1, 2]


def test_a_line_torn_by_an_earlier_run_damages_no_other(tmp_path):
    path = tmp_path / "epochs.jsonl"
    path.write_text(to_json(epoch(0)) + "\n" + to_json(epoch(1))[:40])
    with JsonlSink(path) as sink:
        sink.hear("anna", epoch(2))
        sink.hear("anna", epoch(3))
    lines = _lines(path)
    assert [json.loads(lines[at])["epoch"] for at in (0, 2, 3)] == [0, 2, 3]
    assert len(lines) == 4


@pytest.mark.parametrize("where", ["a folder", "below a file", "a folder without permission"])
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path, where):
    path = tmp_path / "epochs.jsonl"
    if where == "a folder":
        path.mkdir()
    elif where == "below a file":
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "epochs.jsonl"
    else:
        path = path.parent / "closed" / "epochs.jsonl"
        path.parent.mkdir(mode=0o500)
        if os.geteuid() == 0:
            path = path.__class__("/proc/epochs.jsonl")  # root may write into any folder but this one
    with pytest.raises(SinkError, match=r"cannot open .*epochs\.jsonl") as caught:
        JsonlSink(path).open()
    assert "\n" not in str(caught.value)


@pytest.fixture
def small_disk():
    """No file may grow beyond 1000 bytes; the write that tries fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_that_the_sink_survives(tmp_path, small_disk):
    path = tmp_path / "epochs.jsonl"
    with JsonlSink(path) as sink:
        sink.hear("anna", epoch(0))
        small_disk(path.stat().st_size + 50)
        for seq in (1, 2):
            with pytest.raises(SinkError, match="make room"):
                sink.hear("anna", epoch(seq))
        small_disk(None)
        sink.hear("anna", epoch(3))
    lines = _lines(path)
    assert [json.loads(lines[at])["epoch"] for at in (0, 2, 3, 4)] == [0, 1, 2, 3], "none is left out"
    assert len(lines) == 5


def test_a_file_that_cannot_be_opened_yet_gets_all_once_it_can(tmp_path):
    path = tmp_path / "gone" / "epochs.jsonl"
    (tmp_path / "gone").write_text("a file where the folder should be")
    with JsonlSink(path) as sink:
        for seq in (0, 1):
            with pytest.raises(SinkError, match="cannot open"):
                sink.hear("anna", epoch(seq))
        (tmp_path / "gone").unlink()
        sink.hear("anna", epoch(2))
    assert [json.loads(line)["epoch"] for line in _lines(path)] == [0, 1, 2]


def test_an_epoch_that_is_committed_again_after_a_death_keeps_its_line(tmp_path):
    path = tmp_path / "epochs.jsonl"
    with JsonlSink(path) as sink:
        for number in range(3):
            sink.hear("anna", epoch(number))
    before = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"torn')
    with JsonlSink(path) as sink:
        sink.hear("anna", epoch(1))
        sink.hear("anna", epoch(2))
        assert path.read_bytes() == before + b'{"torn'
        sink.hear("anna", epoch(3))
    assert path.read_bytes().startswith(before)
    assert path.read_text().splitlines()[-1] == to_json(epoch(3))
