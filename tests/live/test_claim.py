"""One engine for a bed: the second is refused in one line that names the first, however it is started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from streamer.clock import SystemClock
from streamer.errors import TakenError
from streamer.live.claim import Claim
from streamer.live.engine import Engine
from streamer.settings import validate
from tests.fakes import Witness

HOLD = """
import sys, time
from pathlib import Path
from streamer.live.claim import Claim
with Claim(sys.argv[1] or None, Path(sys.argv[2]), sys.argv[3:]):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def holder(node, folder, *streams):
    """Another process that has it."""
    command = [sys.executable, "-c", HOLD, node, str(folder), *streams]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(*claim):
    with pytest.raises(TakenError) as caught, Claim(*claim):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_claim_is_made_anew_where_its_folder_was_deleted(tmp_path):
    folder = tmp_path / "s"
    with Claim(None, folder, ["anna"]) as claim:
        folder.rename(tmp_path / "away")
        claim.mend()
        assert not folder.exists()  # the journal makes it
        folder.mkdir()
        claim.mend()
        assert f"process {os.getpid()} (" in refusal(None, folder, ["anna"])
        claim.mend()
    assert list(folder.iterdir()) == []
    with Claim(None, folder, ["anna"]):
        pass


def test_who_records_where_a_folder_was_deleted_under_another_is_left_alone_and_told(tmp_path, caplog):
    folder = tmp_path / "s"
    with Claim(None, folder, ["anna"]) as claim:
        folder.rename(tmp_path / "away")
        with holder("", folder, "anna") as other:
            claim.mend()
            claim.mend()
            assert caplog.text.count(f"by another process too: by process {other.pid} (") == 1
        claim.mend()
        assert "process" in refusal(None, folder, ["anna"])


def test_the_first_process_is_named_until_it_dies_even_by_kill_9(tmp_path):
    link = tmp_path / "link"
    (tmp_path / "s").mkdir()
    link.symlink_to(tmp_path / "s")
    with holder("bedroom", tmp_path / "s", "anna") as first:
        assert f"process {first.pid} (" in refusal("bedroom", tmp_path / "elsewhere", ["ben"])
        assert f"process {first.pid} (" in refusal(None, tmp_path / "s", ["ben", "anna"])
        assert f"process {first.pid} (" in refusal("another", link, ["anna"])
        with Claim("another", link, ["ben"]), Claim("anothers", tmp_path / "elsewhere", ["anna"]):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with Claim("bedroom", link, ["anna"]):
            pass
    assert list((tmp_path / "s").iterdir()) == []


def test_a_refusal_gives_back_what_it_had(tmp_path):
    with Claim(None, tmp_path, ["b"]):
        refusal("bedroom", tmp_path, ["a", "b"])
        with Claim("bedroom", tmp_path, ["a"]):
            pass


def test_of_many_that_start_at_once_exactly_one_gets_it(tmp_path):
    script = HOLD.replace("time.sleep(600)", "sys.stdin.read()")
    command = [sys.executable, "-c", script, "bedroom", str(tmp_path), "anna"]
    racing = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    lost = [one for one in racing if one.stdout.readline() != "held\n"]
    said = [one.communicate()[1].strip().splitlines()[-1] for one in lost]
    (winner,) = [one for one in racing if one not in lost]
    winner.communicate()
    assert len(lost) == 3
    assert all(f"process {winner.pid}" in line for line in said)


def test_a_folder_that_cannot_be_written_is_no_reason_to_stay_away(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with Claim("bedroom", tmp_path / "file", ["anna"]):
        pass
    assert "cannot claim" in caplog.text


def test_its_lock_is_for_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        with Claim(None, tmp_path / "s", ["anna"]):
            assert (tmp_path / "s" / "anna.engine.lock").stat().st_mode & 0o777 == 0o600
            assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def settings(folder, **more):
    source = {"kind": "simulated", "hours": 0.05, "speed": 600}
    data = {"node": "n", "session_dir": str(folder), "stream": [{"name": "anna", "source": source}], **more}
    return validate(data, "test")


def test_an_engine_beside_another_is_refused_and_a_recording_is_not(tmp_path):
    async def run(ready, resume_s):
        return await Engine(ready, SystemClock(), Witness(), resume_s=resume_s).run()

    with Claim("n", tmp_path, ["anna"]):
        for ready in (settings(tmp_path), settings(tmp_path / "other")):
            with pytest.raises(TakenError):
                asyncio.run(run(ready, 1800.0))
        with pytest.raises(TakenError):  # it would take the other's name at the broker
            asyncio.run(run(settings(tmp_path, mqtt={"port": 9}), None))
        (outcome,) = asyncio.run(run(settings(tmp_path), None))
    assert outcome.error is None
