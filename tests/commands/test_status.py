"""How it goes, told from the files: recording, silent, ended, died, damaged."""

import json
from dataclasses import replace

from streamer.cli import main
from streamer.commands.status import find_statuses
from streamer.journal import Journal
from streamer.messages import Gap
from tests.journals import META, HastyClock, chunk, epoch, event

NOW = 1_700_000_000.0


def made(folder, session, stream="anna", ended=True):
    journal = Journal.create(
        folder / f"{session}.sqlite", replace(META, session=session, stream=stream), HastyClock()
    )
    journal.record(chunk(0, 2560))
    journal.record(Gap(2560, 5120, "radio"))
    journal.epoch(epoch(0))
    journal.event(event(0).model_copy(update={"event": "warning", "text": "the disk is full"}))
    if ended:
        journal.event(event(1).model_copy(update={"event": "session_ended", "data": {"thinned": 12}}))
    return journal


def test_the_newest_session_of_each_stream_tells_how_it_goes(tmp_path):
    made(tmp_path, "20260101T000000Z-anna-aaaaaa").close()
    made(tmp_path, "20260102T000000Z-anna-aaaaaa").close()
    made(tmp_path, "20260102T000000Z-ben-aaaaaa", "ben", ended=False).close()
    with made(tmp_path, "20260102T000000Z-carl-aaaaaa", "carl", ended=False) as running:
        running.close  # noqa: B018
        found = {one.stream: one for one in find_statuses(tmp_path, NOW)}
        assert found["carl"].state in ("recording", "silent")
    assert {name: one.state for name, one in found.items() if name != "carl"} == {
        "anna": "ended",
        "ben": "died",
    }
    assert "12 provisional stages left out" in found["anna"].line()
    ben = found["ben"]
    assert ben.thinned == 0
    assert (ben.lost_s, ben.epochs, ben.stage, ben.undelivered) == (10.0, 1, "N2", 2)
    assert "the disk is full" in ben.line()
    assert "2 messages wait" in ben.line()


def test_a_damaged_newest_file_is_said(tmp_path):
    made(tmp_path, "20260101T000000Z-anna-aaaaaa").close()
    (tmp_path / "20260102T000000Z-anna-bbbbbb.sqlite").write_bytes(b"\xff" * 5000)
    first, second = find_statuses(tmp_path, NOW)
    assert (first.state, second.state) == ("damaged", "ended")
    assert "not" in first.line()


def test_the_command_says_by_its_code_whether_all_is_well(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text(f'session_dir = "{tmp_path}"\n[[stream]]\n[stream.source]\nkind = "lsl"\n')
    assert main(["status", str(config)]) == 0
    assert "no session" in capsys.readouterr().out
    made(tmp_path, "20260101T000000Z-anna-aaaaaa").close()
    assert main(["status", str(config)]) == 0
    assert "anna: ended" in capsys.readouterr().out
    made(tmp_path, "20260102T000000Z-anna-aaaaaa", ended=False).close()
    assert main(["status", str(config), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "died"


def test_a_folder_that_is_not_there_is_said(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text(f'session_dir = "{tmp_path}/gone"\n[[stream]]\n[stream.source]\nkind = "lsl"\n')
    assert main(["status", str(config), "--json"]) == 1
    said = capsys.readouterr().err
    assert "there is no folder" in said
    assert said.count("\n") == 1
